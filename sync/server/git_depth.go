package server

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/gitwire"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// ready reports whether what is common is enough to make a pack: each commit that is
// wanted comes after some of it.
func (f *gitFetch) ready(ctx context.Context) (bool, error) {
	if len(f.common) == 0 {
		return false, nil
	}
	wanted, err := f.commits(ctx, f.q.Want)
	if err != nil {
		return false, err
	}
	common, err := f.commits(ctx, f.common)
	if err != nil {
		return false, err
	}
	have := setOf(common)
	oldest := time.Now().Add(100 * 365 * 24 * time.Hour)
	for _, id := range common {
		c, err := objects.ReadCommit(ctx, f.objects, id)
		if err != nil {
			return false, err
		}
		if c.Committer.When.Before(oldest) {
			oldest = c.Committer.When
		}
	}
	for _, id := range wanted {
		after, err := f.comesAfter(ctx, id, have, oldest.Add(-clockSkew))
		if err != nil || !after {
			return false, err
		}
	}
	return true, nil
}

// clockSkew is by how much clocks are expected to differ.
const clockSkew = 24 * time.Hour

// comesAfter reports whether one of have is in the history of a commit, as far as that
// goes back to oldest. It may say no where it is: then the client tells more.
func (f *gitFetch) comesAfter(ctx context.Context, tip objects.ID, have map[objects.ID]bool, oldest time.Time) (bool, error) {
	seen := new(reach.Set)
	var queue newestFirst
	add := func(id objects.ID) error {
		if !seen.Add(id) {
			return nil
		}
		c, err := objects.ReadCommit(ctx, f.objects, id)
		if err == nil && !c.Committer.When.Before(oldest) {
			heap.Push(&queue, dated{id, c})
		}
		return err
	}
	if have[tip] {
		return true, nil
	}
	if err := add(tip); err != nil {
		return false, err
	}
	for len(queue) > 0 {
		c := heap.Pop(&queue).(dated)
		if f.cut[c.id] {
			continue
		}
		for _, p := range c.Parents {
			if have[p] {
				return true, nil
			}
			if err := add(p); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

type dated struct {
	id objects.ID
	objects.CommitBody
}

// newestFirst is a heap.
type newestFirst []dated

func (q newestFirst) Len() int           { return len(q) }
func (q newestFirst) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q newestFirst) Less(i, j int) bool { return q[i].Committer.When.After(q[j].Committer.When) }
func (q *newestFirst) Push(c any)        { *q = append(*q, c.(dated)) }
func (q *newestFirst) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// commits returns those of ids that are commits, or tags of such.
func (f *gitFetch) commits(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	var commits []objects.ID
	for _, id := range ids {
		if id == objects.EmptyTree {
			continue
		}
		kind, _, err := f.objects.Stat(ctx, id)
		if err == nil && kind == objects.Tag {
			if id, err = f.x.peeled(ctx, id); err == nil {
				kind, _, err = f.objects.Stat(ctx, id)
			}
		}
		if err != nil {
			return nil, err
		}
		if kind == objects.Commit {
			commits = append(commits, id)
		}
	}
	return commits, nil
}

// deepen finds out where history ends in the pack, what the client must be told of
// that, and what the pack leads to.
func (f *gitFetch) deepen(ctx context.Context) (shallow, unshallow []objects.ID, err error) {
	f.tips = slices.Clone(f.q.Want)
	if !f.q.Deepens() {
		shallow, err = f.cutAmongNew(ctx)
		return shallow, nil, err
	}
	d := descent{f: f, inside: new(reach.Set), ends: map[objects.ID]bool{}}
	if err := d.run(ctx); err != nil {
		return nil, nil, err
	}
	f.ends = d.ends
	for id := range d.ends {
		if !f.theirs[id] {
			shallow = append(shallow, id)
		}
	}
	slices.SortFunc(shallow, objects.ID.Compare)
	for _, id := range f.q.Shallow {
		if !d.inside.Has(id) {
			continue
		}
		c, err := objects.ReadCommit(ctx, f.objects, id)
		if err != nil {
			return nil, nil, err
		}
		unshallow = append(unshallow, id)
		f.tips = append(f.tips, c.Parents...)
	}
	return shallow, unshallow, nil
}

// cutAmongNew returns the commits in the pack whose parents were cut off here. Those
// that the client has are as they are there.
func (f *gitFetch) cutAmongNew(ctx context.Context) (cut []objects.ID, err error) {
	if len(f.cut) == 0 {
		return nil, nil
	}
	err = f.since(ctx, reach.Options{Commits: true, Visit: func(id objects.ID, _ objects.Kind) error {
		if f.cut[id] && !f.theirs[id] {
			cut = append(cut, id)
		}
		return nil
	}})
	return cut, err
}

// A descent goes back in history, level by level, as far as the client wants it.
type descent struct {
	f      *gitFetch
	inside *reach.Set          // commits that keep their parents
	ends   map[objects.ID]bool // commits that lose them
}

func (d *descent) run(ctx context.Context) error {
	f := d.f
	level, err := f.commits(ctx, f.q.Want)
	if err != nil {
		return err
	}
	depth := f.q.Depth
	switch {
	case f.q.Relative && depth > 0 && depth < gitwire.Whole:
		level, depth = f.q.Shallow, depth+1
	case depth == gitwire.Whole:
		// Whatever the client has cut off, not only what it wants of it.
		level = append(level, f.q.Shallow...)
	case depth == 0:
		depth = gitwire.Whole // it is the date that ends it
	}
	seen := new(reach.Set)
	for n := 1; len(level) > 0; n++ {
		var next []objects.ID
		for _, id := range level {
			if !seen.Add(id) {
				continue
			}
			parents, err := d.visit(ctx, id, n == depth)
			if err != nil {
				return err
			}
			next = append(next, parents...)
		}
		level = next
	}
	return nil
}

// visit returns the parents of a commit if history goes on there.
func (d *descent) visit(ctx context.Context, id objects.ID, last bool) ([]objects.ID, error) {
	f := d.f
	c, err := objects.ReadCommit(ctx, f.objects, id)
	if err != nil || len(c.Parents) == 0 {
		return nil, err
	}
	if c.Committer.When.Before(f.q.Since) {
		return nil, wire.Errorf(wire.BadRequest, "there are no commits since %s", f.q.Since.UTC().Format(time.DateTime))
	}
	end := last || f.cut[id]
	for _, p := range c.Parents {
		if end || f.q.Since.IsZero() {
			break
		}
		parent, err := objects.ReadCommit(ctx, f.objects, p)
		if err != nil {
			return nil, fmt.Errorf("parent of %s: %w", id.Short(), err)
		}
		end = parent.Committer.When.Before(f.q.Since)
	}
	if end {
		d.ends[id] = true
		return nil, nil
	}
	d.inside.Add(id)
	return c.Parents, nil
}
