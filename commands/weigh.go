package commands

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A weigher adds up the files of entries, each counted wherever it stands, for groups
// of them. Trees and sizes are looked up many at once and by id, and those that
// several entries share once for each batch.
type weigher struct {
	db   *odb.DB
	warn func(format string, args ...any)

	sums  []int64 // of the groups
	loads []load  // trees that are to be looked into
}

// A load is a tree or a file that stands in a group so many times.
type load struct {
	id    objects.ID
	group uint32
	times int64
}

// weighBatch is how many trees, or sizes, are looked up at once: so many that each
// block of a pack holds several of them.
const weighBatch = 128 << 10

// add adds an entry to a group.
func (w *weigher) add(ctx context.Context, group int, id objects.ID) error {
	if w.loads = append(w.loads, load{id, uint32(group), 1}); len(w.loads) < weighBatch {
		return nil
	}
	return w.weigh(ctx)
}

// weigh adds up what was added since the last time.
func (w *weigher) weigh(ctx context.Context) error {
	for len(w.loads) > 0 {
		// The last ones first: that keeps the stack short.
		cut := max(0, len(w.loads)-weighBatch)
		batch := together(slices.Clone(w.loads[cut:]))
		w.loads = w.loads[:cut]
		if err := w.descend(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// together sorts loads by id and makes one of those that only differ in number.
func together(loads []load) []load {
	slices.SortFunc(loads, func(a, b load) int { return cmp.Or(a.id.Compare(b.id), cmp.Compare(a.group, b.group)) })
	kept := loads[:0]
	for _, l := range loads {
		if n := len(kept); n > 0 && kept[n-1].id == l.id && kept[n-1].group == l.group {
			kept[n-1].times += l.times
		} else {
			kept = append(kept, l)
		}
	}
	return kept
}

// idsOf returns the ids of loads that are together, each once, and where the loads
// of each begin.
func idsOf(loads []load) (ids []objects.ID, first []int) {
	for i, l := range loads {
		if i == 0 || loads[i-1].id != l.id {
			ids, first = append(ids, l.id), append(first, i)
		}
	}
	return ids, append(first, len(loads))
}

// descend adds up the files that stand right in trees, and puts the trees below on
// the stack.
func (w *weigher) descend(ctx context.Context, trees []load) error {
	ids, first := idsOf(trees)
	var mu sync.Mutex // guards files and w
	var files []load
	lost := func(_ int, id objects.ID, err error) error {
		w.warn("tree %s: %v", id.Short(), err)
		return nil
	}
	err := w.db.ReadMany(ctx, ids, odb.ManyOptions{Lost: lost}, func(i int, k objects.Kind, body []byte) error {
		if k != objects.Tree {
			return lost(i, ids[i], fmt.Errorf("is a %s", k))
		}
		mu.Lock()
		defer mu.Unlock()
		for len(body) > 0 {
			var e objects.RawEntry
			var err error
			if e, body, err = objects.CutEntry(body); err != nil {
				return lost(i, ids[i], err)
			}
			for _, l := range trees[first[i]:first[i+1]] {
				l.id = e.ID
				switch {
				case !e.Mode.IsDir():
					files = append(files, l)
				case e.ID != objects.EmptyTree:
					w.loads = append(w.loads, l)
				}
			}
		}
		if len(files) < 2*weighBatch {
			return nil
		}
		err := w.addFiles(ctx, files)
		files = files[:0]
		return err
	})
	if err != nil {
		return err
	}
	return w.addFiles(ctx, files)
}

func (w *weigher) addFiles(ctx context.Context, files []load) error {
	files = together(files)
	ids, first := idsOf(files)
	sizes, err := w.db.Sizes(ctx, ids)
	if err != nil {
		return err
	}
	for i, n := range sizes {
		for _, l := range files[first[i]:first[i+1]] {
			w.sums[l.group] += max(0, n) * l.times
		}
	}
	return nil
}
