package odb

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// scratch holds the stored form of a block while it is decoded.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// readBlock reads block n of a pack, past the cache.
func readBlock(p *stored, x *pack.Index, n int, d *pack.Data) error {
	info, err := x.Block(n)
	if err != nil {
		return err
	}
	return readInfo(p.file, info, d)
}

func readInfo(f *pack.File, info pack.BlockInfo, d *pack.Data) error {
	buf := scratch.Get().(*[]byte)
	var err error
	*buf, err = f.Read(info, d, *buf)
	scratch.Put(buf)
	return err
}

// record returns the bytes of h, and the block that they are in, which must be
// released. They are not proven yet.
func (db *DB) record(h hit) ([]byte, *block, error) {
	n, err := h.index.BlockOf(h.entry.Record)
	if err != nil {
		return nil, nil, err
	}
	info, err := h.index.Block(n)
	if err != nil {
		return nil, nil, err
	}
	b, err := db.cache.get(blockKey{h.pack, n}, int(info.Raw), func(d *pack.Data) error { return readInfo(h.pack.file, info, d) })
	if err != nil {
		return nil, nil, err
	}
	i := int(h.entry.Record - info.First)
	if i >= b.Len() {
		b.release()
		return nil, nil, fmt.Errorf("%w: record %d is beyond its block", pack.ErrBadIndex, h.entry.Record)
	}
	t, body := b.Record(i)
	if t != h.entry.Type || len(body) != int(h.entry.Size) {
		b.release()
		return nil, nil, fmt.Errorf("%w: record %d is a %s of %d bytes, not a %s of %d", pack.ErrBadIndex,
			h.entry.Record, t, len(body), h.entry.Type, h.entry.Size)
	}
	return body, b, nil
}

// errWrongID is what a record that does not hash to its id is.
func errWrongID(t pack.Type) error {
	return fmt.Errorf("%w: the %s does not hash to its id", pack.ErrBadPack, t)
}

// ReadBytes returns a whole object, its id proven. The bytes are the caller's.
// A blob that is stored in chunks is put together; one of more than
// objects.MaxInMemory bytes is an error.
func (db *DB) ReadBytes(ctx context.Context, id objects.ID) (k objects.Kind, body []byte, err error) {
	err = db.eachCopy(ctx, id, func(h hit) error {
		k = h.entry.Type.Kind()
		body, err = db.readCopy(ctx, id, h)
		return err
	})
	return k, body, err
}

func (db *DB) readCopy(ctx context.Context, id objects.ID, h hit) ([]byte, error) {
	record, b, err := db.record(h)
	if err != nil {
		return nil, err
	}
	defer b.release()
	switch h.entry.Type {
	case pack.Delta:
		return applyDelta(id, record, func(base objects.ID) ([]byte, error) { return db.wholeTree(ctx, base) })
	case pack.Recipe:
		s, err := newStream(ctx, db, id, record)
		if err != nil {
			return nil, err
		}
		return s.readAll()
	case pack.Chunk:
		return nil, objects.ErrNotFound // chunks are no objects
	}
	if objects.Sum(h.entry.Type.Kind(), record) != id {
		return nil, errWrongID(h.entry.Type)
	}
	return bytes.Clone(record), nil
}

// applyDelta returns the body of the tree id, proven.
func applyDelta(id objects.ID, record []byte, base func(objects.ID) ([]byte, error)) ([]byte, error) {
	d, err := pack.ParseDelta(record)
	if err != nil {
		return nil, err
	}
	baseBody, err := base(d.Base)
	if err != nil {
		return nil, fmt.Errorf("tree delta on %s: %w", d.Base, hideMiss(err))
	}
	tree, err := d.Apply(baseBody)
	if err != nil {
		return nil, fmt.Errorf("tree delta on %s: %w", d.Base, err)
	}
	if d.ID != id || objects.Sum(objects.Tree, tree) != id {
		return nil, errWrongID(pack.Delta)
	}
	return tree, nil
}

// hideMiss keeps a missing part from being taken for a missing object: that one
// is damaged.
func hideMiss(err error) error {
	return fmt.Errorf("%w: %v", pack.ErrBadPack, err)
}

// wholeTree reads a tree that is stored whole, as the base of a delta is.
func (db *DB) wholeTree(ctx context.Context, id objects.ID) (body []byte, err error) {
	err = db.eachCopy(ctx, id, func(h hit) error {
		if h.entry.Type != pack.Tree {
			return errSkip
		}
		body, err = db.readCopy(ctx, id, h)
		return err
	})
	return body, err
}

// Open opens an object. A small one is proven before Open returns; a blob that
// is stored in chunks when its body has been read to the end.
func (db *DB) Open(ctx context.Context, id objects.ID) (o objects.Object, err error) {
	err = db.eachCopy(ctx, id, func(h hit) error {
		if h.entry.Type != pack.Recipe {
			body, err := db.readCopy(ctx, id, h)
			o = objects.Object{Kind: h.entry.Type.Kind(), Size: int64(len(body)), Body: &bytesBody{bytes.NewReader(body)}}
			return err
		}
		record, b, err := db.record(h)
		if err != nil {
			return err
		}
		defer b.release()
		s, err := newStream(ctx, db, id, slices.Clone(record))
		o = objects.Object{Kind: objects.Blob, Size: s.recipe.Size, Body: s}
		return err
	})
	return o, err
}

// bytesBody is a body that is in memory.
type bytesBody struct{ *bytes.Reader }

func (*bytesBody) Close() error { return nil }

var (
	_ io.WriterTo         = (*bytesBody)(nil)
	_ objects.Reader      = (*DB)(nil)
	_ objects.BytesReader = (*DB)(nil)
	_ objects.Prober      = (*DB)(nil)
)

// Stat returns the kind and the size of an object. Of most it looks at the index
// only, and what that says is not proven.
func (db *DB) Stat(ctx context.Context, id objects.ID) (k objects.Kind, size int64, err error) {
	err = db.eachCopy(ctx, id, func(h hit) error {
		k, size = h.entry.Type.Kind(), int64(h.entry.Size)
		switch h.entry.Type {
		case pack.Chunk:
			return objects.ErrNotFound
		case pack.Delta:
			body, err := db.readCopy(ctx, id, h)
			size = int64(len(body))
			return err
		case pack.Recipe:
			record, b, err := db.record(h)
			if err != nil {
				return err
			}
			defer b.release()
			r, err := pack.ParseRecipe(record)
			size = r.Size
			return err
		}
		return nil
	})
	return k, size, err
}

// KindOf returns the kind of an object, by the index: it is not proven.
func (db *DB) KindOf(ctx context.Context, id objects.ID) (objects.Kind, error) {
	t, err := db.typeOf(ctx, id)
	if err == nil && t == pack.Chunk {
		err = objects.ErrNotFound
	}
	return t.Kind(), err
}

// typeOf returns what record an object is stored as.
func (db *DB) typeOf(ctx context.Context, id objects.ID) (t pack.Type, err error) {
	err = db.eachCopy(ctx, id, func(h hit) error {
		t = h.entry.Type
		return nil
	})
	return t, err
}
