package odb

import (
	"cmp"
	"container/heap"
	"context"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A Census is how much is stored, each thing once however many packs have it.
type Census struct {
	Objects map[objects.Kind]int
	Chunks  int

	Blobs  int64 // bytes of all blobs, big ones as they are when they are put together
	Pieces int64 // bytes of small blobs, and of the chunks that big ones are made of
	Saved  int64 // bytes that compression saves, of all that is in packs
}

// Count counts what is stored. It reads indexes, and of the packs only what big
// blobs are made of.
func (db *DB) Count(ctx context.Context) (Census, error) {
	c := Census{Objects: map[objects.Kind]int{}}
	s, err := db.packs()
	if err == nil {
		s, _, err = db.refresh(s)
	}
	if err != nil {
		return c, err
	}
	var q byID
	for _, p := range s.packs {
		x, err := db.open(p)
		if err != nil {
			db.warn(err) // what it holds counts as missing
			continue
		}
		for n := range x.Blocks() {
			if b, err := x.Block(n); err == nil {
				c.Saved += int64(b.Raw) - int64(b.Stored)
			}
		}
		cur := &cursor{x: x}
		if cur.next() {
			q = append(q, cur)
		}
	}
	heap.Init(&q)
	var last objects.ID
	var big []objects.ID
	for n := 0; len(q) > 0; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return c, ctx.Err()
		}
		cur := q[0]
		if n == 0 || cur.id != last {
			c.add(cur.e)
			if cur.e.Type == pack.Recipe {
				big = append(big, cur.id)
			}
		}
		last = cur.id
		if cur.next() {
			heap.Fix(&q, 0)
		} else {
			heap.Pop(&q)
		}
	}
	sizes, err := db.Sizes(ctx, big)
	for _, n := range sizes {
		c.Blobs += max(0, n)
	}
	return c, err
}

func (c *Census) add(e pack.Entry) {
	switch e.Type {
	case pack.Chunk:
		c.Chunks++
		c.Pieces += int64(e.Size)
		return
	case pack.Blob:
		c.Blobs += int64(e.Size)
		c.Pieces += int64(e.Size)
	}
	c.Objects[e.Type.Kind()]++
}

// A cursor goes through an index by id.
type cursor struct {
	x  *pack.Index
	at int
	id objects.ID
	e  pack.Entry
}

// next reports whether there is another id. A fault in the index ends it early.
func (c *cursor) next() bool {
	if c.at == c.x.Len() {
		return false
	}
	var err error
	c.id, c.e, err = c.x.At(c.at)
	c.at++
	return err == nil
}

// byID is a heap of cursors.
type byID []*cursor

func (q byID) Len() int           { return len(q) }
func (q byID) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q byID) Less(i, j int) bool { return q[i].id.Compare(q[j].id) < 0 }
func (q *byID) Push(c any)        { *q = append(*q, c.(*cursor)) }
func (q *byID) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// Sizes returns for each of ids the size of its body as the indexes have it, not
// proven; of a big blob that of the whole; -1 for what is not here. It is quickest for ids
// that are sorted: they lie side by side in the indexes.
func (db *DB) Sizes(ctx context.Context, ids []objects.ID) ([]int64, error) {
	sizes := make([]int64, len(ids))
	var big []wanted
	err := db.eachEntry(ctx, ids, func(i int, h hit) error {
		sizes[i] = int64(h.entry.Size)
		if h.entry.Type == pack.Recipe {
			big = append(big, wanted{i: i, hit: h})
		}
		return nil
	}, func(i int) { sizes[i] = -1 })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(big, func(a, b wanted) int { // as they are stored
		return cmp.Or(cmp.Compare(a.hit.pack.base, b.hit.pack.base), cmp.Compare(a.entry().Record, b.entry().Record))
	})
	for _, w := range big {
		r, done, err := db.recipe(w.hit)
		if err != nil {
			sizes[w.i] = -1
			continue
		}
		sizes[w.i] = r.Size
		done()
	}
	return sizes, ctx.Err()
}

// eachEntry calls fn for each of ids that the indexes show, and lost for the others.
func (db *DB) eachEntry(ctx context.Context, ids []objects.ID, fn func(int, hit) error, lost func(int)) error {
	s, err := db.packs()
	if err != nil {
		return err
	}
	for i := range ids {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		found := false
		for _, p := range s.packs {
			x, err := db.open(p)
			if err != nil {
				continue
			}
			e, ok, err := x.Find(&ids[i])
			if !ok || err != nil {
				continue
			}
			found = true
			if err := fn(i, hit{p, x, e}); err != nil {
				return err
			}
			break
		}
		if !found {
			lost(i)
		}
	}
	return nil
}

// recipe returns what a big blob is made of, which is valid until done is called.
func (db *DB) recipe(h hit) (r pack.BlobRecipe, done func(), err error) {
	record, b, err := db.record(h)
	if err != nil {
		return r, nil, err
	}
	if r, err = pack.ParseRecipe(record); err != nil {
		b.release()
		return r, nil, err
	}
	return r, b.release, nil
}

// Stored calls fn for each of ids that is here, and for each chunk of those that are
// big blobs, with about how many bytes it takes in its pack. What several of ids
// are made of it is told of several times.
func (db *DB) Stored(ctx context.Context, ids []objects.ID, fn func(id objects.ID, bytes int64)) error {
	var chunks []objects.ID
	tell := func(ids []objects.ID) error {
		return db.eachEntry(ctx, ids, func(i int, h hit) error {
			fn(ids[i], storedBytes(h))
			if h.entry.Type != pack.Recipe {
				return nil
			}
			r, done, err := db.recipe(h)
			if err != nil {
				return nil // damaged: fsck says so
			}
			defer done()
			for i := range r.Len() {
				chunks = append(chunks, r.Piece(i).ID)
			}
			return nil
		}, func(int) {})
	}
	if err := tell(ids); err != nil {
		return err
	}
	return tell(chunks)
}

// storedBytes is about how many bytes of its pack a record takes.
func storedBytes(h hit) int64 {
	n, err := h.index.BlockOf(h.entry.Record)
	if err != nil {
		return 0
	}
	b, err := h.index.Block(n)
	if err != nil || b.Raw == 0 {
		return 0
	}
	return int64(h.entry.Size) * int64(b.Stored) / int64(b.Raw)
}
