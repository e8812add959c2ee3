package httpremote

import (
	"context"
	"errors"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// move moves refs. Where an answer got lost it looks where the refs are before it
// tries again: that they have moved from their old values to the new ones is what
// was wanted, whoever it was.
func (r *Remote) move(ctx context.Context, updates []refs.Update, cut []objects.ID) error {
	message := wire.EncodeUpdates(updates, cut)
	lost := false // an answer; the server may have done it, or do it still
	for a := r.attempts(); ; {
		err := r.doOnce(ctx, wire.Update, asBody(message))
		if err == nil {
			return nil
		}
		conflict := errors.As(err, new(*refs.ConflictError))
		if !conflict && !transient(err) || conflict && !lost {
			return err
		}
		lost = lost || mayBeDone(err)
		if lost {
			now, asked := r.where(ctx, updates)
			switch {
			case asked != nil:
				return fmt.Errorf("%w; and what became of it: %w", err, asked)
			case now == moved:
				return nil
			case now == elsewhere:
				// Nor may it be called a conflict: it may have been done before that.
				return fmt.Errorf("%v; %w, and the refs have moved since", err, remote.ErrUnsure)
			}
		}
		if conflict || ctx.Err() != nil {
			return err
		}
		if err := rest(ctx, a, err); err != nil {
			return err
		}
	}
}

// A place is where refs are that were to be moved.
type place int

const (
	unmoved   place = iota // all of them
	moved                  // all of them
	elsewhere              // some of them
)

// where looks where the refs are. One that was only to be as it is says nothing.
func (r *Remote) where(ctx context.Context, updates []refs.Update) (place, error) {
	all, err := r.refs(ctx, prefixOf(updates))
	if err != nil {
		return 0, err
	}
	is := map[refs.Name]objects.ID{}
	for _, ref := range all {
		is[ref.Name] = ref.ID
	}
	old, next := true, true
	for _, u := range updates {
		old = old && is[u.Name] == u.Old
		next = next && is[u.Name] == u.New
	}
	switch {
	case next:
		return moved, nil
	case old:
		return unmoved, nil
	}
	return elsewhere, nil
}

// prefixOf returns what all names begin with.
func prefixOf(updates []refs.Update) string {
	prefix := string(updates[0].Name)
	for _, u := range updates[1:] {
		n := 0
		for n < min(len(prefix), len(u.Name)) && prefix[n] == u.Name[n] {
			n++
		}
		prefix = prefix[:n]
	}
	return prefix
}
