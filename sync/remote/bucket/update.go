package bucket

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// Update moves refs, all of them in one swap of the root, or none.
func (r *Remote) Update(ctx context.Context, updates ...refs.Update) error {
	return r.UpdateCut(ctx, nil, updates...)
}

// UpdateCut is Update for one whose history ends at the commits cut. What is noted of
// them is in the same root as the refs.
func (r *Remote) UpdateCut(ctx context.Context, cut []objects.ID, updates ...refs.Update) error {
	if err := check(updates); err != nil {
		return err
	}
	if len(cut) > 0 { // they are looked up
		if err := r.enterHeld(ctx); err != nil {
			return err
		}
	}
	select {
	case r.swapping <- struct{}{}:
		defer func() { <-r.swapping }()
	case <-ctx.Done():
		return ctx.Err()
	}
	e, history := entrance{r: r, batch: r.take()}, past{r: r}
	err := r.change(ctx, func(v *view, s *State) (bool, error) {
		if err := r.mayUpdate(ctx, v, s, e.batch, updates); err != nil {
			e.drop(ctx)
			return false, err
		}
		if len(e.batch) > 0 {
			return true, e.into(ctx, v, s)
		}
		if maps.Equal(v.Refs, s.Refs) {
			return false, nil
		}
		return true, history.cutOff(ctx, v, s, cut)
	})
	var conflict *refs.ConflictError
	switch {
	case err == nil:
		e.done()
	case errors.As(err, &conflict):
		r.hold(e.batch...)
	default:
		// What it is made of may be gone, or it may have entered. It is sent again, if it is
		// missing.
	}
	return err
}

// mayUpdate moves refs in s, which follows v, if all is there that they lead to: in v, or
// in packs that enter with them.
func (r *Remote) mayUpdate(ctx context.Context, v *view, s *State, entering []*upload, updates []refs.Update) error {
	if err := apply(s, updates); err != nil {
		return err
	}
	if err := r.stillThere(v); err != nil {
		return err
	}
	return r.complete(ctx, v, entering, updates)
}

func check(updates []refs.Update) error {
	seen := map[refs.Name]bool{}
	for _, u := range updates {
		if err := u.Name.Check(); err != nil {
			return err
		}
		if seen[u.Name] {
			return fmt.Errorf("%s: updated twice at once", u.Name)
		}
		seen[u.Name] = true
	}
	return nil
}

func apply(s *State, updates []refs.Update) error {
	for _, u := range updates {
		if is := s.Refs[u.Name]; is != u.Old {
			return &refs.ConflictError{Name: u.Name, Is: is, Expected: u.Old}
		}
		s.Refs[u.Name] = u.New
		if u.New.IsZero() {
			delete(s.Refs, u.Name)
		}
	}
	made := map[refs.Name]bool{}
	for _, u := range updates {
		made[u.Name] = u.Old.IsZero() && !u.New.IsZero()
	}
	for name := range s.Refs {
		for dir := above(name); dir != ""; dir = above(dir) {
			if _, taken := s.Refs[dir]; taken && (made[name] || made[dir]) {
				return fmt.Errorf("%s: %w: it cannot be beside %s", name, refs.ErrNameTaken, dir)
			}
		}
	}
	return nil
}

// above returns the name without its last part.
func above(name refs.Name) refs.Name {
	return name[:max(0, strings.LastIndexByte(string(name), '/'))]
}

// complete refuses to move a ref to what is not there.
func (r *Remote) complete(ctx context.Context, v *view, entering []*upload, updates []refs.Update) error {
	var ids []objects.ID
	for _, u := range updates {
		if !u.New.IsZero() && u.New != u.Old {
			ids = append(ids, u.New)
		}
	}
	ids = without(ids, entering, func(entry) bool { return true })
	missing, err := r.missing(ctx, func(context.Context) (*view, error) { return v, nil }, ids, func(place) bool { return true })
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("update to %s: %w in the bucket", missing[0].Short(), objects.ErrNotFound)
	}
	return err
}
