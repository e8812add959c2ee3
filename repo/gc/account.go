package gc

import (
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/objects/trees"
)

// entriesOf calls fn for the entries at the tip of a root, and tree for the trees
// above.
func (p *planner) entriesOf(ctx context.Context, commit objects.ID, tree func(id objects.ID) error, fn func(path string, id objects.ID)) error {
	c, err := objects.ReadCommit(ctx, p.s.Objects, commit)
	if err != nil {
		return err
	}
	if err := tree(c.Tree); err != nil {
		return err
	}
	err = trees.Walk(ctx, p.s.Objects, c.Tree, func(path string, e objects.Entry) (trees.Step, error) {
		if entry.IsPath(path) {
			fn(path, e.ID)
			return trees.SkipTree, nil
		}
		if e.Mode.IsDir() {
			return trees.Continue, tree(e.ID)
		}
		return trees.Continue, nil
	})
	if p.s.Lazy && errors.Is(err, objects.ErrNotFound) {
		return nil // trees that are not here hold nothing that could go
	}
	return err
}

// account counts what stays and what goes, ref by ref.
func (p *planner) account(ctx context.Context) error {
	drops := p.drops()
	if drops {
		p.plan.Before = p.plan.Live.Clone()
	}
	for i := range p.roots {
		r := &p.roots[i]
		b := Branch{Ref: r.Name, Expired: r.expired, Guarded: r.guarded, Bytes: r.bytes, EvictedEntries: r.evicted}
		if err := p.countEntries(ctx, r, &b); err != nil {
			return err
		}
		p.countCommits(r, &b)
		if drops {
			w := walk{tips: p.all(r), seen: p.plan.Before, parts: p.parts, shallow: always, missing: tolerant}
			if err := p.walk(ctx, &w); err != nil {
				return err
			}
			b.DroppedBytes = w.bytes
			p.plan.Dropped += w.bytes
		}
		if r.replaced(p.plan.Shed) {
			p.plan.evicts[r.Name] = r.evicted
		}
		p.plan.Branches = append(p.plan.Branches, b)
	}
	for id := range p.plan.cutSet {
		p.plan.Cut = append(p.plan.Cut, id)
	}
	return nil
}

// all returns all commits behind a root, and what it points to.
func (p *planner) all(r *root) []objects.ID {
	ids := []objects.ID{r.ID}
	p.graph.behind([]objects.ID{r.commit}, func(c *commit) bool {
		ids = append(ids, c.id)
		return true
	})
	return ids
}

// drops reports whether anything goes that could be reached until now.
func (p *planner) drops() bool {
	for i := range p.roots {
		if p.roots[i].expired {
			return true
		}
	}
	return len(p.plan.cutSet) > 0 || p.plan.Evicted > 0
}

func (p *planner) countEntries(ctx context.Context, r *root, b *Branch) error {
	if r.commit.IsZero() {
		return nil
	}
	if r.entries == 0 {
		err := p.entriesOf(ctx, r.commit, func(objects.ID) error { return nil }, func(string, objects.ID) { r.entries++ })
		if err != nil && !r.expired {
			return err
		}
	}
	b.Entries = r.entries - r.evicted
	if r.expired {
		b.Entries, b.EvictedEntries = 0, r.entries
	}
	return nil
}

func (p *planner) countCommits(r *root, b *Branch) {
	if r.commit.IsZero() {
		return
	}
	tips := []objects.ID{r.commit}
	all := 0
	p.graph.behind(tips, func(*commit) bool { all++; return true })
	switch {
	case r.expired:
	case r.replaced(p.plan.Shed):
		b.Commits = 1 // the one that takes its place
		b.DroppedCommits = all
		return
	default:
		p.graph.behind(tips, func(c *commit) bool { b.Commits++; return !p.plan.cutSet[c.id] })
	}
	b.DroppedCommits = all - b.Commits
}

// weighRoots says what each ref adds to those before it, of what stays.
func (e *eviction) weighRoots(ctx context.Context) error {
	seen, parts := e.plan.evict.Clone(), new(reach.Set)
	for i := range e.roots {
		r := &e.roots[i]
		if r.expired {
			continue
		}
		shallow := e.isCut
		if r.replaced(e.plan.Shed) {
			shallow = always
		}
		w := walk{tips: []objects.ID{r.ID}, seen: seen, parts: parts, shallow: shallow, missing: tolerant}
		if err := e.walk(ctx, &w); err != nil {
			return err
		}
		r.bytes = w.bytes
		if r.replaced(e.plan.Shed) {
			r.bytes = max(0, r.bytes-e.share*int64(r.evicted)) // the trees above get smaller
		}
	}
	return nil
}
