package odb

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A Parcel is some of the store's objects on their way to another store, in one
// pack. Blocks of which all is wanted travel as they are, without being decoded.
type Parcel struct {
	db      *DB
	recipes []parcelBlock // of which all chunks are in the parcel, or with the receiver
	blocks  []parcelBlock
	size    int64
	last    bool

	neighbours bool
}

// ParcelOptions say how objects are parcelled. The zero value works.
type ParcelOptions struct {
	// Size is about how many bytes a parcel has, as stored. Zero is 64 MiB.
	Size int64

	// Base reports whether the receiver has a tree, so that others may come as
	// their differences to it. (Those that come along it has, too.)
	Base func(tree objects.ID) bool

	// Neighbours lets the rest of a block come along where nearly all of it is wanted.
	// Such parcels are to be written to packs: nobody says what that is.
	Neighbours bool
}

const (
	defaultParcel = 64 << 20
	mixedParcel   = 1 << 20 // up to this size all goes into one parcel
)

// A parcelBlock is what is wanted of one block.
type parcelBlock struct {
	pack    *stored
	index   *pack.Index
	info    pack.BlockInfo
	records []parcelRecord // in order
}

func (b *parcelBlock) size() int64 {
	size := int64(0)
	for _, r := range b.records {
		size += int64(r.entry.Size)
	}
	if b.info.Raw > 0 {
		size = size * int64(b.info.Stored) / int64(b.info.Raw)
	}
	return size
}

type parcelRecord struct {
	id    objects.ID
	entry pack.Entry
	whole bool // a delta whose base the receiver lacks: it goes as the tree that it stands for
}

// Parcels puts the objects and chunks with these ids into parcels, in the order
// in which they are stored, but what others are made of before them: see Last. A
// big blob is its recipe: its chunks are asked for by their own ids; see Chunks. If
// they are all in one parcel it comes in that, before them, so that whoever receives
// it can prove the blob as its chunks come by. What is not there is
// objects.ErrNotFound.
func (db *DB) Parcels(ctx context.Context, ids []objects.ID, o ParcelOptions) ([]*Parcel, error) {
	if o.Size <= 0 {
		o.Size = defaultParcel
	}
	all, err := db.locate(ctx, ids)
	if err != nil {
		return nil, err
	}
	c := parceller{db: db, o: o, trees: map[objects.ID]*Parcel{}, chunks: map[objects.ID]*Parcel{}}
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].sharesBlock(&all[0]) {
			n++
		}
		if err := c.add(all[:n]); err != nil {
			return nil, err
		}
		all = all[n:]
	}
	return c.parcels, c.deltas(ctx)
}

// located is an object and where it is.
type located struct {
	id    objects.ID
	hit   hit
	block int
}

// rank says what must come before what: pieces before what is made of them.
func (l *located) rank() int {
	switch t := l.hit.entry.Type; {
	case t.IsMeta():
		return 2
	case t == pack.Recipe:
		return 1
	}
	return 0
}

func (l *located) sharesBlock(other *located) bool {
	return l.hit.pack == other.hit.pack && l.block == other.block && l.rank() == other.rank()
}

// locate finds objects, and sorts them by rank and by where they are, the oldest
// pack first.
func (db *DB) locate(ctx context.Context, ids []objects.ID) ([]located, error) {
	s, err := db.packs()
	if err != nil {
		return nil, err
	}
	order := make(map[*stored]int, len(s.packs))
	for i, p := range s.packs {
		order[p] = -i
	}
	all := make([]located, len(ids))
	for i := range ids {
		l := &all[i]
		l.id = ids[i]
		err := db.eachCopy(ctx, ids[i], func(h hit) (err error) {
			l.hit = h
			l.block, err = h.index.BlockOf(h.entry.Record)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ids[i], err)
		}
	}
	slices.SortFunc(all, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(order[a.hit.pack], order[b.hit.pack]),
			cmp.Compare(a.hit.entry.Record, b.hit.entry.Record))
	})
	return slices.CompactFunc(all, func(a, b located) bool { return a.id == b.id }), nil
}

