package gitpack

import (
	"context"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
)

// maxDepth is how deep Git lets trees nest.
const maxDepth = 4096

// A walk finds what an export lacks and hands it out in batches, children
// first: whenever it stops, an object that was handed out, and with it all that
// was handed out before, has everything it leads to. So whatever is there need
// not be looked into again, and nothing but what is there needs to be remembered.
// (Package reach goes the other way, parents first, and remembers it all.)
type walk struct {
	objects objects.Reader
	has     func(objects.ID) bool    // is it in a pack that is written?
	cut     map[objects.ID]struct{}  // commits whose parents are gone
	write   func([]objects.ID) error // a batch; true of has when it returns
	max     int                      // size of a batch

	batch []objects.ID
	found map[objects.ID]struct{} // found since the last batch was written
}

// start reports whether id is new, and remembers it. An object that is started
// but not yet added leads to all that is added until then; so it cannot be met
// again meanwhile, even if a batch was written and found is empty.
func (w *walk) start(id objects.ID) bool {
	if _, ok := w.found[id]; ok || w.has(id) {
		return false
	}
	w.found[id] = struct{}{}
	return true
}

func (w *walk) add(id objects.ID) error {
	w.batch = append(w.batch, id)
	if len(w.batch) < w.max {
		return nil
	}
	return w.flush()
}

// flush writes what was added and not yet written.
func (w *walk) flush() error {
	if len(w.batch) == 0 {
		return nil
	}
	if err := w.write(w.batch); err != nil {
		return err
	}
	w.batch = w.batch[:0]
	clear(w.found)
	return nil
}

// any visits what a ref points to.
func (w *walk) any(ctx context.Context, id objects.ID) error {
	if w.has(id) {
		return nil
	}
	o, err := w.objects.Open(ctx, id)
	if err != nil {
		return err
	}
	o.Body.Close()
	return w.visit(ctx, o.Kind, id)
}

func (w *walk) visit(ctx context.Context, k objects.Kind, id objects.ID) error {
	switch k {
	case objects.Commit:
		return w.commit(ctx, id)
	case objects.Tree:
		return w.tree(ctx, id, 0)
	case objects.Tag:
		return w.tag(ctx, id)
	}
	if !w.start(id) {
		return nil
	}
	return w.add(id)
}

func (w *walk) tag(ctx context.Context, id objects.ID) error {
	if !w.start(id) {
		return nil
	}
	t, err := objects.ReadTag(ctx, w.objects, id)
	if err != nil {
		return err
	}
	if err := w.visit(ctx, t.Kind, t.Object); err != nil {
		return fmt.Errorf("tag %s: %w", t.Name, err)
	}
	return w.add(id)
}

// An openCommit waits for its parents.
type openCommit struct {
	id, tree objects.ID
	parents  []objects.ID // those not yet visited
}

// commit visits a history, which may be long: no recursion here.
func (w *walk) commit(ctx context.Context, tip objects.ID) error {
	var stack []openCommit
	open := func(id objects.ID) error {
		if !w.start(id) {
			return nil
		}
		c, err := objects.ReadCommit(ctx, w.objects, id)
		if err != nil {
			return err
		}
		if _, cut := w.cut[id]; cut {
			c.Parents = nil
		}
		stack = append(stack, openCommit{id: id, tree: c.Tree, parents: c.Parents})
		return nil
	}
	if err := open(tip); err != nil {
		return err
	}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.parents) > 0 {
			next := top.parents[0]
			top.parents = top.parents[1:]
			if err := open(next); err != nil {
				return fmt.Errorf("history of %s: %w", tip.Short(), err)
			}
			continue
		}
		if err := w.tree(ctx, top.tree, 0); err != nil {
			return fmt.Errorf("commit %s: %w", top.id.Short(), err)
		}
		if err := w.add(top.id); err != nil {
			return err
		}
		stack = stack[:len(stack)-1]
	}
	return nil
}

func (w *walk) tree(ctx context.Context, id objects.ID, depth int) error {
	if !w.start(id) {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("tree %s: nested more than %d deep", id, maxDepth)
	}
	entries, err := objects.ReadTree(ctx, w.objects, id)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case e.Mode.IsDir():
			err = w.tree(ctx, e.ID, depth+1)
		case w.start(e.ID):
			err = w.add(e.ID)
		}
		if err != nil {
			return err
		}
	}
	return w.add(id)
}
