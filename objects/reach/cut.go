package reach

import (
	"context"
	"errors"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
)

var errLacking = errors.New("something is missing")

// Cut returns those of commits whose parents are not all there, with all that they
// lead to: with o.Commits with all their history. Have are commits that are known to
// be there so.
func Cut(ctx context.Context, r objects.Reader, commits, have []objects.ID, o Options) ([]objects.ID, error) {
	o.CheckBlobs, o.Unplaced, o.Visit, o.Beside = true, true, nil, nil
	o.Missing = func(m Missing) error {
		if errors.Is(m, objects.ErrNotFound) {
			return errLacking
		}
		return m
	}
	var cut []objects.ID
	for _, id := range commits {
		lacking, err := lacksParents(ctx, r, id, have, o)
		if err != nil {
			return nil, err
		}
		if lacking {
			cut = append(cut, id)
		}
	}
	return cut, nil
}

func lacksParents(ctx context.Context, r objects.Reader, id objects.ID, have []objects.ID, o Options) (bool, error) {
	c, err := objects.ReadCommit(ctx, r, id)
	if err != nil {
		return false, fmt.Errorf("commit %s: %w", id.Short(), err)
	}
	// As a rule they are gone: that is found out without a walk.
	for _, p := range c.Parents {
		_, err := objects.ReadCommit(ctx, r, p)
		if errors.Is(err, objects.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	o.Seen = nil
	err = Since(ctx, r, c.Parents, have, o)
	if errors.Is(err, errLacking) {
		return true, nil
	}
	return false, err
}
