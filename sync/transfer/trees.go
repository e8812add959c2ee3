package transfer

import (
	"context"
	"fmt"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// FetchTrees makes sure that db has the commits that tips lead to, with their trees,
// and adds all that they lead to to seen, blobs too, which are not fetched. What is
// in seen is passed over, with what only it leads to: who calls it again for other
// tips pays for what is new. After an error seen lacks something, and must not be
// used any more. What the remote lacks is an objects.ErrNotFound.
func FetchTrees(ctx context.Context, db *odb.DB, r remote.Remote, tips []objects.ID, seen *reach.Set, o Options) (Stats, error) {
	return collect(ctx, db, o, func(ctx context.Context, f *fetcher) error {
		w := treeWalk{f: f, r: r, seen: seen}
		for _, id := range tips {
			w.add(id)
		}
		for len(w.stack) > 0 {
			// The last ones first: that keeps the stack short.
			cut := max(0, len(w.stack)-maxWant)
			batch := append([]objects.ID(nil), w.stack[cut:]...)
			w.stack = w.stack[:cut]
			if err := w.visit(ctx, batch); err != nil {
				return err
			}
			if err := f.settle(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// A treeWalk is one FetchTrees.
type treeWalk struct {
	f    *fetcher
	r    remote.Remote
	seen *reach.Set

	mu    sync.Mutex
	stack []objects.ID // trees, commits and tags to be read; guarded by mu
}

func (w *treeWalk) add(id objects.ID) {
	if w.seen.Add(id) && id != objects.EmptyTree {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stack = append(w.stack, id)
	}
}

// visit fetches what is missing of batch, and adds what it leads to.
func (w *treeWalk) visit(ctx context.Context, batch []objects.ID) error {
	err := w.f.persist(ctx, func() error {
		missing, err := w.f.b.Missing(ctx, batch)
		if err != nil || len(missing) == 0 {
			return err
		}
		return w.f.bring(ctx, w.r, remote.Request{Want: missing, Neighbours: true})
	})
	if err != nil {
		return err
	}
	for _, id := range batch {
		k, err := w.f.b.KindOf(ctx, id)
		if err == nil && k != objects.Blob { // as a ref may lead to
			var body []byte
			if k, body, err = objects.Read(ctx, w.f.b, id); err == nil {
				err = w.below(k, id, body)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", id.Short(), err)
		}
	}
	return nil
}

// below adds what an object leads to.
func (w *treeWalk) below(k objects.Kind, id objects.ID, body []byte) error {
	switch k {
	case objects.Commit:
		c, err := objects.ParseCommit(body)
		if err != nil {
			return err
		}
		w.add(c.Tree)
		if !w.f.o.Shallow[id] {
			for _, p := range c.Parents {
				w.add(p)
			}
		}
	case objects.Tree:
		tree, err := objects.ParseTree(body)
		if err != nil {
			return err
		}
		for _, e := range tree {
			if e.Mode.Kind() == objects.Blob {
				w.seen.Add(e.ID)
			} else {
				w.add(e.ID)
			}
		}
	case objects.Tag:
		t, err := objects.ParseTag(body)
		if err != nil {
			return err
		}
		if t.Kind == objects.Blob {
			w.seen.Add(t.Object)
		} else {
			w.add(t.Object)
		}
	}
	return nil
}
