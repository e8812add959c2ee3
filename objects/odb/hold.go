package odb

import (
	"cmp"
	"context"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A record that nobody needs may stay where it is for a while, since its pack is not
// worth to be written anew. If it is made of others these stay as long: whoever writes
// the same object finds it here, and stores nothing.

// hold takes note of what dead records are made of in packs that are new to the sweep.
func (w *sweeper) hold(ctx context.Context, packs []*stored) error {
	for _, p := range packs {
		if _, known := w.holds[p.base]; known {
			continue
		}
		x, err := w.db.open(p)
		if err != nil {
			continue
		}
		parts, err := w.partsOfDead(ctx, p, x)
		if err != nil {
			return err
		}
		w.holds[p.base] = parts
		w.retain(p)
	}
	return nil
}

// partsOfDead returns what the records of one pack are made of that nobody needs, each
// once: those that are to stay for another reason as well.
func (w *sweeper) partsOfDead(ctx context.Context, p *stored, x *pack.Index) (parts []objects.ID, err error) {
	var made []indexedRecord
	for id, e := range x.All() {
		if isMade(e.Type) && !w.o.Live.Has(id) && !w.parts.Has(id) {
			made = append(made, indexedRecord{id, e})
		}
	}
	slices.SortFunc(made, func(a, b indexedRecord) int { return cmp.Compare(a.e.Record, b.e.Record) })
	seen := map[objects.ID]bool{}
	for _, r := range made {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		record, b, err := w.db.record(hit{p, x, r.e})
		if err != nil {
			continue // it is damaged, and that of nobody's
		}
		_ = partsOf(func(id objects.ID) bool {
			if !seen[id] {
				seen[id], parts = true, append(parts, id)
			}
			return true
		}, r.e.Type, record)
		b.release()
	}
	return parts, nil
}

// release says that the dead records of a pack are about to go; retain that they are
// not.
func (w *sweeper) release(p *stored) {
	for _, id := range w.holds[p.base] {
		if w.held[id]--; w.held[id] == 0 {
			delete(w.held, id)
		}
	}
}

func (w *sweeper) retain(p *stored) {
	for _, id := range w.holds[p.base] {
		w.held[id]++
	}
}

// heldBack returns about how many bytes of other packs stay only because of the dead
// records of p, which was released.
func (w *sweeper) heldBack(p *stored) (bytes int64) {
	s, err := w.db.packs()
	if err != nil || len(w.holds[p.base]) == 0 {
		return 0
	}
	for _, id := range w.holds[p.base] {
		if w.held[id] > 0 {
			continue
		}
		for _, q := range s.packs {
			x := q.index.Load()
			if x == nil || q.base == p.base {
				continue
			}
			if e, ok, err := x.Find(&id); err == nil && ok && !w.isLive(q, id, e.Type) {
				bytes += int64(e.Size)
				break
			}
		}
	}
	return bytes
}
