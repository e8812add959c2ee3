package replica

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
)

// Reach adds to seen all that tips lead to, as server.Store says. It brings commits and
// trees into the cache, many at once, and asks the indexes of the bucket which blobs are
// big. What the bucket lacks leads nowhere.
func (s *Store) Reach(ctx context.Context, tips []objects.ID, seen *reach.Set, visit func(objects.ID) error) error {
	shallow, err := s.Shallow(ctx)
	if err != nil {
		return err
	}
	if visit == nil {
		visit = func(objects.ID) error { return nil }
	}
	g := s.replica.cache.use()
	defer g.release()
	w := walk{g: g, there: s.Remote, seen: seen, visit: visit, isCut: setOf(shallow)}
	for _, id := range tips {
		if err := w.add(id, objects.Commit); err != nil {
			return err
		}
	}
	for err == nil {
		switch {
		case len(w.commits) > 0:
			err = w.read(ctx, &w.commits, visit)
		case len(w.blobs) >= maxAsk || len(w.trees) == 0 && len(w.blobs) > 0:
			err = w.chunks(ctx)
		case len(w.trees) > 0:
			err = w.read(ctx, &w.trees, nil)
		default:
			return nil
		}
	}
	return err
}

// A walk is one Reach.
type walk struct {
	g     *generation
	there *bucket.Remote
	seen  *reach.Set
	visit func(objects.ID) error
	isCut map[objects.ID]bool

	mu      sync.Mutex
	commits []objects.ID // guarded by mu; tips and tagged objects, too, to be read
	trees   []objects.ID // guarded by mu; to be read
	blobs   []objects.ID // guarded by mu; to be looked for
}

// add takes an object that something leads to which calls it a k. It is visited before
// anybody looks for it: for whom it is not there, nobody does. Only commits may be
// missing without harm, where history ends: they are visited if they are there.
func (w *walk) add(id objects.ID, k objects.Kind) error {
	switch {
	case !w.seen.Add(id):
		return nil
	case k == objects.Commit || k == objects.Tag:
		w.commits = append(w.commits, id)
		return nil
	}
	if err := w.visit(id); err != nil || id == objects.EmptyTree {
		return err
	}
	if k == objects.Blob {
		w.blobs = append(w.blobs, id)
	} else {
		w.trees = append(w.trees, id)
	}
	return nil
}

// last takes up to maxAsk ids from the end of a list, which keeps it short.
func last(all *[]objects.ID) []objects.ID {
	n := max(0, len(*all)-maxAsk)
	some := slices.Clone((*all)[n:])
	*all = (*all)[:n]
	return some
}

// read adds what some objects lead to. Visit, if it is not nil, is told of them.
func (w *walk) read(ctx context.Context, of *[]objects.ID, visit func(objects.ID) error) error {
	some := last(of)
	if err := w.g.fetch(ctx, some); err != nil && !errors.Is(err, objects.ErrNotFound) {
		return err
	}
	return w.g.db.Each(odb.Local(ctx), some, func(i int, k objects.Kind, body []byte, err error) error {
		if errors.Is(err, objects.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if visit != nil {
			if err := visit(some[i]); err != nil {
				return err
			}
		}
		return w.below(some[i], k, body)
	})
}

// below adds what an object leads to. W.mu is held.
func (w *walk) below(id objects.ID, k objects.Kind, body []byte) error {
	switch k {
	case objects.Blob:
		w.blobs = append(w.blobs, id)
	case objects.Tag:
		if t, err := objects.ParseTag(body); err == nil {
			return w.add(t.Object, t.Kind)
		}
	case objects.Commit:
		c, err := objects.ParseCommit(body)
		if err != nil {
			return nil
		}
		if !w.isCut[id] {
			for _, p := range c.Parents {
				if err := w.add(p, objects.Commit); err != nil {
					return err
				}
			}
		}
		return w.add(c.Tree, objects.Tree)
	case objects.Tree:
		tree, _ := objects.ParseTree(body)
		for _, e := range tree {
			if err := w.add(e.ID, e.Mode.Kind()); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunks adds the chunks of some blobs. What is called a blob and is none is looked
// into as what it is, since that is how it is sent to who asks for it.
func (w *walk) chunks(ctx context.Context) error {
	others, err := w.there.Chunks(ctx, last(&w.blobs), func(_, chunk objects.ID) error {
		w.seen.Add(chunk)
		return nil
	})
	w.trees = append(w.trees, others...)
	return err
}

// maxCovers is how many commits Covers looks at. More are hardly ever pushed at once,
// and what is not found there costs a walk through what has been seen before.
const maxCovers = 4 << 10

// Covers reports whether tips lead to the commits old, as far as it looks.
func (s *Store) Covers(ctx context.Context, tips, old []objects.ID) (bool, error) {
	shallow, err := s.Shallow(ctx)
	if err != nil {
		return false, err
	}
	isCut := setOf(shallow)
	g := s.replica.cache.use()
	defer g.release()
	left, seen := setOf(old), map[objects.ID]bool{}
	for level := tips; len(level) > 0; {
		for _, id := range level {
			seen[id] = true
			delete(left, id)
		}
		if len(left) == 0 || len(seen) > maxCovers {
			break
		}
		if level, err = g.parents(ctx, level, isCut, seen); err != nil {
			return false, err
		}
	}
	return len(left) == 0, nil
}

// parents returns those of some commits that are not in seen.
func (g *generation) parents(ctx context.Context, commits []objects.ID, isCut, seen map[objects.ID]bool) (parents []objects.ID, err error) {
	if err := g.fetch(ctx, commits); err != nil && !errors.Is(err, objects.ErrNotFound) {
		return nil, err
	}
	for _, id := range commits {
		k, body, err := objects.Read(odb.Local(ctx), g.db, id)
		if errors.Is(err, objects.ErrNotFound) || err == nil && k != objects.Commit {
			continue
		}
		if err != nil {
			return nil, err
		}
		c, err := objects.ParseCommit(body)
		if err != nil || isCut[id] {
			continue
		}
		for _, p := range c.Parents {
			if !seen[p] {
				parents = append(parents, p)
			}
		}
	}
	return parents, nil
}
