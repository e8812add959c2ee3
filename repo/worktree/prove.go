package worktree

import (
	"context"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
)

// prove finds out which of the ids that the stat cache has given are stored. A
// directory whose tree is what it was last time is proven with all below it;
// of the others the objects that were not there last time are asked for.
func (s *snapshot) prove(ctx context.Context) error {
	var h treeHasher
	h.hash(s.root)
	var ask []*node
	if err := s.proveDir(ctx, s.root, s.o.Prev, &ask); err != nil {
		return err
	}
	ids := make([]objects.ID, len(ask))
	for i, n := range ask {
		ids[i] = n.id
	}
	missing, err := s.r.Missing(ctx, ids)
	if err != nil {
		return fmt.Errorf("look for what is stored: %w", err)
	}
	if len(missing) == 0 {
		return nil
	}
	gone := make(map[objects.ID]bool, len(missing))
	for _, id := range missing {
		gone[id] = true
	}
	for _, n := range ask {
		n.known = !gone[n.id]
	}
	return nil
}

func (s *snapshot) proveDir(ctx context.Context, d *dir, was objects.Entries, ask *[]*node) error {
	for i := range d.nodes {
		n := &d.nodes[i]
		before, ok := was.Find(n.name)
		if n.dir == nil {
			if n.known && !(ok && before.ID == n.id) {
				*ask = append(*ask, n)
			}
			continue
		}
		if ok && before.Mode.IsDir() {
			n.dir.prev = before.ID
		}
		if err := s.proveBelow(ctx, n.dir, ask); err != nil {
			return err
		}
	}
	return nil
}

func (s *snapshot) proveBelow(ctx context.Context, d *dir, ask *[]*node) error {
	if d.prev.IsZero() {
		return s.proveDir(ctx, d, nil, ask)
	}
	if d.id == d.prev {
		d.done = true
		return nil
	}
	was, err := objects.ReadTree(ctx, s.r, d.prev)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		// Then nothing is known of it. It is not needed, so it is not an error.
		d.prev = objects.ID{}
	}
	return s.proveDir(ctx, d, was, ask)
}

// A treeHasher computes the ids of trees, as far as their files are known.
type treeHasher struct {
	entries objects.Entries
	body    []byte
}

func (h *treeHasher) hash(d *dir) (known bool) {
	known = true
	for i := range d.nodes {
		n := &d.nodes[i]
		if n.dir != nil {
			known = h.hash(n.dir) && known
			n.id = n.dir.id
		} else {
			known = known && n.known
		}
	}
	if known {
		d.id = objects.Sum(objects.Tree, h.encode(d))
	}
	return known
}

// encode returns the body of d's tree, until the next call.
func (h *treeHasher) encode(d *dir) []byte {
	h.entries = d.appendEntries(h.entries[:0])
	h.body = h.entries.AppendTo(h.body[:0])
	return h.body
}

func (d *dir) entries() objects.Entries { return d.appendEntries(nil) }

func (d *dir) appendEntries(entries objects.Entries) objects.Entries {
	for i := range d.nodes {
		n := &d.nodes[i]
		entries = append(entries, objects.Entry{Mode: n.mode, Name: n.name, ID: n.id})
	}
	return entries
}

// putTrees stores the trees below d, but not that of d.
func (s *snapshot) putTrees(d *dir) error {
	var h treeHasher
	return s.putBelow(d, &h)
}

func (s *snapshot) putBelow(d *dir, h *treeHasher) error {
	for i := range d.nodes {
		n := &d.nodes[i]
		if n.dir == nil {
			continue
		}
		if !n.dir.done {
			if err := s.putBelow(n.dir, h); err != nil {
				return err
			}
			id, err := s.w.PutTree(h.encode(n.dir), n.dir.prev)
			if err != nil {
				return err
			}
			n.dir.id = id
		}
		n.id = n.dir.id
	}
	return nil
}
