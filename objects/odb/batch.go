package odb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/chunk"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// BatchOptions say how the objects of a batch are stored.
type BatchOptions struct {
	BlockSize int            // BigBlock or SmallBlock; zero is SmallBlock
	Level     compress.Level // zero is DefaultLevel

	// Waiting is how many bytes of received records may wait until what they are
	// made of is here. They are in memory, which a stranger could fill. Zero is any
	// number.
	Waiting int

	// ProveKnown proves recipes and deltas that are received even if the store has
	// what they claim to be: who sends them is to show that he has it.
	ProveKnown bool
}

// Durability is what a commit survives.
type Durability uint8

const (
	Staged  Durability = iota // kill -9; after a power cut it is there whole or not at all
	Durable                   // power cuts too, and so does all that was staged before
)

// A Batch adds objects to a DB, all of them at Commit. It drops what is there
// already. Its methods may be called from many goroutines at once, except for
// Commit and Close.
//
// From NewBatch to Close it keeps away whoever wants to drop objects: what it
// found to be there stays there until Close. So the record that names the
// objects is written between Commit and Close:
//
//	b, err := db.NewBatch(ctx, odb.BatchOptions{})
//	if err != nil {
//		return err
//	}
//	defer b.Close() // drops everything, unless Commit succeeded
//	id, err := b.PutBytes(objects.Blob, body)
//	…
//	if err := b.Commit(ctx, odb.Durable); err != nil {
//		return err
//	}
//	return refs.Apply(…)
type Batch struct {
	db    *DB
	o     BatchOptions
	lock  *durable.Lock
	began time.Time

	seen               seen
	metaPack, dataPack *output
	meta               filler // trees, commits, tags
	data               filler // blobs that no lane brings
	recipes            filler
	mixed              int  // below this many bytes all goes into one pack
	merging            bool // the store has all of this already
	committed          atomic.Bool
	huge               atomic.Int64 // bytes of huge blobs so far

	mu      sync.Mutex
	lanes   map[*Lane]bool // that are not closed
	left    []*openBlock   // of lanes that are
	free    []*pack.Block  // for lanes
	presses []*press
	waiting map[objects.ID]waiting     // received and not proven
	waits   int                        // bytes of these
	awaited map[objects.ID][]*assembly // blobs, by the chunk that they need next
	err     error                      // the first failure: Commit must not succeed after it
	closed  bool
}

// ErrClosed says that a batch was committed or closed before.
var ErrClosed = errors.New("batch is closed already")

// NewBatch starts a batch.
func (db *DB) NewBatch(ctx context.Context, o BatchOptions) (*Batch, error) {
	if err := durable.MkdirAll(db.dir, durable.Synced); err != nil {
		return nil, err
	}
	lock, err := db.lockShared(ctx)
	if err != nil {
		return nil, err
	}
	// What was dropped before the lock was ours must not be taken to be there.
	if s := db.set.Load(); s != nil {
		if _, _, err := db.refresh(s); err != nil {
			lock.Unlock()
			return nil, err
		}
	}
	return db.newBatch(o, lock), nil
}

func (db *DB) newBatch(o BatchOptions, lock *durable.Lock) *Batch {
	if o.BlockSize <= 0 {
		o.BlockSize = SmallBlock
	}
	b := &Batch{db: db, o: o, lock: lock, began: time.Now(), lanes: map[*Lane]bool{}, mixed: mixedBatch}
	b.metaPack, b.dataPack = &output{dir: db.dir}, &output{dir: db.dir}
	b.meta = filler{b: b, to: b.metaPack, size: max(metaBlock, o.BlockSize/bulkMeta)}
	b.data = filler{b: b, to: b.dataPack, size: SmallBlock}
	b.recipes = filler{b: b, to: b.dataPack, size: recipeBlock}
	return b
}

// Next closes the batch and starts another one. Nobody drops objects in between.
func (b *Batch) Next(o BatchOptions) (*Batch, error) {
	_, _, err := b.db.refresh(b.db.set.Load())
	next := b.db.newBatch(o, b.lock)
	b.lock = nil
	b.Close()
	return next, err
}

// Close ends the batch, and drops it unless Commit succeeded.
func (b *Batch) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.metaPack.abort()
	b.dataPack.abort()
	for _, p := range b.presses {
		compress.PutEncoder(p.encoder)
	}
	b.presses, b.free = nil, nil
	b.lock.Unlock()
	b.lock = nil
}

