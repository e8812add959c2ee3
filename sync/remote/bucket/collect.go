package bucket

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// CollectOptions say what is no longer needed.
type CollectOptions struct {
	// Mark adds all that tips lead to to live, but what is behind commits that are
	// shallow. It is called again for the tips of refs that have moved meanwhile,
	// with what it has made of live before: what is in there need not be looked at.
	// It must not write to the bucket.
	Mark func(ctx context.Context, tips []objects.ID, shallow map[objects.ID]bool, live *reach.Set) error

	// Updates are refs to be moved or deleted in the same swap that condemns, with
	// the objects that they lead to in the bucket already. If one is not where it
	// should be, Collect fails with a *refs.ConflictError, and no pack is condemned.
	Updates []refs.Update

	// Shallow are commits whose parents are to be cut off in the same swap.
	Shallow []objects.ID

	// Grace is how old a pack must be before it is looked at: somebody may be about
	// to move a ref to what is in it. And it is how long condemned packs stay, for
	// those who read an older root.
	Grace time.Duration

	// Rewrite is the share of dead bytes from which on a pack is replaced by one of
	// what is alive in it. Zero is a half. One with nothing alive always goes.
	Rewrite float64

	// DryRun changes nothing, and says about what would be changed.
	DryRun bool
}

// Collected says what Collect did.
type Collected struct {
	Condemned Files // packs that do not count any more
	Made      Files // packs of what was still needed of them
	Deleted   Files // condemned long enough, or left over by somebody who was killed
	Damaged   int   // packs that would have gone, if all that is needed of them could be read
}

// Files are some files.
type Files struct {
	N     int
	Bytes int64
}

func (f *Files) add(size int64) {
	f.N++
	f.Bytes += size
}

// ErrBusy says that the bucket changes too fast to be collected.
var ErrBusy = errors.New("others change the bucket all the time")

// Collect drops what nobody needs any more. It may run beside any number of others
// who fetch, push and collect. Wherever it is interrupted nothing is lost, and
// what it has done is done: the next one goes on.
//
// What is needed is what the refs of one root lead to, and the parts of it: chunks
// of big blobs, bases of trees that are kept as deltas. Packs of which little is
// needed are copied without the rest, and so are small ones if they are many. The
// copies are uploads like any other. Then one swap condemns the packs, at which
// these hold:
//
//   - The refs of the root that is replaced were all marked. Each object that they
//     lead to is in a pack that stays, in a block whose checksum was proven if that
//     is not the only copy.
//   - Whatever is made of parts and is in a pack that stays, needed or not, has its
//     parts in packs that stay. So who is told that a big blob is there may count
//     on its chunks. Packs that came since the root that was looked at are looked
//     at, too.
//   - Who counts on what is in a condemned pack, because it was not missing when he
//     asked, or because a ref led to it when he looked, loses his next swap to this
//     one. He finds the pack gone from the root that he reads then (ErrStale), asks
//     again, and finds what was copied where it is now.
//   - A pack that is younger than the grace stays.
//
// Files are deleted when no root has named them for the grace; see sweep.
func (r *Remote) Collect(ctx context.Context, o CollectOptions) (Collected, error) {
	if o.Mark == nil {
		return Collected{}, errors.New("collect: nobody says what is needed")
	}
	if err := check(o.Updates); err != nil {
		return Collected{}, err
	}
	if o.Rewrite <= 0 {
		o.Rewrite = 0.5
	}
	c := &collection{r: r, o: o, live: new(reach.Set), marked: map[objects.ID]bool{}, made: map[PackName]bool{},
		stuck: map[PackName]bool{}, forced: map[PackName]bool{}, damaged: map[PackName]bool{}, sound: map[spot]bool{}}
	defer c.close()
	if err := c.run(ctx); err != nil || o.DryRun {
		return c.done, err
	}
	if err := c.sweep(ctx); err != nil {
		return c.done, err
	}
	if t, ok := r.b.(remote.Tidier); ok {
		return c.done, t.Tidy(ctx, max(o.Grace, abandoned))
	}
	return c.done, nil
}

// abandoned is how long a file may take to be put, at most.
const abandoned = 24 * time.Hour

