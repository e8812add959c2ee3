package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// Update moves refs. What they are moved to must be there with all that it leads
// to: objects.ErrNotFound says what is not.
func (r *Remote) Update(ctx context.Context, updates ...refs.Update) error {
	return r.UpdateCut(ctx, nil, updates...)
}

// Shallow returns the commits whose parents were cut off.
func (r *Remote) Shallow(ctx context.Context) ([]objects.ID, error) {
	shallow, err := r.cuts.Shallow()
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Keys(shallow), objects.ID.Compare), ctx.Err()
}

// UpdateCut is Update for one whose history ends at the commits cut. They are noted
// before the refs move; if these don't, a note is left that says nothing as long as
// no ref leads to the commit, and is looked at again when one does.
func (r *Remote) UpdateCut(ctx context.Context, cut []objects.ID, updates ...refs.Update) error {
	// From the look to the move nothing that was found may go, and nobody who collects
	// may take notes out.
	b, err := r.db.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return err
	}
	defer b.Close()
	ends, err := r.complete(ctx, cut, updates)
	if err != nil {
		return err
	}
	if len(ends.lacking)+len(ends.whole) > 0 {
		err := r.cuts.EditShallow(ctx, func(shallow map[objects.ID]bool) {
			for _, id := range ends.lacking {
				shallow[id] = true
			}
			for _, id := range ends.whole {
				delete(shallow, id)
			}
		})
		if err != nil {
			return err
		}
	}
	return r.refs.Apply(ctx, updates...)
}

// ends are the commits at which the history ends that refs newly lead to.
type ends struct {
	lacking []objects.ID // their parents are not here
	whole   []objects.ID // they are: it only seemed to end there
}

// complete looks whether all is there that the new values lead to and the old
// ones do not, up to the commits where history was cut off here, or there.
func (r *Remote) complete(ctx context.Context, cut []objects.ID, updates []refs.Update) (ends, error) {
	var tips, have []objects.ID
	for _, u := range updates {
		if err := u.Name.Check(); err != nil {
			return ends{}, err
		}
		if u.New.IsZero() || u.New == u.Old {
			continue
		}
		if err := r.fits(ctx, u); err != nil {
			return ends{}, err
		}
		tips = append(tips, u.New)
		// Only what a ref does lead to now is known to be complete.
		if now, err := r.refs.Get(ctx, u.Name); err == nil {
			have = append(have, now)
		}
	}
	if len(tips) == 0 {
		return ends{}, ctx.Err()
	}
	all, err := r.list(ctx, "refs/heads/")
	if err != nil {
		return ends{}, err
	}
	for _, ref := range all[:min(len(all), someTips)] {
		have = append(have, ref.ID)
	}
	shallow, err := r.cuts.Shallow()
	if err != nil {
		return ends{}, err
	}
	theirs := setOf(cut)
	o := reach.Options{
		CheckBlobs:   true,
		Shallow:      func(id objects.ID) bool { return shallow[id] || theirs[id] },
		ShallowThere: func(id objects.ID) bool { return shallow[id] },
	}
	var met []objects.ID
	o.Visit = func(id objects.ID, k objects.Kind) error {
		if k == objects.Commit && o.Shallow(id) {
			met = append(met, id)
		}
		return nil
	}
	if err := reach.Since(ctx, r.db, tips, have, o); err != nil || len(met) == 0 {
		return ends{}, err
	}
	return r.judge(ctx, met, o)
}

// judge tells at which of the commits that were met history ends. Those that some ref
// leads to already stay as they are.
func (r *Remote) judge(ctx context.Context, met []objects.ID, o reach.Options) (e ends, err error) {
	all, err := r.list(ctx, "refs/")
	if err != nil {
		return e, err
	}
	have := make([]objects.ID, len(all))
	for i, ref := range all {
		have[i] = ref.ID
	}
	fresh := map[objects.ID]bool{}
	err = reach.Since(ctx, r.db, met, have, reach.Options{
		Commits: true, Shallow: o.Shallow, ShallowThere: o.ShallowThere,
		Visit: func(id objects.ID, _ objects.Kind) error {
			fresh[id] = true
			return nil
		},
	})
	if err != nil {
		return e, err
	}
	met = slices.DeleteFunc(met, func(id objects.ID) bool { return !fresh[id] })
	// Here only the notes that are made count: a note at another commit of cut may not
	// come to be.
	if e.lacking, err = reach.Cut(ctx, r.db, met, have, reach.Options{Shallow: o.ShallowThere}); err != nil {
		return e, err
	}
	lacking := setOf(e.lacking)
	e.whole = slices.DeleteFunc(met, func(id objects.ID) bool { return lacking[id] })
	return e, nil
}

// someTips is how many branches a new commit is compared with. More make it no
// safer, only quicker where it comes from one of them.
const someTips = 32

// fits refuses to make a branch of what is no commit.
func (r *Remote) fits(ctx context.Context, u refs.Update) error {
	k, _, err := r.db.Stat(ctx, u.New)
	switch {
	case errors.Is(err, objects.ErrNotFound):
		return fmt.Errorf("%s: %s: %w", u.Name, u.New.Short(), objects.ErrNotFound)
	case err != nil:
		return err
	case u.Name.IsBranch() && k != objects.Commit:
		return fmt.Errorf("%s: %w: %s is a %s", u.Name, remote.ErrNotCommit, u.New.Short(), k)
	}
	return nil
}

func setOf(ids []objects.ID) map[objects.ID]bool {
	set := make(map[objects.ID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// noCuts are those of a repository that keeps no list of them.
type noCuts struct{}

func (noCuts) Shallow() (map[objects.ID]bool, error) { return nil, nil }

func (noCuts) EditShallow(_ context.Context, edit func(map[objects.ID]bool)) error {
	shallow := map[objects.ID]bool{}
	if edit(shallow); len(shallow) > 0 {
		return errors.New("history can't be cut off here")
	}
	return nil
}
