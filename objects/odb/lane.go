package odb

import (
	"context"
	"fmt"
	"io"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/chunk"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A Lane fills a block of its own, so that many goroutines can add blobs to a
// batch without waiting for each other. It is for one goroutine. What it is
// given one after the other is stored one after the other: bring alike things
// together, in the order in which they will be wanted.
type Lane struct {
	b       *Batch
	open    *openBlock
	pending chan error // of the block that is being written
	slabs   slabs
}

// Lane returns a new lane. Each is closed before Commit.
func (b *Batch) Lane() *Lane {
	l := &Lane{b: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lanes[l] = true
	return l
}

// Space returns room for n bytes, at most MaxSpace, to read a file into. Add
// makes a blob of them; without Add the next Space takes the room again.
func (l *Lane) Space(n int) ([]byte, error) {
	if n > MaxSpace {
		return nil, fmt.Errorf("a lane has no room for %d bytes at once, only for %d", n, MaxSpace)
	}
	if err := l.room(n, l.b.o.BlockSize); err != nil {
		return nil, err
	}
	l.open.mu.Lock()
	defer l.open.mu.Unlock()
	return l.open.block.Space(n), nil
}

// Add makes a blob of the first n bytes of what Space returned last. It is
// dropped if it is there already.
func (l *Lane) Add(n int) (objects.ID, error) {
	l.open.mu.Lock()
	defer l.open.mu.Unlock()
	body := l.open.block.Space(n)
	r := pack.Record{ID: objects.Sum(objects.Blob, body), Type: pack.Blob, Size: uint32(n)}
	fresh, err := l.b.claim(l.open, &r)
	if fresh {
		l.open.block.Add(r)
	}
	return r.ID, err
}

// PutReader adds a blob of size bytes, which it reads from r. A big one is cut
// into chunks.
func (l *Lane) PutReader(ctx context.Context, size int64, r io.Reader) (objects.ID, error) {
	if size < 0 {
		return objects.ID{}, fmt.Errorf("put blob of %d bytes", size)
	}
	if size >= chunk.Threshold {
		return l.putChunks(ctx, size, r)
	}
	p, err := l.Space(int(size))
	if err != nil {
		return objects.ID{}, err
	}
	if err := readExactly(r, p); err != nil {
		return objects.ID{}, fmt.Errorf("put blob: %w", err)
	}
	return l.Add(len(p))
}

// room makes sure that the open block takes n bytes more without exceeding size.
func (l *Lane) room(n, size int) error {
	if l.open != nil && l.open.block.Len() > 0 && l.open.block.Len()+n > size {
		if err := l.open.write(); err != nil {
			return err
		}
		l.open = nil
	}
	l.begin(max(n, size))
	return nil
}

func (l *Lane) begin(size int) {
	if l.open == nil {
		l.open = &openBlock{b: l.b, to: l.b.dataPack, lane: true, block: l.b.take()}
		l.open.block.Grow(size)
	}
}

// handOver writes the open block in the background, one at a time.
func (l *Lane) handOver() error {
	if err := l.settle(); err != nil {
		return err
	}
	full, done := l.open, make(chan error, 1)
	l.open, l.pending = nil, done
	go func() { done <- full.write() }()
	return nil
}

// settle waits for the block that is being written.
func (l *Lane) settle() error {
	if l.pending == nil {
		return nil
	}
	err := <-l.pending
	l.pending = nil
	return err
}

// Close ends the lane and returns what went wrong with it last. What it holds is
// part of the batch all the same.
func (l *Lane) Close() error {
	err := l.settle()
	// A small rest is left to Commit, which may put all rests into one block.
	if l.open != nil && l.open.block != nil && l.open.block.Len() >= l.b.mixed {
		if e := l.open.write(); err == nil {
			err = e
		}
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if l.open != nil {
		l.b.left = append(l.b.left, l.open)
		l.open = nil
	}
	delete(l.b.lanes, l)
	return err
}

// take returns an empty block for a lane.
func (b *Batch) take() *pack.Block {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		block := b.free[n-1]
		b.free = b.free[:n-1]
		return block
	}
	return new(pack.Block)
}

func (b *Batch) giveBack(block *pack.Block) {
	block.Reset()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, block)
}
