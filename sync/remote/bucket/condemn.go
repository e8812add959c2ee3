package bucket

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

// condemn condemns the packs that go, in one swap with all else that there is to do.
// It reports false if that must be planned again.
func (c *collection) condemn(ctx context.Context) (done bool, err error) {
	r := c.r
	select {
	case r.swapping <- struct{}{}:
		defer func() { <-r.swapping }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	late := map[PackName]bool{}
	for try := range tooBusy {
		v, err := r.load(ctx)
		if err != nil {
			return false, err
		}
		if holds, err := c.holds(ctx, v, late); err != nil || !holds {
			c.dropIndex(ctx)
			return false, err
		}
		s := v.clone()
		garbage, changed, err := c.edit(ctx, v, s)
		if err != nil || !changed || len(s.Indexes) > maxIndexes {
			c.dropIndex(ctx)
			return err == nil && !changed, err
		}
		garbage = append(garbage, s.succeed(v)...)
		won, err := r.swap(ctx, v, s)
		if err != nil {
			return false, err
		}
		if won {
			c.count(v, s)
			r.discard(ctx, garbage...)
			return true, nil
		}
		if err := pause(ctx, try); err != nil {
			return false, err
		}
	}
	c.dropIndex(ctx)
	return false, nil
}

// holds reports whether what was planned is right for v, too. It looks at what has
// come since.
func (c *collection) holds(ctx context.Context, v *view, seen map[PackName]bool) (bool, error) {
	for p := range c.v.Packs {
		if _, live := v.Packs[p]; !live {
			return false, nil // somebody else collects
		}
	}
	marked, parts := len(c.marked), c.parts.Len()
	if err := c.mark(ctx, v); err != nil {
		return false, err
	}
	if err := c.lateParts(ctx, v, seen); err != nil {
		return false, err
	}
	if len(c.marked) == marked && c.parts.Len() == parts {
		return true, nil
	}
	holds := true
	err := c.t.each(ctx, func(id objects.ID, copies []entry) error {
		if slices.ContainsFunc(copies, c.goes) && c.isNeeded(id) {
			if stays, _ := c.staying(c.fit(copies)); !stays {
				holds = false
				return errEnough
			}
		}
		return nil
	})
	if !holds {
		err = nil
	}
	return holds, err
}

// lateParts notes the parts of what is in packs that have come since the plan was made.
func (c *collection) lateParts(ctx context.Context, v *view, seen map[PackName]bool) error {
	late := map[PackName]PackInfo{}
	for p, info := range v.Packs {
		if _, known := c.v.Packs[p]; !known && !seen[p] {
			late[p] = info
		}
	}
	if len(late) == 0 {
		return nil
	}
	// What was in the root before is in indexes that are known.
	newer := v.clone()
	newer.Packs = late
	newer.Indexes = slices.DeleteFunc(newer.Indexes, func(x IndexInfo) bool { return slices.Contains(c.t.of, x) })
	t, err := c.r.tableOf(ctx, &view{root: v.root, State: newer}, nil)
	if err != nil {
		return err
	}
	defer t.close()
	all := c.t
	c.t = t
	defer func() { c.t = all }()
	for _, f := range t.facts {
		f.pinned = true
	}
	if err := c.findParts(ctx); err != nil {
		return err
	}
	for p := range late {
		seen[p] = true
	}
	return nil
}

// edit makes s, a copy of v, what follows it. It returns the files that nobody needs
// any more then.
func (c *collection) edit(ctx context.Context, v *view, s *State) (garbage []string, changed bool, err error) {
	if len(c.o.Updates) > 0 {
		if err := apply(s, c.o.Updates); err != nil {
			return nil, false, err
		}
		if err := c.r.stillThere(v); err != nil {
			return nil, false, err
		}
		if err := c.r.complete(ctx, v, nil, c.o.Updates); err != nil {
			return nil, false, err
		}
		changed = true
	}
	now := time.Now()
	for p, info := range s.Condemned {
		if isOlder(info.Time, c.o.Grace) {
			delete(s.Condemned, p)
			garbage, changed = append(garbage, p.file()), true
		}
	}
	for _, f := range c.t.facts {
		if f.victim {
			delete(s.Packs, f.name)
			s.Condemned[f.name], changed = PackInfo{f.info.Size, now}, true
		}
	}
	before := len(s.Shallow)
	if err := c.editShallow(ctx, v, s); err != nil {
		return nil, false, err
	}
	changed = changed || len(s.Shallow) != before
	return garbage, changed, c.editIndexes(ctx, s, now)
}

// editShallow notes what is cut, and forgets it where the commit itself is gone.
func (c *collection) editShallow(ctx context.Context, v *view, s *State) error {
	gone := map[objects.ID]bool{}
	for id := range s.Shallow {
		if !c.isNeeded(id) {
			gone[id] = true
		}
	}
	c.cut(s)
	if len(gone) == 0 || len(v.Packs) != len(c.v.Packs) { // it may be in a pack that came late
		return nil
	}
	err := c.t.each(ctx, func(id objects.ID, _ []entry) error {
		delete(gone, id)
		return nil
	})
	for id := range gone {
		delete(s.Shallow, id)
	}
	return err
}

// editIndexes replaces the indexes by one without what goes, if that is much.
func (c *collection) editIndexes(ctx context.Context, s *State, now time.Time) error {
	var all, dead int64
	for _, info := range c.t.of {
		all += info.Size - info.Head
	}
	for _, f := range c.t.facts {
		if !f.victim {
			dead -= int64(f.entries) * entrySize
		}
	}
	if dead += all; float64(dead) < min(0.25, c.o.Rewrite)*float64(all) || dead == 0 {
		return nil
	}
	if c.index.Size == 0 || isLate(c.indexPut) {
		c.dropIndex(ctx)
		if err := c.makeIndex(ctx); err != nil {
			return err
		}
	}
	kept := slices.DeleteFunc(slices.Clone(s.Indexes), func(x IndexInfo) bool { return slices.Contains(c.t.of, x) })
	for _, x := range s.Indexes {
		if !slices.Contains(kept, x) {
			s.Dropped[x.Hash] = now
		}
	}
	s.Indexes = kept
	if c.index.Size > 0 {
		s.Indexes = append([]IndexInfo{c.index}, kept...)
	}
	return nil
}

// makeIndex puts an index of the packs that stay.
func (c *collection) makeIndex(ctx context.Context) error {
	m := merge{live: map[PackName]PackInfo{}}
	for _, f := range c.t.facts {
		if !f.victim {
			m.live[f.name] = f.info
		}
	}
	if len(m.live) == 0 {
		return nil
	}
	m.add(c.t.index, c.t.reader(), nil)
	out, err := m.write()
	if err != nil {
		return err
	}
	defer out.close()
	if err := c.r.putAndKeep(ctx, out.info, out); err != nil {
		return fmt.Errorf("%s: %w", out.info.file(), err)
	}
	c.index, c.indexPut = out.info, time.Now().Round(0)
	return nil
}

// dropIndex deletes an index that was made for a swap which did not come about.
func (c *collection) dropIndex(ctx context.Context) {
	if c.index.Size > 0 {
		c.r.discard(ctx, c.index.file())
		c.index = IndexInfo{}
	}
}

// count counts what was done by a swap.
func (c *collection) count(v *view, s *State) {
	for _, f := range c.t.facts {
		if f.victim {
			c.done.Condemned.add(f.info.Size)
		}
	}
	for p, info := range v.Condemned {
		if _, still := s.Condemned[p]; !still {
			c.done.Deleted.add(info.Size)
		}
	}
	c.done.Damaged = len(c.damaged)
}
