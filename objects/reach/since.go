package reach

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

// Since visits what tips lead to and somebody lacks who has the commits have,
// with all that they lead to. It costs what is new, and not what there is. It
// visits more than is new where something has moved to another path, or where
// clocks were wrong, and never less. What of have is not there is passed over. Tips
// lead as far as Shallow says, have as far as ShallowThere.
func Since(ctx context.Context, r objects.Reader, tips, have []objects.ID, o Options) error {
	if o.Seen == nil {
		o.Seen = new(Set)
	}
	s := since{walker: newWalker(r, o), commits: map[objects.ID]*painted{}}
	return s.run(ctx, tips, have)
}

// since walks commits first, the newest first, then their trees beside those of
// their parents.
type since struct {
	*walker
	commits map[objects.ID]*painted
	queue   newest
	open    int // commits in the queue that are only new

	fresh []*painted   // in the order of the queue
	asked []objects.ID // what tips name, through tags
	gaps  []gap
	pairs []pair
	trees []objects.ID // of some commits that the other side has
}

// A painted commit is one of which it is known from where it can be reached.
type painted struct {
	id       objects.ID
	body     objects.CommitBody
	old      bool // reached from have
	waits    bool // in the queue
	unwanted bool // missing
}

// A gap is a commit that is missing, before it is known whether anybody needs it.
type gap struct {
	n   *node
	err error
}

// A pair is a tree, and those that are in its place in other commits.
type pair struct {
	n     *node
	bases []objects.ID
	old   bool // the other side has all of the bases
}

// someBases is how many trees are compared with that have no parent.
const someBases = 4

func (s *since) run(ctx context.Context, tips, have []objects.ID) error {
	for _, id := range have {
		if err := s.paint(ctx, &node{id: id}, true); err != nil {
			return err
		}
		if c := s.commits[id]; c != nil && len(s.trees) < someBases {
			s.trees = append(s.trees, c.body.Tree)
		}
	}
	for _, id := range tips {
		s.asked = append(s.asked, id)
		if err := s.paint(ctx, &node{id: id}, false); err != nil {
			return err
		}
	}
	if err := s.sort(ctx); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := s.visitFresh(); err != nil {
		return err
	}
	if s.o.Commits {
		s.fresh = nil
	}
	for _, c := range s.parentsFirst() {
		if err := s.content(ctx, c); err != nil {
			return err
		}
	}
	return s.walker.run(ctx)
}

// paint notes from where a commit, or what a tag names, was reached.
func (s *since) paint(ctx context.Context, n *node, old bool) error {
	if c := s.commits[n.id]; c != nil {
		if old && !c.old {
			if c.old = true; c.waits {
				s.open--
				heap.Init(&s.queue)
			} else if !c.unwanted {
				s.push(c) // what it leads to was taken for new
			}
		}
		return nil
	}
	// What is to be fetched may be thousands of blobs, which nobody needs to read.
	k, err := s.kindOf(ctx, n.id)
	var body []byte
	if err == nil && (k == objects.Commit || k == objects.Tag) {
		k, body, err = objects.Read(ctx, s.r, n.id)
	}
	switch {
	case err != nil && old && errors.Is(err, objects.ErrNotFound):
		return ctx.Err()
	case err != nil:
		return s.lost(ctx, n, err)
	case k != objects.Commit && old:
		return nil
	case k == objects.Tag:
		return s.tag(ctx, n, body)
	case k != objects.Commit:
		return s.add(ctx, n)
	}
	c := &painted{id: n.id, old: old}
	if c.body, err = objects.ParseCommit(body); err != nil {
		if old {
			return nil
		}
		return s.lost(ctx, n, err)
	}
	s.commits[n.id] = c
	s.push(c)
	return nil
}

