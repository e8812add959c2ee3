package repo

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"syscall"
	"time"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/repo/action"
)

// UsesRemembered is for how many days a gc remembers uses.
const UsesRemembered = 400

// Uses returns when entries were used last: by the file for that, and the log of runs.
func (r *Repo) Uses() (uses.Table, error) {
	table, err := uses.Load(r.Dir)
	if err != nil {
		return nil, err
	}
	runs, err := action.Log(r.Dir)
	for _, ran := range runs {
		ran.NoteUses(table)
	}
	return table, err
}

// NoteUse notes that the entries at paths were used. It costs one write, and fails
// nobody: a repository that one may only read remembers nothing.
func (r *Repo) NoteUse(paths ...string) {
	err := uses.Note(r.Dir, uses.Today(time.Now()), paths...)
	if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		r.warn(err)
	}
}

// maxUses is how big the file with uses may be for others to add to it.
const maxUses = 64 << 20

// NoteUses notes what another repository knows of uses, as far as that is news, and
// can be.
func (r *Repo) NoteUses(ctx context.Context, t uses.Table) error {
	if fi, err := os.Stat(r.path("uses")); err == nil && fi.Size() > maxUses {
		return nil
	}
	known, err := uses.Load(r.Dir)
	if err != nil {
		return err
	}
	t = t.Until(uses.Tomorrow(time.Now()))
	maps.DeleteFunc(t, func(h uint64, day int32) bool {
		old, ok := known[h]
		return ok && old >= day
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	return uses.Append(r.Dir, t)
}
