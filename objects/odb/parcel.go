package odb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A Parcel is some of the store's objects on their way to another store, in one
// pack. Blocks of which all is wanted travel as they are, without being decoded.
type Parcel struct {
	db     *DB
	blocks []parcelBlock
	size   int64
}

// ParcelOptions say how objects are parcelled. The zero value works.
type ParcelOptions struct {
	// Size is about how many bytes a parcel has, as stored. Zero is 64 MiB.
	Size int64

	// Base reports whether the receiver has a tree, so that others may come as
	// their differences to it. (Those that come along it has, too.)
	Base func(tree objects.ID) bool
}

const (
	defaultParcel = 64 << 20
	mixedParcel   = 1 << 20 // up to this size all goes into one parcel
)

// A parcelBlock is what is wanted of one block.
type parcelBlock struct {
	pack    *stored
	info    pack.BlockInfo
	records []parcelRecord // in order
}

type parcelRecord struct {
	id    objects.ID
	entry pack.Entry
	whole bool // a delta whose base the receiver lacks: it goes as the tree that it stands for
}

// Parcels puts the objects and chunks with these ids into parcels: payload before
// trees and commits, and otherwise in the order in which they are stored. A big
// blob is its recipe: its chunks are asked for by their own ids; see Chunks. What
// is not there is objects.ErrNotFound.
func (db *DB) Parcels(ctx context.Context, ids []objects.ID, o ParcelOptions) ([]*Parcel, error) {
	if o.Size <= 0 {
		o.Size = defaultParcel
	}
	s, err := db.packs()
	if err != nil {
		return nil, err
	}
	order := make(map[*stored]int, len(s.packs))
	for i, p := range s.packs {
		order[p] = -i // the oldest first
	}
	all := make([]located, 0, len(ids))
	for i := range ids {
		l := located{id: ids[i]}
		err := db.eachCopy(ctx, ids[i], func(h hit) (err error) {
			l.hit = h
			l.block, err = h.index.BlockOf(h.entry.Record)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ids[i], err)
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b located) int {
		return cmp.Or(compareBool(a.isMeta(), b.isMeta()), cmp.Compare(order[a.hit.pack], order[b.hit.pack]),
			cmp.Compare(a.hit.entry.Record, b.hit.entry.Record))
	})
	all = slices.CompactFunc(all, func(a, b located) bool { return a.id == b.id })
	whole, err := db.wholes(ctx, all, o.Base)
	if err != nil {
		return nil, err
	}
	return db.parcel(all, whole, o.Size)
}

// located is an object and where it is.
type located struct {
	id    objects.ID
	hit   hit
	block int
}

func (l located) isMeta() bool { return l.hit.entry.Type.IsMeta() }

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// wholes returns the deltas whose base the receiver will not have as a whole tree.
func (db *DB) wholes(ctx context.Context, all []located, known func(objects.ID) bool) (map[objects.ID]bool, error) {
	trees, whole := map[objects.ID]bool{}, map[objects.ID]bool{}
	for _, l := range all {
		if l.hit.entry.Type == pack.Tree {
			trees[l.id] = true
		}
	}
	for _, l := range all {
		if l.hit.entry.Type != pack.Delta {
			continue
		}
		record, b, err := db.record(l.hit)
		var d pack.TreeDelta
		if err == nil {
			d, err = pack.ParseDelta(record)
			b.release()
		}
		// One that can't be read now is looked for elsewhere when it is written.
		if err != nil || !trees[d.Base] && (known == nil || !known(d.Base)) {
			whole[l.id] = true
		}
	}
	return whole, ctx.Err()
}

// parcel cuts what is sorted into parcels of about size bytes.
func (db *DB) parcel(all []located, whole map[objects.ID]bool, size int64) ([]*Parcel, error) {
	var parcels []*Parcel
	var p *Parcel
	meta := false
	total := int64(0)
	for i := 0; i < len(all); {
		first := all[i]
		info, err := first.hit.index.Block(first.block)
		if err != nil {
			return nil, err
		}
		b := parcelBlock{pack: first.hit.pack, info: info}
		bytes := int64(0)
		for ; i < len(all) && all[i].hit.pack == first.hit.pack && all[i].block == first.block && all[i].isMeta() == first.isMeta(); i++ {
			b.records = append(b.records, parcelRecord{all[i].id, all[i].hit.entry, whole[all[i].id]})
			bytes += int64(all[i].hit.entry.Size)
		}
		if info.Raw > 0 {
			bytes = bytes * int64(info.Stored) / int64(info.Raw)
		}
		if p == nil || p.size > 0 && p.size+bytes > size || meta != first.isMeta() && total+bytes > mixedParcel {
			p = &Parcel{db: db}
			parcels = append(parcels, p)
		}
		meta = first.isMeta()
		p.blocks = append(p.blocks, b)
		p.size += bytes
		total += bytes
	}
	return parcels, nil
}

