package odb

import (
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/objects"
)

// recordCost is about what a record takes beside its bytes: its place in the index,
// and in the table of its block.
const recordCost = 48

// Weigh returns about how many bytes an object takes in its pack, compressed, with
// those of the parts it is made of for which add returns true. What is not here
// weighs nothing.
func (db *DB) Weigh(ctx context.Context, id objects.ID, add func(part objects.ID) bool) (int64, error) {
	total := int64(0)
	err := db.eachShown(ctx, id, func(h hit) error {
		total = h.weight()
		if !isMade(h.entry.Type) {
			return nil
		}
		record, b, err := db.record(h)
		if err != nil {
			return err
		}
		var parts []objects.ID
		err = partsOf(func(part objects.ID) bool {
			if !add(part) {
				return false
			}
			parts = append(parts, part)
			return true
		}, h.entry.Type, record)
		b.release()
		for _, part := range parts {
			if e := db.eachShown(ctx, part, func(h hit) error {
				total += h.weight()
				return nil
			}); e != nil && !errors.Is(e, objects.ErrNotFound) {
				err = errors.Join(err, e)
			}
		}
		return err
	})
	if errors.Is(err, objects.ErrNotFound) {
		return 0, ctx.Err()
	}
	return total, err
}

// weight is about how much of its pack a record takes.
func (h hit) weight() int64 {
	n, err := h.index.BlockOf(h.entry.Record)
	if err != nil {
		return recordCost
	}
	b, err := h.index.Block(n)
	if err != nil || b.Raw == 0 {
		return recordCost
	}
	return recordCost + int64(float64(h.entry.Size)*float64(b.Stored)/float64(b.Raw))
}

// weightOf returns what all records of a pack weigh.
func (db *DB) weightOf(p *stored) int64 {
	x, err := db.open(p)
	if err != nil {
		return 0
	}
	total := int64(x.Len()) * recordCost
	for n := range x.Blocks() {
		if b, err := x.Block(n); err == nil {
			total += int64(b.Stored)
		}
	}
	return total
}
