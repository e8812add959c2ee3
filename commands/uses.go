package commands

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// usesPatience is how long a push waits for that uses are noted: they are not worth more.
const usesPatience = 10 * time.Second

// tellUses tells the remote which entries were used since it was told last: after a push
// that moved something, otherwise once a day. What goes wrong is no error of the push;
// the next one tells.
func (x *exchange) tellUses(ctx context.Context, list []movedRef) {
	noter, ok := x.Remote.(remote.UseNoter)
	if !ok {
		return
	}
	name := remoteID(x.m)
	moved := slices.ContainsFunc(list, func(m movedRef) bool { return m.Status != refUpToDate && m.Status != refPulled })
	if !moved && uses.SentOn(x.r.Dir, name) == uses.Today(time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, usesPatience)
	defer cancel()
	if err := tellUses(ctx, x.r, noter, name); err != nil && !errors.Is(err, context.Canceled) {
		x.s.detail("%s was not told which entries were used: %v", x.m, err)
	}
}

func tellUses(ctx context.Context, r *repo.Repo, noter remote.UseNoter, name string) error {
	all, err := r.Uses()
	if err != nil {
		return err
	}
	tomorrow := uses.Tomorrow(time.Now())
	unsent, err := uses.Unsent(r.Dir, name, all, tomorrow)
	if err != nil {
		return err
	}
	if len(unsent) > 0 {
		if err := noter.NoteUses(ctx, unsent.Newest(remote.MaxUses)); err != nil {
			return err
		}
	}
	return uses.NoteSent(r.Dir, name, unsent, tomorrow)
}

// remoteID stands for a remote in names of files.
func remoteID(m remoteStore) string { return objects.Sum(objects.Blob, []byte(m.url)).Short() }