// A parceller cuts what is located into parcels.
type parceller struct {
	db      *DB
	o       ParcelOptions
	parcels []*Parcel
	total   int64
	trees   map[objects.ID]*Parcel // whole ones, and where they are
	chunks  map[objects.ID]*Parcel // and where they are
}

// add adds what is wanted of one block.
func (c *parceller) add(some []located) error {
	first := some[0]
	info, err := first.hit.index.Block(first.block)
	if err != nil {
		return err
	}
	b := parcelBlock{pack: first.hit.pack, index: first.hit.index, info: info}
	with := map[*Parcel]*parcelBlock{} // recipes, by where their chunks are
	for _, l := range some {
		to := &b
		if p := c.chunksOf(l); p != nil {
			if with[p] == nil {
				with[p] = &parcelBlock{pack: b.pack, index: b.index, info: info}
			}
			to = with[p]
		}
		to.records = append(to.records, parcelRecord{id: l.id, entry: l.hit.entry})
	}
	for p, recipes := range with {
		p.recipes = append(p.recipes, *recipes)
		p.size += recipes.size()
		c.total += recipes.size()
	}
	if len(b.records) == 0 {
		return nil
	}
	size := b.size()
	p := c.next(first.rank() > 0, size)
	p.blocks = append(p.blocks, b)
	p.size += size
	c.total += size
	for _, r := range b.records {
		switch r.entry.Type {
		case pack.Tree:
			c.trees[r.id] = p
		case pack.Chunk:
			c.chunks[r.id] = p
		}
	}
	return nil
}

// chunksOf returns the parcel that has all chunks of a recipe which are sent at all;
// nil if there are several, or none, or it is no recipe.
func (c *parceller) chunksOf(l located) *Parcel {
	if l.hit.entry.Type != pack.Recipe {
		return nil
	}
	record, b, err := c.db.record(l.hit)
	if err != nil {
		return nil // whoever writes it looks for another copy
	}
	defer b.release()
	recipe, err := pack.ParseRecipe(record)
	if err != nil {
		return nil
	}
	var all *Parcel
	for i := range recipe.Len() {
		switch p := c.chunks[recipe.Piece(i).ID]; {
		case p == nil, p == all:
		case all == nil:
			all = p
		default:
			return nil
		}
	}
	return all
}

// next returns the parcel for size bytes more.
func (c *parceller) next(last bool, size int64) *Parcel {
	if n := len(c.parcels); n > 0 {
		p := c.parcels[n-1]
		if p.size+size <= c.o.Size && (p.last == last || c.total+size <= mixedParcel) {
			p.last = p.last || last
			return p
		}
	}
	p := &Parcel{db: c.db, last: last, neighbours: c.o.Neighbours}
	c.parcels = append(c.parcels, p)
	return p
}

// deltas marks those whose base the receiver will not have before them as a whole
// tree.
func (c *parceller) deltas(ctx context.Context) error {
	for _, p := range c.parcels {
		for _, b := range p.blocks {
			for i := range b.records {
				r := &b.records[i]
				if r.entry.Type != pack.Delta {
					continue
				}
				base, err := c.db.baseOf(hit{b.pack, b.index, r.entry})
				// One that can't be read now is looked for elsewhere when it is written.
				r.whole = err != nil || c.trees[base] != p && (c.o.Base == nil || !c.o.Base(base))
			}
		}
	}
	return ctx.Err()
}

// baseOf returns the base of a delta.
func (db *DB) baseOf(h hit) (objects.ID, error) {
	record, b, err := db.record(h)
	if err != nil {
		return objects.ID{}, err
	}
	defer b.release()
	d, err := pack.ParseDelta(record)
	return d.Base, err
}

// Last reports whether a parcel holds what is made of what others hold: it is to
// be sent when they have arrived, one such after the other.
func (p *Parcel) Last() bool { return p.last }

// Size returns about how many bytes the parcel's pack has.
func (p *Parcel) Size() int64 { return p.size }

// Objects returns how many objects and chunks are in the parcel.
func (p *Parcel) Objects() int {
	n := 0
	for _, b := range slices.Concat(p.recipes, p.blocks) {
		n += len(b.records)
	}
	return n
}
