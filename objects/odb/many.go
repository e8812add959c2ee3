package odb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"golang.org/x/sync/errgroup"
)

// ManyOptions say how ReadMany works.
type ManyOptions struct {
	// Parallel is the number of workers. Zero is one for each processor.
	Parallel int

	// Big is called for blobs that are stored in chunks, in place of fn, from the
	// same workers and before the small objects. It opens the blob itself. Nil
	// gives them to fn too, whole in memory.
	Big func(i int, id objects.ID, size int64) error

	// Lost is called for objects that are missing (objects.ErrNotFound) or
	// damaged. Nil ends ReadMany with that error.
	Lost func(i int, id objects.ID, err error) error
}

// ReadMany calls fn once for each of ids, concurrently and in the order in which
// the objects are stored, with proven bytes that are valid until fn returns. It
// decodes each block once. If fn fails, ReadMany stops and returns that error.
func (db *DB) ReadMany(ctx context.Context, ids []objects.ID, o ManyOptions, fn func(i int, k objects.Kind, body []byte) error) error {
	m := &many{db: db, ids: ids, o: o, fn: fn}
	if err := m.plan(ctx); err != nil {
		return err
	}
	workers := o.Parallel
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = min(workers, len(m.single)+len(m.blocks))
	if workers <= 1 {
		return m.work(ctx)
	}
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error { return m.work(ctx) })
	}
	return group.Wait()
}

// ReadSmall is ReadMany for who reads big blobs by himself: it returns which of ids
// they are, and does not open them.
func (db *DB) ReadSmall(ctx context.Context, ids []objects.ID, fn func(i int, k objects.Kind, body []byte) error) (big []int, err error) {
	var mu sync.Mutex
	err = db.ReadMany(ctx, ids, ManyOptions{Big: func(i int, _ objects.ID, _ int64) error {
		mu.Lock()
		defer mu.Unlock()
		big = append(big, i)
		return nil
	}}, fn)
	return big, err
}

// many is one ReadMany.
type many struct {
	db  *DB
	ids []objects.ID
	o   ManyOptions
	fn  func(int, objects.Kind, []byte) error

	single []wanted   // what is not read by blocks
	blocks [][]wanted // what is: each the records of one block, in order
	next   atomic.Int64
}

// wanted is one of the ids, and where it is.
type wanted struct {
	i   int
	hit hit
	n   int // block in the pack
	err error
}

// plan looks everything up, and puts it in the order of storage.
func (m *many) plan(ctx context.Context) error {
	if err := m.db.Prefetch(ctx, m.ids); err != nil {
		return err
	}
	s, err := m.db.packs()
	if err != nil {
		return err
	}
	order := make(map[*stored]int, len(s.packs))
	for i, p := range s.packs {
		order[p] = i
	}
	all := make([]wanted, 0, len(m.ids))
	for i := range m.ids {
		w := wanted{i: i}
		w.err = m.db.eachCopy(ctx, m.ids[i], func(h hit) (err error) {
			w.hit = h
			w.n, err = h.index.BlockOf(h.entry.Record)
			return err
		})
		if t := w.entry().Type; w.err == nil && t <= pack.Tag {
			all = append(all, w)
		} else {
			m.single = append(m.single, w)
		}
	}
	byStorage := func(a, b wanted) int {
		return cmp.Or(cmp.Compare(order[a.hit.pack], order[b.hit.pack]), cmp.Compare(a.entry().Record, b.entry().Record), cmp.Compare(a.i, b.i))
	}
	slices.SortFunc(all, byStorage)
	slices.SortFunc(m.single, byStorage) // blobs kept one after the other share chunks
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].hit.pack == all[0].hit.pack && all[n].n == all[0].n {
			n++
		}
		m.blocks = append(m.blocks, all[:n])
		all = all[n:]
	}
	return nil
}

func (w *wanted) entry() pack.Entry { return w.hit.entry }

func (m *many) work(ctx context.Context) error {
	var d pack.Data
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int(m.next.Add(1)) - 1
		var err error
		switch {
		case n < len(m.single):
			err = m.one(ctx, m.single[n])
		case n < len(m.single)+len(m.blocks):
			err = m.block(ctx, m.blocks[n-len(m.single)], &d)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// block hands out what is wanted of one block.
func (m *many) block(ctx context.Context, all []wanted, d *pack.Data) error {
	first := all[0].hit
	info, err := first.index.Block(all[0].n)
	if err == nil {
		err = readInfo(first.pack.file, info, d)
	}
	proven, provenID := -1, objects.ID{}
	for j, w := range all {
		good := false
		if i := int(w.entry().Record - info.First); err == nil && i < d.Len() {
			t, body := d.Record(i)
			// The same object may be wanted at several places; a damaged index may lead to
			// one record from several ids.
			good = i == proven && m.ids[w.i] == provenID || t == w.entry().Type && objects.Sum(t.Kind(), body) == m.ids[w.i]
			if good {
				proven, provenID = i, m.ids[w.i]
				if err := m.fn(w.i, t.Kind(), body); err != nil {
					return err
				}
			}
		}
		if !good {
			// Somewhere else there may be a better copy, and an index to mend.
			if err := m.one(ctx, all[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// one hands out a single object.
func (m *many) one(ctx context.Context, w wanted) error {
	id := m.ids[w.i]
	if w.err == nil && w.entry().Type == pack.Recipe && m.o.Big != nil {
		_, size, err := m.db.Stat(ctx, id)
		if err != nil {
			return m.lost(w.i, err)
		}
		return m.o.Big(w.i, id, size)
	}
	k, body, err := m.db.ReadBytes(ctx, id)
	if err != nil {
		return m.lost(w.i, err)
	}
	return m.fn(w.i, k, body)
}

func (m *many) lost(i int, err error) error {
	if m.o.Lost != nil && errors.Is(err, objects.ErrNotFound) {
		return m.o.Lost(i, m.ids[i], err)
	}
	return fmt.Errorf("object %s: %w", m.ids[i], err)
}