func (s *since) lost(ctx context.Context, n *node, err error) error {
	if n.kind == 0 {
		n.kind = objects.Commit
	}
	s.commits[n.id] = &painted{id: n.id, unwanted: true}
	if s.o.ShallowThere != nil && n.from != nil && n.from.kind == objects.Commit {
		s.gaps = append(s.gaps, gap{n, err})
		return nil
	}
	return s.miss(ctx, n, err)
}

func (s *since) tag(ctx context.Context, n *node, body []byte) error {
	t, err := objects.ParseTag(body)
	if err != nil {
		return s.miss(ctx, n, err)
	}
	n.kind = objects.Tag
	if !s.o.Seen.Add(n.id) {
		return nil
	}
	if err := s.visit(n); err != nil {
		return err
	}
	s.asked = append(s.asked, t.Object)
	return s.paint(ctx, &node{id: t.Object, from: n}, false)
}

func (s *since) push(c *painted) {
	c.waits = true
	if !c.old {
		s.open++
	}
	heap.Push(&s.queue, c)
}

// sort goes back in history until all that is left is old.
func (s *since) sort(ctx context.Context) error {
	for s.open > 0 || s.inDoubt() {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := heap.Pop(&s.queue).(*painted)
		c.waits = false
		if !c.old {
			s.open--
			s.fresh = append(s.fresh, c)
		}
		if s.ends(c) {
			continue
		}
		for _, p := range c.body.Parents {
			if err := s.paint(ctx, &node{id: p, kind: objects.Commit, from: &node{id: c.id, kind: objects.Commit}}, c.old); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxSkew is by how much clocks are expected to differ.
const maxSkew = 24 * time.Hour

// inDoubt reports whether it is worth while to look on, since something is missing that
// nobody may need: its children may yet turn out to be old.
func (s *since) inDoubt() bool {
	if len(s.gaps) == 0 || len(s.queue) == 0 {
		return false
	}
	child := s.commits[s.gaps[len(s.gaps)-1].n.from.id]
	return s.queue[0].body.Committer.When.After(child.body.Committer.When.Add(-maxSkew))
}

// ends reports whether history goes no further back than c, on the side that c is
// of.
func (s *since) ends(c *painted) bool {
	if c.old && s.o.ShallowThere != nil {
		return s.o.ShallowThere(c.id)
	}
	return s.o.isCut(c.id)
}

// settle drops what was taken for new only because clocks were wrong: what is behind
// a commit that turned out to be old, and that the other side has cut off there.
func (s *since) settle(ctx context.Context) error {
	if s.o.ShallowThere == nil {
		return nil
	}
	needed := map[objects.ID]bool{}
	for todo := s.asked; len(todo) > 0; {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		c := s.commits[id]
		if c == nil || c.old || needed[id] {
			continue
		}
		needed[id] = true
		if !s.o.isCut(id) {
			todo = append(todo, c.body.Parents...)
		}
	}
	s.fresh = slices.DeleteFunc(s.fresh, func(c *painted) bool { return !needed[c.id] })
	for _, g := range s.gaps {
		if needed[g.n.id] {
			if err := s.miss(ctx, g.n, g.err); err != nil {
				return err
			}
		}
	}
	return nil
}

// visitFresh visits the commits that are new, the newest first, and leaves those in
// fresh that nobody has visited before.
func (s *since) visitFresh() error {
	s.fresh = slices.DeleteFunc(s.fresh, func(c *painted) bool { return c.old || !s.o.Seen.Add(c.id) })
	for _, c := range s.fresh {
		if err := s.visit(&node{id: c.id, kind: objects.Commit}); err != nil {
			return err
		}
	}
	return nil
}

// parentsFirst returns fresh in an order in which no commit comes before its parents,
// whatever the clocks said. What a tree has in common with those of the parents is
// passed over, so all of these must have been visited: one may be the same as that of
// a commit before them, after a revert, and each of the two would rely on the other.
func (s *since) parentsFirst() []*painted {
	type step uint8
	const (
		waits step = iota + 1
		met
		placed
	)
	steps := make(map[*painted]step, len(s.fresh))
	for _, c := range s.fresh {
		steps[c] = waits
	}
	order := make([]*painted, 0, len(s.fresh))
	for stack := slices.Clone(s.fresh); len(stack) > 0; {
		c := stack[len(stack)-1]
		switch steps[c] {
		case waits:
			steps[c] = met
			for _, id := range c.body.Parents {
				if p := s.commits[id]; steps[p] == waits {
					stack = append(stack, p)
				}
			}
			continue
		case met:
			steps[c], order = placed, append(order, c)
		}
		stack = stack[:len(stack)-1]
	}
	return order
}

// content visits what the tree of a commit has that those of its parents don't.
func (s *since) content(ctx context.Context, c *painted) error {
	n := &node{id: c.id, kind: objects.Commit}
	var bases []objects.ID
	old := true
	if !s.o.isCut(c.id) {
		for _, p := range c.body.Parents {
			if parent := s.commits[p]; parent != nil && !parent.unwanted {
				bases = append(bases, parent.body.Tree)
				old = old && parent.old
			}
		}
	}
	if len(bases) == 0 {
		bases = s.trees
	}
	s.beside(&node{id: c.body.Tree, kind: objects.Tree, from: n}, bases, old)
	for len(s.pairs) > 0 {
		p := s.pairs[len(s.pairs)-1]
		s.pairs = s.pairs[:len(s.pairs)-1]
		if err := s.compare(ctx, p); err != nil {
			return err
		}
	}
	// Trees that stand alone, too, before what comes after relies on them.
	return s.walker.runTrees(ctx)
}

func (s *since) beside(n *node, bases []objects.ID, old bool) {
	for _, b := range bases {
		if b == n.id {
			return
		}
	}
	if s.o.Seen.Add(n.id) {
		s.pairs = append(s.pairs, pair{n, bases, old})
	}
}

// compare visits a tree, and what none of its bases has in the same place.
func (s *since) compare(ctx context.Context, p pair) error {
	var bases []map[string]objects.Entry
	for _, id := range p.bases {
		tree, err := objects.ReadTree(ctx, s.r, id)
		if err != nil {
			continue // then more is new
		}
		names := make(map[string]objects.Entry, len(tree))
		for _, e := range tree {
			names[e.Name] = e
		}
		bases = append(bases, names)
		if p.old && s.o.Beside != nil {
			s.o.Beside(id)
		}
	}
	if len(bases) == 0 {
		return s.take(ctx, p.n)
	}
	if p.n.id == objects.EmptyTree {
		return s.visit(p.n)
	}
	tree, err := objects.ReadTree(ctx, s.r, p.n.id)
	if err != nil {
		return s.miss(ctx, p.n, err)
	}
	if err := s.visit(p.n); err != nil {
		return err
	}
	for _, e := range tree {
		n := &node{id: e.ID, kind: e.Mode.Kind(), from: p.n}
		var below []objects.ID
		known := false
		for _, names := range bases {
			b, ok := names[e.Name]
			known = known || ok && b.ID == e.ID
			if ok && b.Mode.Kind() == objects.Tree {
				below = append(below, b.ID)
			}
		}
		switch {
		case known:
		case n.kind == objects.Tree && len(below) > 0:
			s.beside(n, below, p.old)
		default:
			if err := s.add(ctx, n); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// newest is a heap of commits, by the committer's date.
type newest []*painted

func (q newest) Len() int      { return len(q) }
func (q newest) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q newest) Less(i, j int) bool {
	a, b := q[i], q[j]
	if c := b.body.Committer.When.Compare(a.body.Committer.When); c != 0 {
		return c < 0
	}
	// Of one second what is old first: it may lead to the others.
	if a.old != b.old {
		return a.old
	}
	return a.id.Compare(b.id) < 0
}
func (q *newest) Push(c any) { *q = append(*q, c.(*painted)) }
func (q *newest) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
