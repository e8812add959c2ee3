package odb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// Receive adds what is in a pack that somebody else made, and believes nothing
// of it: ids are computed, and what is no well-formed object ends it. Big blobs
// and deltas of trees can be proven only when the batch or the store has all that
// they are made of; they wait for that until Prove. It returns how many records
// are new here. What came before an error stays in the batch.
func (b *Batch) Receive(ctx context.Context, r io.Reader) (fresh int, err error) {
	return b.ReceiveBlocks(ctx, pack.NewStream(r))
}

// ReceiveBlocks is Receive for the blocks of a pack.
func (b *Batch) ReceiveBlocks(ctx context.Context, s pack.Source) (fresh int, err error) {
	workers := runtime.GOMAXPROCS(0)
	free, blocks := make(chan []byte, workers+1), make(chan arrival)
	for range workers + 1 {
		free <- nil
	}
	var count atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			v := receiver{b: b}
			defer func() { count.Add(int64(v.fresh)) }()
			for a := range blocks {
				if err := v.take(ctx, a.block); err != nil {
					return err
				}
				free <- a.block
				select {
				case <-a.turn:
				case <-ctx.Done():
					return ctx.Err()
				}
				if err := v.pass(ctx); err != nil {
					return err
				}
				close(a.next)
			}
			return nil
		})
	}
	turn := make(chan struct{})
	close(turn)
	err = func() error {
		defer close(blocks)
		for {
			var buf []byte
			select {
			case buf = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
			block, err := s.Next(buf)
			if err != nil {
				return err
			}
			next := make(chan struct{})
			select {
			case blocks <- arrival{block, turn, next}:
			case <-ctx.Done():
				return ctx.Err()
			}
			turn = next
		}
	}()
	if e := group.Wait(); e != nil {
		err = e // it is why the others stopped
	}
	if err == io.EOF {
		err = nil
	}
	return int(count.Load()), err
}

// An arrival is a block that has come. Blocks are decoded and proven side by side,
// but their chunks pass one after the other, in the order in which they came.
type arrival struct {
	block []byte
	turn  <-chan struct{} // closed when those before have passed
	next  chan<- struct{} // to be closed then
}

// A receiver takes blocks into a batch, one at a time.
type receiver struct {
	b       *Batch
	fresh   int // records
	data    pack.Data
	ids     []objects.ID // of all records
	records []pack.Record
}

// pass shows the chunks of the block that was taken last to the blobs which wait
// for them.
func (v *receiver) pass(ctx context.Context) error {
	for i, id := range v.ids {
		if t, body := v.data.Record(i); t == pack.Chunk {
			if err := v.b.passing(ctx, id, body); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *receiver) take(ctx context.Context, stored []byte) error {
	if err := v.data.Decode(stored); err != nil {
		return err
	}
	verbatim, err := v.examine(ctx)
	if err != nil {
		return err
	}
	if verbatim {
		return v.b.appendBlock(stored, v.records)
	}
	for i, r := range v.records {
		if r.ID.IsZero() {
			continue
		}
		_, body := v.data.Record(i)
		if err := v.b.filler(r.Type).put(r, body); err != nil {
			return err
		}
	}
	return nil
}

// examine fills records with what is new in the block, each proven; the others
// are left zero, and so are those that have to wait. It reports whether the block
// is worth keeping as it is.
func (v *receiver) examine(ctx context.Context) (verbatim bool, err error) {
	v.records, v.ids = v.records[:0], v.ids[:0]
	size, raw, meta, data := 0, 0, false, false
	verbatim = true
	for i := range v.data.Len() {
		t, body := v.data.Record(i)
		raw += len(body)
		id, err := pack.RecordID(t, body)
		if err != nil {
			return false, err
		}
		v.ids = append(v.ids, id)
		r, fresh, err := v.b.examine(ctx, id, t, body)
		if err != nil {
			return false, err
		}
		if fresh {
			v.fresh++
		}
		v.records = append(v.records, r)
		if r.ID.IsZero() {
			verbatim = verbatim && !fresh // it waits, or is kept in another way
			continue
		}
		size += len(body)
		meta, data = meta || t.IsMeta(), data || !t.IsMeta()
	}
	full := SmallBlock / 2
	if meta {
		full = metaBlock / 2
	}
	return verbatim && raw >= full && size >= raw/2 && !(meta && data), nil
}

// examine returns what a record that was received is; zero if it is not kept as
// it is: then it is known, or waits. Fresh reports whether it is new here.
func (b *Batch) examine(ctx context.Context, id objects.ID, t pack.Type, body []byte) (r pack.Record, fresh bool, err error) {
	claims := t == pack.Recipe || t == pack.Delta // to be what its id says
	known, err := b.isKept(&id)
	if err != nil || known && !(claims && b.o.ProveKnown) {
		return r, false, err
	}
	switch t {
	case pack.Recipe:
		fresh, err := b.wait(id, waiting{t: t, body: body, known: known})
		return r, fresh, err
	case pack.Delta:
		whole, err := b.proveDelta(ctx, id, body)
		if errors.Is(err, errWaits) {
			fresh, err := b.wait(id, waiting{t: t, body: body, known: known})
			return r, fresh, err
		}
		if known {
			return r, false, err
		}
		if err != nil || whole != nil {
			return r, true, errors.Join(err, b.putWhole(id, whole))
		}
	case pack.Commit:
		_, err = objects.ParseCommit(body)
	case pack.Tree:
		_, err = objects.ParseTree(body)
	case pack.Tag:
		_, err = objects.ParseTag(body)
	}
	if err != nil {
		return r, false, fmt.Errorf("%w: %s %s: %w", pack.ErrBadPack, t, id, err)
	}
	return pack.Record{ID: id, Type: t, Size: uint32(len(body))}, true, nil
}

func (b *Batch) putWhole(id objects.ID, tree []byte) error {
	if tree == nil {
		return nil
	}
	return b.meta.put(pack.Record{ID: id, Type: pack.Tree, Size: uint32(len(tree))}, tree)
}

// isKept is DB.isKept for the batch and the store.
func (b *Batch) isKept(id *objects.ID) (bool, error) {
	if _, ok := b.seen.get(id); ok {
		return true, nil
	}
	return b.db.isKept(id)
}

// appendBlock appends a block as it is to the pack that its records belong to.
// Those with a zero id are not wanted.
func (b *Batch) appendBlock(stored []byte, records []pack.Record) error {
	o := &openBlock{b: b, to: b.dataPack}
	for _, r := range records {
		if !r.ID.IsZero() && r.Type.IsMeta() {
			o.to = b.metaPack
		}
	}
	w, err := o.to.writer()
	if err == nil {
		o.number, err = w.Append(stored, records)
	}
	if err != nil {
		return b.fail(fmt.Errorf("write pack: %w", err))
	}
	for i, r := range records {
		if !r.ID.IsZero() {
			b.seen.claim(&r.ID, place{o, int32(i), r.Type})
		}
	}
	return nil
}
