package odb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// beneath adds what some objects are made of: chunks of big blobs, bases of trees.
func (w *sweeper) beneath(ctx context.Context, ids []objects.ID) error {
	s, err := w.db.packs()
	if err != nil {
		return err
	}
	for _, p := range s.packs {
		x, err := w.db.open(p)
		if err != nil {
			continue
		}
		var parts []indexedRecord
		for _, id := range ids {
			if e, ok, err := x.Find(&id); err == nil && ok && isMade(e.Type) {
				parts = append(parts, indexedRecord{id, e})
			}
		}
		if err := w.addParts(ctx, p, x, parts, w.parts); err != nil {
			return err
		}
	}
	return nil
}

// scan is beneath for all that is live, and for what is in young packs: who sends a blob
// in chunks leaves out those that are here. It looks at packs that it has not seen yet.
func (w *sweeper) scan(ctx context.Context) error {
	s, _, err := w.db.refresh(w.db.set.Load())
	if err != nil {
		return err
	}
	for _, p := range s.packs {
		if w.scanned[p.base] {
			continue
		}
		x, err := w.db.open(p)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errTorn):
			continue // what was in it is in another one, or nowhere
		case err != nil: // nobody knows what is in it
			w.keepChunks, w.keepTrees = true, true
			continue
		}
		w.scanned[p.base] = true
		if err := w.scanPack(ctx, p, x); err != nil {
			return err
		}
	}
	return nil
}

func (w *sweeper) scanPack(ctx context.Context, p *stored, x *pack.Index) error {
	var parts, before []indexedRecord
	for id, e := range x.All() {
		switch {
		case !isMade(e.Type):
		case w.isLive(p, id, e.Type):
			parts = append(parts, indexedRecord{id, e})
		case w.o.Before != nil && w.o.Before.Has(id):
			before = append(before, indexedRecord{id, e})
		}
	}
	if err := w.addParts(ctx, p, x, parts, w.parts); err != nil {
		return err
	}
	return w.addParts(ctx, p, x, before, w.before)
}

// isMade reports whether a record is made of others.
func isMade(t pack.Type) bool { return t == pack.Recipe || t == pack.Delta }

// addParts adds to a set what records of one pack are made of. Each block is decoded
// once.
func (w *sweeper) addParts(ctx context.Context, p *stored, x *pack.Index, records []indexedRecord, to Set) error {
	slices.SortFunc(records, func(a, b indexedRecord) int { return cmp.Compare(a.e.Record, b.e.Record) })
	for _, r := range records {
		if err := ctx.Err(); err != nil {
			return err
		}
		record, b, err := w.db.record(hit{p, x, r.e})
		if err == nil {
			err = partsOf(to.Add, r.e.Type, record)
			b.release()
		}
		if err == nil {
			continue
		}
		w.db.warn(fmt.Errorf("pack %s: %s %s: what it is made of stays: %w", p.base, r.e.Type, r.id, err))
		w.keepChunks = w.keepChunks || r.e.Type == pack.Recipe
		w.keepTrees = w.keepTrees || r.e.Type == pack.Delta
	}
	return nil
}

func partsOf(add func(objects.ID) bool, t pack.Type, record []byte) error {
	if t == pack.Delta {
		d, err := pack.ParseDelta(record)
		if err == nil {
			add(d.Base)
		}
		return err
	}
	recipe, err := pack.ParseRecipe(record)
	if err != nil {
		return err
	}
	for i := range recipe.Len() {
		add(recipe.Piece(i).ID)
	}
	return nil
}
