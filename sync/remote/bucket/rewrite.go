package bucket

import (
	"bytes"
	"context"
	"os"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

const (
	madePack = 64 << 20  // bytes of a pack that is made
	maxCopy  = 256 << 10 // records that are copied before the bucket is looked at again

	// Blocks of fewer bytes are packed anew with others, into blocks of smallBlock at
	// least. They are those that package odb makes of what is sent.
	worthKeeping = 16 << 10
	smallBlock   = 64 << 10
	bigBlock     = 12 << 20
)

// copy copies what is needed from packs that go into new ones, and enters them in the
// root. That may not be all of it. What can't be read is noted and left.
func (c *collection) copy(ctx context.Context) error {
	turn, most := map[*fact]bool{}, 0
	facts := slices.Clone(c.t.facts)
	slices.SortFunc(facts, func(a, b *fact) int { return a.info.Time.Compare(b.info.Time) })
	for _, f := range facts {
		if f.victim && f.wanted > 0 && (most == 0 || most+f.wanted <= maxCopy) {
			turn[f] = true
			most += f.wanted
		}
	}
	entries := make([]entry, 0, most)
	err := c.t.each(ctx, func(id objects.ID, copies []entry) error {
		if !c.isNeeded(id) || !slices.ContainsFunc(copies, c.goes) {
			return nil
		}
		fit := c.fit(copies)
		if stays, _ := c.staying(fit); stays || len(fit) == 0 {
			return nil
		}
		if e := slices.MinFunc(fit, c.t.inOrder); turn[c.t.pack(e)] {
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	w := rewriter{c: c}
	w.meta.init(ctx, c)
	w.data.init(ctx, c)
	defer w.meta.close()
	defer w.data.close()
	if err := c.eachBlock(ctx, entries, w.block); err != nil {
		return err
	}
	if err := w.meta.finish(); err != nil {
		return err
	}
	return w.data.finish()
}

// A rewriter copies blocks of which all is wanted, and packs anew what is wanted of
// others. Trees and commits go to packs of their own.
type rewriter struct {
	c          *collection
	meta, data output
	decoded    pack.Data
}

// block copies what is wanted of a block.
func (w *rewriter) block(stored []byte, of []entry) error {
	if stored == nil {
		return nil
	}
	n, err := pack.CheckBlock(stored)
	if err != nil {
		return err
	}
	if records, ok := allOf(n, of); ok {
		return w.to(of[0]).append(stored, records)
	}
	if err := w.decoded.Decode(stored); err != nil {
		w.c.sound[w.c.t.spot(of[0])], w.c.anyBad = false, true
		return nil
	}
	raw := 0
	for i := range w.decoded.Len() {
		_, body := w.decoded.Record(i)
		raw += len(body)
	}
	for _, e := range of {
		body, err := recordOf(e, &w.decoded)
		if err != nil {
			w.c.bad.Add(w.c.t.copyKey(e))
			w.c.anyBad = true
			continue
		}
		if err := w.to(e).filler.Put(e.id, e.typ(), body, max(smallBlock, min(raw, bigBlock))); err != nil {
			return err
		}
	}
	return nil
}

func (w *rewriter) to(e entry) *output {
	if e.typ().IsMeta() {
		return &w.meta
	}
	return &w.data
}

// allOf returns the records of a block, if they are all wanted, all for the same pack,
// and many enough for the block to be kept as it is.
func allOf(n int, of []entry) (records []pack.Record, ok bool) {
	if n != len(of) {
		return nil, false
	}
	size := 0
	records = make([]pack.Record, n)
	for i, e := range of { // which are in order
		if e.record() != i || e.typ().IsMeta() != of[0].typ().IsMeta() {
			return nil, false
		}
		size += int(e.size)
		records[i] = pack.Record{ID: e.id, Type: e.typ(), Size: e.size}
	}
	return records, size >= worthKeeping
}

// An output is one pack after the other.
type output struct {
	ctx    context.Context // of the one copy that it is for
	c      *collection
	filler pack.Filler

	file *os.File // nil between two packs
	w    *pack.Writer
}

func (o *output) init(ctx context.Context, c *collection) {
	o.ctx, o.c, o.filler.Append = ctx, c, o.append
}

// append adds a block.
func (o *output) append(stored []byte, records []pack.Record) error {
	if o.w == nil {
		f, err := os.CreateTemp("", "cache-tool-*.pack")
		if err != nil {
			return err
		}
		os.Remove(f.Name()) // it goes with us, however we go
		o.file, o.w = f, pack.NewWriter(f)
	}
	if _, err := o.w.Append(stored, records); err != nil {
		return err
	}
	if o.w.Size() < madePack {
		return nil
	}
	return o.put()
}

// finish puts what there is.
func (o *output) finish() error {
	if err := o.filler.Flush(); err != nil || o.w == nil {
		return err
	}
	return o.put()
}

// put puts the pack that is being written, and enters it.
func (o *output) put() error {
	name, err := o.w.Finish()
	if err != nil {
		return err
	}
	var data bytes.Buffer
	if err := o.w.WriteIndex(&data, name); err != nil {
		return err
	}
	index, err := pack.ParseIndex(data.Bytes())
	if err != nil {
		return err
	}
	u, err := fromIndex(o.w.Size(), index)
	if err != nil {
		return err
	}
	u.copied = true
	if err := o.c.r.add(o.ctx, o.file, u); err != nil {
		return err
	}
	o.c.made[u.name] = true
	o.c.done.Made.add(u.size)
	o.close()
	return nil
}

func (o *output) close() {
	if o.file != nil {
		o.file.Close()
		o.file, o.w = nil, nil
	}
}