// Size returns about how many bytes the parcel's pack has.
func (p *Parcel) Size() int64 { return p.size }

// Objects returns how many objects and chunks are in the parcel.
func (p *Parcel) Objects() int {
	n := 0
	for _, b := range p.blocks {
		n += len(b.records)
	}
	return n
}

// WriteTo appends what is in the parcel to a pack.
func (p *Parcel) WriteTo(ctx context.Context, w *pack.Writer) error {
	return p.each(ctx, func(stored []byte, records []pack.Record) error {
		_, err := w.Append(stored, records)
		return err
	})
}

// Adopt adds what is in a parcel of another store. Unlike Receive it believes
// what that store's indexes say: objects are proven when they are read.
func (b *Batch) Adopt(ctx context.Context, p *Parcel) error {
	return p.each(ctx, b.appendBlock)
}

// each hands out the blocks of the parcel's pack.
func (p *Parcel) each(ctx context.Context, fn func(stored []byte, records []pack.Record) error) error {
	w := parcelWriter{db: p.db, fn: fn}
	defer w.close()
	for _, b := range p.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.block(ctx, b); err != nil {
			return err
		}
	}
	return w.flush()
}

// A parcelWriter copies blocks, and packs anew what is only wanted in part.
type parcelWriter struct {
	db *DB
	fn func(stored []byte, records []pack.Record) error

	buf, out []byte
	data     pack.Data
	open     pack.Block
	limit    int // bytes of the open block
	encoder  *compress.Encoder
}

func (w *parcelWriter) block(ctx context.Context, b parcelBlock) error {
	stored, err := b.pack.file.ReadStored(b.info, w.buf)
	n := 0
	if err == nil {
		w.buf = stored
		n, err = pack.CheckBlock(stored)
	}
	if err != nil {
		return w.elsewhere(ctx, b, err)
	}
	if n == len(b.records) && !slices.ContainsFunc(b.records, func(r parcelRecord) bool { return r.whole }) && int(b.info.Raw) >= worthKeeping {
		records := make([]pack.Record, n)
		for i, r := range b.records {
			records[i] = pack.Record{ID: r.id, Type: r.entry.Type, Size: r.entry.Size}
		}
		return w.fn(stored, records)
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
	copy(w.open.Space(len(body)), body)
	w.open.Add(pack.Record{ID: id, Type: t, Size: uint32(len(body))})
	if w.open.Len() < max(w.limit, SmallBlock) {
		return nil
	}
	return w.flush()
}

func (w *parcelWriter) flush() error {
	if len(w.open.Records) == 0 {
		return nil
	}
	if w.encoder == nil {
		w.encoder = compress.GetEncoder(DefaultLevel, w.open.Len())
	}
	w.out = w.open.AppendTo(w.out[:0], w.encoder)
	err := w.fn(w.out, w.open.Records)
	w.open.Reset()
	return err
}

func (w *parcelWriter) close() {
	if w.encoder != nil {
		compress.PutEncoder(w.encoder)
	}
}

// Chunks calls fn for each chunk of those blobs among ids that are stored in
// chunks, in their order. Other objects are passed over.
func (db *DB) Chunks(ctx context.Context, ids []objects.ID, fn func(blob, chunk objects.ID) error) error {
	for _, id := range ids {
		t, err := db.typeOf(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		if t != pack.Recipe {
			continue
		}
		_, record, err := db.rawRecord(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		recipe, err := pack.ParseRecipe(record)
		if err != nil {
			return fmt.Errorf("blob %s: %w", id, err)
		}
		for i := range recipe.Len() {
			if err := fn(id, recipe.Piece(i).ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// typeOf returns what record an object is stored as.
func (db *DB) typeOf(ctx context.Context, id objects.ID) (t pack.Type, err error) {
	err = db.eachCopy(ctx, id, func(h hit) error {
		t = h.entry.Type
		return nil
	})
	return t, err
}
