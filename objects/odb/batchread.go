package odb

import (
	"bytes"
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// errNotHere says that the batch does not hold an object itself.
var errNotHere = errors.New("not in this batch")

// own returns a copy of a record that the batch holds itself, not proven.
func (b *Batch) own(id objects.ID) (pack.Type, []byte, error) {
	p, ok := b.seen.get(&id)
	if !ok || p.block == nil || b.committed.Load() {
		return 0, nil, errNotHere
	}
	t, body, n := p.block.record(int(p.record), id)
	if body != nil || t != 0 {
		return t, body, nil
	}
	if n < 0 {
		return 0, nil, errNotHere
	}
	raw := int(p.block.to.w.Block(n).Raw)
	block, err := b.db.cache.get(blockKey{p.block.to, n}, raw, func(d *pack.Data) error { return p.block.to.read(n, d) })
	if err != nil {
		return 0, nil, err
	}
	defer block.release()
	if int(p.record) >= block.Len() {
		return 0, nil, errNotHere
	}
	t, body = block.Record(int(p.record))
	return t, bytes.Clone(body), nil
}

// rawRecord returns a record of the batch or the store, not proven.
func (b *Batch) rawRecord(ctx context.Context, id objects.ID) (t pack.Type, body []byte, err error) {
	if t, body, err = b.own(id); !errors.Is(err, errNotHere) {
		return t, body, err
	}
	return b.db.rawRecord(ctx, id)
}

func (db *DB) rawRecord(ctx context.Context, id objects.ID) (t pack.Type, body []byte, err error) {
	err = db.eachCopy(ctx, id, func(h hit) error {
		record, block, err := db.record(h)
		if err == nil {
			t, body = h.entry.Type, bytes.Clone(record)
			block.release()
		}
		return err
	})
	return t, body, err
}

// ReadBytes is DB.ReadBytes for all that is in the store and in the batch.
func (b *Batch) ReadBytes(ctx context.Context, id objects.ID) (objects.Kind, []byte, error) {
	t, record, err := b.own(id)
	if errors.Is(err, errNotHere) {
		return b.db.ReadBytes(ctx, id)
	}
	if err != nil {
		return 0, nil, err
	}
	switch t {
	case pack.Delta:
		tree, err := applyDelta(id, record, func(base objects.ID) ([]byte, error) {
			k, body, err := b.ReadBytes(ctx, base)
			if err == nil && k != objects.Tree {
				err = errWrongID(pack.Tree)
			}
			return body, err
		})
		return objects.Tree, tree, err
	case pack.Recipe:
		s, err := newStream(ctx, b, id, record)
		if err != nil {
			return 0, nil, err
		}
		body, err := s.readAll()
		return objects.Blob, body, err
	case pack.Chunk:
		return 0, nil, objects.ErrNotFound
	}
	if objects.Sum(t.Kind(), record) != id {
		return 0, nil, &objects.DamagedError{ID: id, Reason: errWrongID(t).Error()}
	}
	return t.Kind(), record, nil
}

// Open is DB.Open for all that is in the store and in the batch.
func (b *Batch) Open(ctx context.Context, id objects.ID) (objects.Object, error) {
	t, record, err := b.own(id)
	if errors.Is(err, errNotHere) {
		return b.db.Open(ctx, id)
	}
	if err != nil {
		return objects.Object{}, err
	}
	if t == pack.Recipe {
		s, err := newStream(ctx, b, id, record)
		if err != nil {
			return objects.Object{}, err
		}
		return objects.Object{Kind: objects.Blob, Size: s.recipe.Size, Body: s}, nil
	}
	k, body, err := b.ReadBytes(ctx, id)
	return objects.Object{Kind: k, Size: int64(len(body)), Body: &bytesBody{bytes.NewReader(body)}}, err
}

// KindOf is DB.KindOf for all that is in the store and in the batch.
func (b *Batch) KindOf(ctx context.Context, id objects.ID) (objects.Kind, error) {
	p, ok := b.seen.get(&id)
	switch {
	case !ok || p.block == nil || b.committed.Load():
		return b.db.KindOf(ctx, id)
	case p.typ == pack.Chunk:
		return 0, objects.ErrNotFound
	}
	return p.typ.Kind(), nil
}

// Missing is DB.Missing for all that is in the store and in the batch.
func (b *Batch) Missing(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	var rest []objects.ID
	for i := range ids {
		if _, ok := b.seen.get(&ids[i]); !ok {
			rest = append(rest, ids[i])
		}
	}
	if len(rest) == 0 {
		return nil, ctx.Err()
	}
	return b.db.lacks(ctx, rest)
}

func (b *Batch) chunk(ctx context.Context, id objects.ID) (body []byte, done func(), err error) {
	t, body, err := b.own(id)
	if errors.Is(err, errNotHere) {
		return b.db.chunk(ctx, id)
	}
	if err == nil && t != pack.Chunk {
		err = errWrongID(pack.Chunk)
	}
	return body, func() {}, err
}

var (
	_ objects.Reader      = (*Batch)(nil)
	_ objects.BytesReader = (*Batch)(nil)
	_ objects.Prober      = (*Batch)(nil)
	_ objects.Writer      = (*Batch)(nil)
)
