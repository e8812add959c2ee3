package odb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// WriteTo appends what is in the parcel to a pack.
func (p *Parcel) WriteTo(ctx context.Context, w *pack.Writer) error {
	return p.each(ctx, func(stored []byte, records []pack.Record) error {
		_, err := w.Append(stored, records)
		return err
	})
}

// Blocks calls fn with the blocks of the parcel's pack, which it may keep until it
// returns.
func (p *Parcel) Blocks(ctx context.Context, fn func(block []byte) error) error {
	return p.each(ctx, func(stored []byte, _ []pack.Record) error { return fn(stored) })
}

// Adopt adds what is in a parcel of another store. Unlike Receive it believes
// what that store's indexes say: objects are proven when they are read.
func (b *Batch) Adopt(ctx context.Context, p *Parcel) error {
	return p.each(ctx, b.appendBlock)
}

// each hands out the blocks of the parcel's pack.
func (p *Parcel) each(ctx context.Context, fn func(stored []byte, records []pack.Record) error) error {
	w := parcelWriter{db: p.db, filler: pack.Filler{Level: DefaultLevel, Append: fn}, neighbours: p.neighbours}
	defer w.filler.Close()
	ahead := readAhead(slices.Concat(p.recipes, p.blocks))
	defer ahead.stop()
	for _, blocks := range [][]parcelBlock{p.recipes, p.blocks} {
		for _, b := range blocks {
			if err := ctx.Err(); err != nil {
				return err
			}
			r := <-ahead.read
			if err := w.block(ctx, b, r); err != nil {
				return err
			}
			ahead.free <- r.stored
		}
		if err := w.filler.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// An ahead reads blocks, and proves their checksums, while others are dealt with.
type ahead struct {
	read chan aheadBlock
	free chan []byte
	done chan struct{}
}

// An aheadBlock is a block as it stands in its pack.
type aheadBlock struct {
	stored []byte
	n      int // records
	err    error
}

func readAhead(blocks []parcelBlock) *ahead {
	const most = 2
	a := &ahead{make(chan aheadBlock, most), make(chan []byte, most+1), make(chan struct{})}
	for range most {
		a.free <- nil
	}
	go func() {
		for _, b := range blocks {
			var r aheadBlock
			select {
			case r.stored = <-a.free:
			case <-a.done:
				return
			}
			if r.stored, r.err = b.pack.file.ReadStored(b.info, r.stored); r.err == nil {
				r.n, r.err = pack.CheckBlock(r.stored)
			}
			a.read <- r
		}
	}()
	return a
}

func (a *ahead) stop() { close(a.done) }

// A parcelWriter copies blocks, and packs anew what is only wanted in part.
type parcelWriter struct {
	db         *DB
	filler     pack.Filler
	neighbours bool

	data  pack.Data
	limit int // bytes of the block that is being filled
}

func (w *parcelWriter) block(ctx context.Context, b parcelBlock, r aheadBlock) error {
	stored, n := r.stored, r.n
	if r.err != nil {
		return w.elsewhere(ctx, b, r.err)
	}
	asIs := int(b.info.Raw) >= worthKeeping && !slices.ContainsFunc(b.records, func(r parcelRecord) bool { return r.whole })
	switch {
	case asIs && n == len(b.records):
		records := make([]pack.Record, n)
		for i, r := range b.records {
			records[i] = pack.Record{ID: r.id, Type: r.entry.Type, Size: r.entry.Size}
		}
		return w.filler.Append(stored, records)
	case asIs && w.neighbours && b.isMost():
		return w.filler.Append(stored, make([]pack.Record, n))
	}
	if err := w.data.Decode(stored); err != nil {
		return w.elsewhere(ctx, b, err)
	}
	w.limit = max(SmallBlock, min(int(b.info.Raw), BigBlock))
	for _, r := range b.records {
		i := int(r.entry.Record - b.info.First)
		if i >= w.data.Len() || r.whole {
			if err := w.another(ctx, r); err != nil {
				return err
			}
			continue
		}
		t, body := w.data.Record(i)
		if t != r.entry.Type || len(body) != int(r.entry.Size) {
			return badRecord(r.entry)
		}
		if err := w.put(r.id, t, body); err != nil {
			return err
		}
	}
	return nil
}

// isMost reports whether so much of a block is wanted that the rest costs less than
// to pack that anew.
func (b *parcelBlock) isMost() bool {
	size := int64(0)
	for _, r := range b.records {
		size += int64(r.entry.Size)
	}
	return size >= int64(b.info.Raw)-int64(b.info.Raw)/8
}

// worthKeeping is from how many bytes on a block is not packed anew together
// with others.
const worthKeeping = metaBlock / 2

// elsewhere takes what is wanted of a block that can't be read from other packs:
// it is damaged, or its pack was merged into another one.
func (w *parcelWriter) elsewhere(ctx context.Context, b parcelBlock, why error) error {
	if !errors.Is(why, fs.ErrNotExist) && !errors.Is(why, pack.ErrBadPack) {
		return why
	}
	for _, r := range b.records {
		if err := w.another(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// another puts a record as some pack has it, and a tree whole.
func (w *parcelWriter) another(ctx context.Context, r parcelRecord) error {
	if r.entry.Type.IsMeta() {
		k, body, err := w.db.ReadBytes(ctx, r.id)
		if err != nil {
			return fmt.Errorf("%s: %w", r.id, err)
		}
		return w.put(r.id, pack.Type(k), body)
	}
	t, body, err := w.db.rawRecord(ctx, r.id)
	if err != nil {
		return fmt.Errorf("%s: %w", r.id, err)
	}
	return w.put(r.id, t, body)
}

func (w *parcelWriter) put(id objects.ID, t pack.Type, body []byte) error {
	return w.filler.Put(id, t, body, max(w.limit, SmallBlock))
}
