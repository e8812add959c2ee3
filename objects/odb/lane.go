package odb

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/chunk"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A Lane fills a block of its own, so that many goroutines can add blobs to a
// batch without waiting for each other. It is for one goroutine. What it is
// given one after the other is stored one after the other: bring alike things
// together, in the order in which they will be wanted.
type Lane struct {
	b       *Batch
	open    shelf
	chunks  shelf      // for chunks, if the batch has small blocks or huge blobs: see shelfFor
	fast    shelf      // for chunks of huge blobs when there have been many
	pending chan error // of the block that is being written
	slabs   slabs
}

// A shelf is a lane's open block, nil if it has none, and how to begin another.
type shelf struct {
	*openBlock
	size  int
	level compress.Level
}

// Lane returns a new lane. Each is closed before Commit.
func (b *Batch) Lane() *Lane {
	l := &Lane{
		b:      b,
		open:   shelf{size: b.o.BlockSize, level: b.o.Level},
		chunks: shelf{size: chunkBlock, level: b.o.Level},
		fast:   shelf{size: chunkBlock, level: fastLevel},
	}
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
	if l.open.isFull(n) {
		if err := l.open.write(); err != nil {
			return nil, err
		}
		l.open.openBlock = nil
	}
	l.begin(&l.open, n)
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
	fresh, err := l.b.claim(l.open.openBlock, &r)
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

// isFull reports whether another block must be begun for n bytes more.
func (s *shelf) isFull(n int) bool {
	return s.openBlock != nil && s.block.Len() > 0 && s.block.Len()+n > s.size
}

// begin makes sure that there is an open block.
func (l *Lane) begin(s *shelf, n int) {
	if s.openBlock == nil {
		s.openBlock = &openBlock{b: l.b, to: l.b.dataPack, level: s.level, lane: true, block: l.b.take(s.size)}
		s.block.Grow(max(n, s.size))
	}
}

// handOver writes an open block, in the background unless it is big: then so much
// memory is in use already that there had better be more lanes.
func (l *Lane) handOver(s *shelf) error {
	if err := l.settle(); err != nil {
		return err
	}
	if s.size > chunkBlock {
		full := s.openBlock
		s.openBlock = nil
		return full.write()
	}
	full, done := s.openBlock, make(chan error, 1)
	s.openBlock, l.pending = nil, done
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
	for _, s := range []*shelf{&l.open, &l.chunks, &l.fast} {
		if s.openBlock == nil {
			continue
		}
		// A small rest is left to Commit, which may put all rests into one block.
		if s.block.Len() >= l.b.mixed {
			if e := s.write(); err == nil {
				err = e
			}
		}
		l.b.mu.Lock()
		l.b.left = append(l.b.left, s.openBlock)
		l.b.mu.Unlock()
		s.openBlock = nil
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	delete(l.b.lanes, l)
	return err
}

// take returns an empty block for a lane, one that has size bytes if possible.
func (b *Batch) take(size int) *pack.Block {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, block := range b.free {
		if block.Cap() >= size && block.Cap() < 2*size+MaxSpace {
			b.free = slices.Delete(b.free, i, i+1)
			return block
		}
	}
	return new(pack.Block)
}

func (b *Batch) giveBack(block *pack.Block) {
	block.Reset()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, block)
}