// A collection is one Collect.
type collection struct {
	r    *Remote
	o    CollectOptions
	done Collected

	live   *reach.Set          // what refs lead to; it is Mark's
	parts  reach.Set           // chunks and bases that are needed
	marked map[objects.ID]bool // tips whose objects are in live

	v *view  // the root that is looked at
	t *table // of all its packs

	made    map[PackName]bool // by us
	stuck   map[PackName]bool // must stay though they would better go
	forced  map[PackName]bool // must go though they might stay
	damaged map[PackName]bool // those of stuck that can't be read
	sound   map[spot]bool     // blocks that were read, and whether their checksum is right
	bad     reach.Set         // copies that make no sense, in sound blocks; see copyKey
	anyBad  bool
	parted  reach.Set // copies whose parts are in parts
	loose   reach.Set // copies whose parts are in needs
	needs   []need
	needy   []PackName // packs that have needs; some more than once

	index    IndexInfo // that was made for the swap, if any
	indexPut time.Time
}

func (c *collection) close() {
	if c.t != nil {
		c.t.close()
	}
}

// How often Collect starts again because others were faster: from patient on it
// copies nothing more, so that it comes to an end.
const (
	patient = 3
	tooBusy = 30
)

func (c *collection) run(ctx context.Context) error {
	for lost := 0; lost < tooBusy; {
		wanted, done, err := c.step(ctx, lost < patient)
		switch {
		case errors.Is(err, errCollected):
			lost++
		case err != nil || done:
			return err
		case !wanted:
			lost++
		}
	}
	return ErrBusy
}

// step plans, and does what comes next: copies what is wanted, or, if nothing is,
// condemns. If it is not done then others were faster.
func (c *collection) step(ctx context.Context, mayCopy bool) (wanted, done bool, err error) {
	if err := c.look(ctx); err != nil {
		return false, false, err
	}
	wanted, err = c.plan(ctx, mayCopy)
	switch {
	case err != nil:
		return false, false, err
	case c.o.DryRun:
		c.tell()
		return false, true, nil
	case wanted:
		return true, false, c.copy(ctx)
	}
	done, err = c.condemn(ctx)
	return false, done, err
}

// look reads the current root, and what is needed and what is there by it.
func (c *collection) look(ctx context.Context) error {
	_, err := c.r.again(ctx, c.r.load, func(v *view) error {
		t, err := c.r.tableOf(ctx, v, c.t)
		if err != nil {
			return err
		}
		c.close()
		c.v, c.t = v, t
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range c.t.facts {
		f.pinned = c.made[f.name] || c.stuck[f.name] || !isOlder(f.info.Time, c.o.Grace)
	}
	return c.mark(ctx, c.v)
}

// isOlder reports whether something is older than the grace. Times in roots are in
// whole seconds.
func isOlder(t time.Time, grace time.Duration) bool {
	return grace <= 0 || time.Since(t) > grace+time.Second
}

// mark has what the refs of v lead to marked, once they will be moved.
func (c *collection) mark(ctx context.Context, v *view) error {
	s := v.clone()
	if err := apply(s, c.o.Updates); err != nil {
		return err
	}
	c.cut(s)
	var tips []objects.ID
	for _, id := range s.Refs {
		if !c.marked[id] && !slices.Contains(tips, id) {
			tips = append(tips, id)
		}
	}
	if len(tips) == 0 {
		return nil
	}
	slices.SortFunc(tips, objects.ID.Compare)
	if err := c.o.Mark(ctx, tips, maps.Clone(s.Shallow), c.live); err != nil {
		// What is in live may not be marked with all that it leads to.
		c.live, c.marked = new(reach.Set), map[objects.ID]bool{}
		if now, e := c.r.load(ctx); e == nil && !now.keeps(v) {
			return errCollected
		}
		return fmt.Errorf("mark what is needed: %w", err)
	}
	for _, id := range tips {
		c.marked[id] = true
		c.live.Add(id)
	}
	return nil
}

// cut notes in s what is to be cut.
func (c *collection) cut(s *State) {
	for _, id := range c.o.Shallow {
		s.Shallow[id] = true
	}
}

// isNeeded reports whether an object or chunk must stay.
func (c *collection) isNeeded(id objects.ID) bool { return c.live.Has(id) || c.parts.Has(id) }

// tell says what would be done.
func (c *collection) tell() {
	for _, f := range c.t.facts {
		if f.victim {
			c.done.Condemned.add(f.info.Size)
			if f.total > 0 && f.alive > 0 {
				c.done.Made.add(int64(float64(f.info.Size) * float64(f.alive) / float64(f.total)))
			}
		}
	}
	for _, info := range c.v.Condemned {
		if isOlder(info.Time, c.o.Grace) {
			c.done.Deleted.add(info.Size)
		}
	}
	c.done.Damaged = len(c.damaged)
}
