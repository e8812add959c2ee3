package peer

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// FetchPaths returns a pack with the trees that lead to paths, and as much of what
// is there as budget allows.
func (r *Remote) FetchPaths(ctx context.Context, paths []remote.Path, budget int64) (io.ReadCloser, error) {
	w := pathWalk{r: r, left: budget, seen: map[objects.ID]bool{}}
	for _, p := range paths {
		if err := w.path(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := w.below(ctx); err != nil {
		return nil, err
	}
	return r.send(ctx, w.ids, odb.ParcelOptions{})
}

// A pathWalk gathers what some paths lead to.
type pathWalk struct {
	r     *Remote
	left  int64
	seen  map[objects.ID]bool
	ids   []objects.ID // to be sent
	trees []objects.ID // to be looked into, if there is budget left
	blobs []objects.ID
}

// take puts an object among those that are sent.
func (w *pathWalk) take(id objects.ID, size int) {
	if w.seen[id] || id == objects.EmptyTree {
		return
	}
	w.seen[id] = true
	w.ids = append(w.ids, id)
	w.left -= int64(size)
}

// path follows one path as far as it goes.
func (w *pathWalk) path(ctx context.Context, p remote.Path) error {
	k, body, err := objects.Read(ctx, w.r.db, p.Root)
	if err != nil {
		return err
	}
	id := p.Root
	if k == objects.Commit {
		c, err := objects.ParseCommit(body)
		if err != nil {
			return err
		}
		w.take(id, len(body))
		id = c.Tree
	}
	at := objects.Entry{Mode: objects.ModeDir, ID: id}
	for rest := p.Path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if at.Mode.Kind() != objects.Tree {
			return nil
		}
		tree, err := w.tree(ctx, at.ID)
		if err != nil {
			return err
		}
		var ok bool
		if at, ok = tree.Find(name); !ok {
			return nil
		}
	}
	w.later(at)
	return nil
}

func (w *pathWalk) tree(ctx context.Context, id objects.ID) (objects.Entries, error) {
	body, err := objects.ReadKind(ctx, w.r.db, id, objects.Tree)
	if err != nil && id != objects.EmptyTree {
		return nil, err
	}
	w.take(id, len(body))
	return objects.ParseTree(body)
}

func (w *pathWalk) later(e objects.Entry) {
	if e.Mode.Kind() == objects.Tree {
		w.trees = append(w.trees, e.ID)
	} else {
		w.blobs = append(w.blobs, e.ID)
	}
}

// below takes what is at the ends of the paths, level by level, trees first.
func (w *pathWalk) below(ctx context.Context) error {
	for len(w.trees) > 0 && w.left > 0 {
		level := w.trees
		w.trees = nil
		if err := w.r.db.Prefetch(ctx, level); err != nil {
			return err
		}
		for _, id := range level {
			if w.left <= 0 {
				break
			}
			tree, err := w.tree(ctx, id)
			if err != nil {
				return err
			}
			for _, e := range tree {
				w.later(e)
			}
		}
	}
	if err := w.r.db.Prefetch(ctx, w.blobs); err != nil {
		return err
	}
	for _, id := range w.blobs {
		if w.left <= 0 {
			break
		}
		_, size, err := w.r.db.Stat(ctx, id)
		if errors.Is(err, objects.ErrNotFound) {
			continue // who wants it asks for it, and is told
		}
		if err != nil {
			return err
		}
		if size <= w.left {
			w.take(id, int(size))
		}
	}
	return nil
}
