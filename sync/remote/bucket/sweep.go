package bucket

import (
	"context"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// leftOver is how old a file must be at least that no root names before it counts as
// left over by somebody who was killed.
const leftOver = time.Hour

// enterWithin is how long after a file was put a root must name it: what nobody has
// named after leftOver may be deleted. See sweep.
const enterWithin = leftOver / 2

// isLate reports whether it is too late to name what was put then.
func isLate(put time.Time) bool { return time.Now().Round(0).Sub(put) > enterWithin }

// sweep deletes files that no root names and that are older than the grace, by the
// clock of the storage.
//
// Somebody may have put such a file and be about to name it. So the root is replaced
// first: whoever has not won by then must try again, and who tries again after
// enterWithin gives up. What is older than leftOver at that moment, and not named by
// the root that is there then, will never be.
func (c *collection) sweep(ctx context.Context) error {
	v, err := c.r.load(ctx)
	if err != nil || v.root.IsZero() {
		return err
	}
	found, err := c.unnamed(ctx, v)
	if err != nil || len(found) == 0 {
		return err
	}
	// The new root's file tells the time.
	if err := c.r.change(ctx, func(*view, *State) (bool, error) { return true, nil }); err != nil {
		return err
	}
	if v, err = c.r.load(ctx); err != nil {
		return err
	}
	now, err := c.r.timeOf(ctx, rootFile(v.root.Hash))
	if err != nil || now.IsZero() {
		return err
	}
	named := v.names()
	for _, info := range found {
		if named[info.Name] || info.Time.IsZero() || now.Sub(info.Time) <= max(c.o.Grace, leftOver) {
			continue
		}
		if err := c.r.b.Delete(ctx, info.Name); err != nil {
			return err
		}
		c.done.Deleted.add(info.Size)
	}
	return nil
}

// unnamed returns the files that v does not name.
func (c *collection) unnamed(ctx context.Context, v *view) (found []remote.Info, err error) {
	named := v.names()
	for _, dir := range remote.Dirs {
		if dir == usesDir {
			continue // roots do not name them
		}
		for info, err := range c.r.b.List(ctx, dir) {
			if err != nil {
				return nil, err
			}
			if !named[info.Name] {
				found = append(found, info)
			}
		}
	}
	return found, nil
}

// timeOf returns when a root was put, by the clock of the storage.
func (r *Remote) timeOf(ctx context.Context, name string) (at time.Time, err error) {
	for info, err := range r.b.List(ctx, "roots") {
		if err != nil {
			return at, err
		}
		if info.Name == name {
			at = info.Time
		}
	}
	return at, nil
}

// names returns the files that must stay.
func (v *view) names() map[string]bool {
	named := map[string]bool{rootFile(v.root.Hash): true}
	for _, hash := range v.Past {
		named[rootFile(hash)] = true
	}
	for _, packs := range []map[PackName]PackInfo{v.Packs, v.Condemned} {
		for p := range packs {
			named[p.file()] = true
		}
	}
	for _, x := range v.Indexes {
		named[x.file()] = true
	}
	for hash := range v.Dropped {
		named[indexFile(hash)] = true
	}
	return named
}

// Usage says what a bucket takes.
type Usage struct {
	Packs     Files
	Indexes   Files
	Condemned Files // packs that do not count any more, and are still there
}

// Usage returns what the current root says of the bucket's size. Files that no root
// names are not counted.
func (r *Remote) Usage(ctx context.Context) (Usage, error) {
	s, err := r.State(ctx)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	for _, info := range s.Packs {
		u.Packs.add(info.Size)
	}
	for _, info := range s.Condemned {
		u.Condemned.add(info.Size)
	}
	for _, x := range s.Indexes {
		u.Indexes.add(x.Size)
	}
	return u, nil
}
