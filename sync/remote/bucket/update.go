package bucket

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// Update moves refs, all of them in one swap of the root, or none.
func (r *Remote) Update(ctx context.Context, updates ...refs.Update) error {
	if err := check(updates); err != nil {
		return err
	}
	select {
	case r.swapping <- struct{}{}:
		defer func() { <-r.swapping }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return r.change(ctx, func(v *view, s *State) (bool, error) {
		if err := apply(s, updates); err != nil {
			return false, err
		}
		if err := r.stillThere(v); err != nil {
			return false, err
		}
		if err := r.complete(ctx, v, updates); err != nil {
			return false, err
		}
		return !maps.Equal(v.Refs, s.Refs), nil
	})
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

// stillThere reports ErrStale if something is not in v any more that the caller
// counts on: because Missing said that it is there, because he uploaded it, or
// because one of the refs that he was told led to it. It goes on to do so until he
// asks again what is missing, or which refs there are.
func (r *Remote) stillThere(v *view) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.relied)
	maps.DeleteFunc(r.relied, func(p PackName, _ bool) bool {
		_, live := v.Packs[p]
		return !live
	})
	if r.told != nil && !v.keeps(r.told) {
		r.told, r.stale = nil, true
	}
	if r.stale = r.stale || len(r.relied) < before; r.stale {
		return remote.ErrStale
	}
	return nil
}

// keeps reports whether all is in v for sure that the refs of an earlier view lead
// to: no pack has gone since, or all of these refs are still there, and lead as far.
func (v *view) keeps(before *view) bool {
	gone := false
	for p := range before.Packs {
		if _, live := v.Packs[p]; !live {
			gone = true
			break
		}
	}
	if !gone {
		return true
	}
	tips := map[objects.ID]bool{}
	for _, id := range v.Refs {
		tips[id] = true
	}
	for _, id := range before.Refs {
		if !tips[id] {
			return false
		}
	}
	return maps.Equal(v.Shallow, before.Shallow)
}

// ask notes that the caller asks again what is missing.
func (r *Remote) ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = false
}

// complete refuses to move a ref to what is not there.
func (r *Remote) complete(ctx context.Context, v *view, updates []refs.Update) error {
	var ids []objects.ID
	for _, u := range updates {
		if !u.New.IsZero() && u.New != u.Old {
			ids = append(ids, u.New)
		}
	}
	missing, err := r.missing(ctx, func(context.Context) (*view, error) { return v, nil }, ids, func(place) bool { return true })
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("update to %s: %w in the bucket", missing[0].Short(), objects.ErrNotFound)
	}
	return err
}