// fail keeps the first error for Commit.
func (b *Batch) fail(err error) error {
	if err != nil {
		b.mu.Lock()
		if b.err == nil {
			b.err = err
		}
		b.mu.Unlock()
	}
	return err
}

// PutBytes adds an object that is in memory. It keeps nothing of body.
func (b *Batch) PutBytes(k objects.Kind, body []byte) (objects.ID, error) {
	if len(body) > pack.MaxRecord || k == objects.Blob && len(body) >= chunk.Threshold {
		return b.Put(context.Background(), k, int64(len(body)), bytes.NewReader(body))
	}
	if !k.Valid() {
		return objects.ID{}, fmt.Errorf("put: %s is no object", k)
	}
	id := objects.Sum(k, body)
	t := pack.Type(k)
	return id, b.filler(t).put(pack.Record{ID: id, Type: t, Size: uint32(len(body))}, body)
}

// Put adds an object of size bytes, which it reads from r. A big blob is cut into
// chunks and never held in memory. Nothing is durable before Commit.
func (b *Batch) Put(ctx context.Context, k objects.Kind, size int64, r io.Reader) (objects.ID, error) {
	if k == objects.Blob && size >= chunk.Threshold {
		lane := b.Lane()
		defer lane.Close()
		return lane.PutReader(ctx, size, r)
	}
	if size < 0 || size > pack.MaxRecord {
		return objects.ID{}, fmt.Errorf("put %s of %d bytes: %w", k, size, errTooBig)
	}
	body := make([]byte, size)
	if err := readExactly(r, body); err != nil {
		return objects.ID{}, fmt.Errorf("put %s: %w", k, err)
	}
	return b.PutBytes(k, body)
}

// readExactly fails if r does not hold len(p) bytes, and neither more nor less.
func readExactly(r io.Reader, p []byte) error {
	if n, err := io.ReadFull(r, p); err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("it ends after %d bytes, announced were %d", n, len(p))
	} else if err != nil {
		return err
	}
	return atEnd(r, int64(len(p)))
}

func atEnd(r io.Reader, size int64) error {
	var more [1]byte
	for {
		n, err := r.Read(more[:])
		switch {
		case n > 0:
			return fmt.Errorf("it has more than the %d bytes that were announced", size)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func (b *Batch) filler(t pack.Type) *filler {
	switch {
	case t.IsMeta():
		return &b.meta
	case t == pack.Recipe:
		return &b.recipes
	}
	return &b.data
}

// PutTree is PutBytes for a tree. If base, an earlier version of it, is in the
// store or the batch, the tree is kept as a delta, where that is much smaller.
func (b *Batch) PutTree(body []byte, base objects.ID) (objects.ID, error) {
	const worthwhile = 256
	if base.IsZero() || len(body) < worthwhile || len(body) > pack.MaxRecord {
		return b.PutBytes(objects.Tree, body)
	}
	id := objects.Sum(objects.Tree, body)
	if known, err := b.has(context.Background(), &id); known || err != nil {
		return id, err
	}
	if base, baseBody, ok := b.deltaBase(context.Background(), base); ok && base != id {
		record, ok := pack.AppendDelta(nil, id, body, base, baseBody, len(body)/2)
		if ok {
			return id, b.meta.put(pack.Record{ID: id, Type: pack.Delta, Size: uint32(len(record))}, record)
		}
	}
	return id, b.meta.put(pack.Record{ID: id, Type: pack.Tree, Size: uint32(len(body))}, body)
}

// deltaBase returns the tree that a delta to id must be made from: id itself, or
// its base if it is a delta too. Deltas are one deep.
func (b *Batch) deltaBase(ctx context.Context, id objects.ID) (objects.ID, []byte, bool) {
	base := id
	for range 2 {
		t, record, err := b.rawRecord(ctx, base)
		switch {
		case err != nil:
			return base, nil, false
		case t == pack.Tree:
			return base, record, objects.Sum(objects.Tree, record) == base
		case t != pack.Delta:
			return base, nil, false
		}
		d, err := pack.ParseDelta(record)
		if err != nil {
			return base, nil, false
		}
		base = d.Base
	}
	return base, nil, false
}
