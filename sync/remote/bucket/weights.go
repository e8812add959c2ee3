package bucket

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
)

// Weights say what objects take in a bucket. They need 36 bytes for each, and 8 for
// each part of one.
type Weights struct {
	Overhead int64 // bytes of packs and indexes that are no object's

	ids     []objects.ID // sorted
	weights []uint32
	parts   []part // sorted
}

// A part says of what an object is made, both by their numbers in ids.
type part struct{ of, id uint32 }

// Weights reads what each object takes in the bucket: its share of the block that it is
// in, and its place in an index; of several copies that which is whole.
func (r *Remote) Weights(ctx context.Context) (*Weights, error) {
	for lost := 1; ; lost++ {
		w, err := r.weights(ctx)
		if !errors.Is(err, errCollected) || lost == tries {
			return w, err
		}
	}
}

func (r *Remote) weights(ctx context.Context) (*Weights, error) {
	c := &collection{r: r, sound: map[spot]bool{}}
	defer c.close()
	v, err := r.again(ctx, r.load, func(v *view) (err error) {
		c.v = v
		c.t, err = r.tableOf(ctx, v, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	w := &Weights{}
	for _, info := range v.Packs {
		w.Overhead += info.Size
	}
	for _, x := range v.Indexes {
		w.Overhead += x.Size
	}
	if err := w.weigh(ctx, c.t); err != nil {
		return nil, err
	}
	return w, w.findParts(ctx, c)
}

// weigh weighs all that is in the table. Dead copies are nobody's overhead.
func (w *Weights) weigh(ctx context.Context, t *table) error {
	raw := make([]int64, len(t.blocks))
	n := 0
	err := t.each(ctx, func(_ objects.ID, copies []entry) error {
		n++
		for _, e := range copies {
			raw[e.block] += int64(e.size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range raw {
		w.Overhead -= int64(t.blocks[i].size)
	}
	w.Overhead = max(0, w.Overhead-int64(t.n)*entrySize)
	w.ids, w.weights = make([]objects.ID, 0, n), make([]uint32, 0, n)
	return t.each(ctx, func(id objects.ID, copies []entry) error {
		e := chosen(copies)
		weight := float64(entrySize)
		if raw[e.block] > 0 {
			weight += float64(t.blocks[e.block].size) * float64(e.size) / float64(raw[e.block])
		}
		w.ids = append(w.ids, id)
		w.weights = append(w.weights, uint32(min(weight, math.MaxUint32)))
		return nil
	})
}

// chosen returns the copy that counts.
func chosen(copies []entry) entry {
	for _, e := range copies {
		if !e.isMadeOfParts() {
			return e
		}
	}
	return copies[0]
}

// findParts reads of what big blobs and trees are made. What can't be read has no
// parts, as far as anybody knows.
func (w *Weights) findParts(ctx context.Context, c *collection) error {
	for {
		batch, err := c.unread(ctx, func(_ objects.ID, copies []entry, add func(entry)) error {
			if e := chosen(copies); e.isMadeOfParts() && !c.parted.Has(c.t.copyKey(e)) {
				add(e)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			break
		}
		err = c.readParts(ctx, batch, func(e entry, parts []objects.ID, _ bool) {
			c.parted.Add(c.t.copyKey(e))
			of, _ := w.find(e.id)
			for _, id := range parts {
				if i, ok := w.find(id); ok {
					w.parts = append(w.parts, part{uint32(of), uint32(i)})
				}
			}
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(w.parts, part.compare)
	w.parts = slices.Compact(w.parts)
	return nil
}

func (p part) compare(q part) int {
	if p.of != q.of {
		return int(int64(p.of) - int64(q.of))
	}
	return int(int64(p.id) - int64(q.id))
}

func (w *Weights) find(id objects.ID) (int, bool) {
	return slices.BinarySearchFunc(w.ids, id, objects.ID.Compare)
}

// Of returns about how many bytes an object takes, with those of the parts it is made
// of for which add returns true. What the bucket lacks weighs nothing.
func (w *Weights) Of(id objects.ID, add func(part objects.ID) bool) int64 {
	i, ok := w.find(id)
	if !ok {
		return 0
	}
	total := int64(w.weights[i])
	at, _ := slices.BinarySearchFunc(w.parts, part{of: uint32(i)}, part.compare)
	for ; at < len(w.parts) && w.parts[at].of == uint32(i); at++ {
		if n := w.parts[at].id; add(w.ids[n]) {
			total += int64(w.weights[n])
		}
	}
	return total
}
