package commands

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
)

// A fan is a tree on the way down to entries, or an entry.
type fan struct {
	id   objects.ID
	kind entry.Kind // from the second level on
	path string     // if paths are wanted
	when int64      // of the oldest commit that is known to have it, in seconds since 1970
}

// A fanWalk finds entries in many trees of branches, level by level: whole levels are
// read in the order in which they are stored, and each tree once.
type fanWalk struct {
	db   *odb.DB
	seen *reach.Set // trees and entries that were met; nil to meet them again
	warn func(format string, args ...any)

	paths bool // whether entries are to know theirs

	// Entries is called with some entries at a time. The slice is the walk's.
	entries func([]fan) error
}

const (
	fanLevels = 4       // of trees above entries
	fanBatch  = 8 << 10 // trees that are read at once: each holds a handful of entries or a few hundred trees
)

// walk finds what is below roots. Those that were made first come first.
func (w *fanWalk) walk(ctx context.Context, roots []fan) error {
	const most = 4 << 10 // commits have most of their trees in common
	for part := range slices.Chunk(roots, most) {
		if err := w.level(ctx, 0, slices.Clone(part)); err != nil {
			return err
		}
	}
	return nil
}

// level reads trees that are so many levels below the roots. It may reorder them.
func (w *fanWalk) level(ctx context.Context, depth int, all []fan) error {
	if w.seen != nil {
		slices.SortStableFunc(all, func(a, b fan) int { return cmp.Compare(a.when, b.when) })
		all = slices.DeleteFunc(all, func(f fan) bool { return f.id == objects.EmptyTree || !w.seen.Add(f.id) })
	}
	if depth == fanLevels {
		return w.entries(all)
	}
	for part := range slices.Chunk(all, fanBatch) {
		below, err := w.below(ctx, depth, part)
		if err == nil && len(below) > 0 {
			err = w.level(ctx, depth+1, below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// below returns the trees in trees.
func (w *fanWalk) below(ctx context.Context, depth int, trees []fan) (below []fan, err error) {
	slices.SortFunc(trees, func(a, b fan) int { return a.id.Compare(b.id) })
	ids := make([]objects.ID, len(trees))
	for i, f := range trees {
		ids[i] = f.id
	}
	var mu sync.Mutex // guards below
	lost := func(_ int, id objects.ID, err error) error {
		w.warn("tree %s: %v", id.Short(), err)
		return nil
	}
	err = w.db.ReadMany(ctx, ids, odb.ManyOptions{Lost: lost}, func(i int, k objects.Kind, body []byte) error {
		if k != objects.Tree {
			return lost(i, ids[i], fmt.Errorf("is a %s", k))
		}
		// Most of a tree is as it was in the commit before, and only passed over.
		var found []fan
		for len(body) > 0 {
			var e objects.RawEntry
			var err error
			if e, body, err = objects.CutEntry(body); err != nil {
				return lost(i, ids[i], err)
			}
			if !e.Mode.IsDir() || w.seen != nil && w.seen.Has(e.ID) {
				continue
			}
			f := fan{id: e.ID, kind: trees[i].kind, when: trees[i].when}
			if depth == 0 {
				f.kind = entry.Kind(e.Name)
			}
			if w.paths {
				f.path = strings.TrimPrefix(trees[i].path+"/"+string(e.Name), "/")
			}
			found = append(found, f)
		}
		mu.Lock()
		defer mu.Unlock()
		below = append(below, found...)
		return nil
	})
	return below, err
}
