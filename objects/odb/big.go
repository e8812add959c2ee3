package odb

import (
	"context"
	"fmt"
	"io"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/chunk"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// segment is how much of a big blob is read at once.
const segment = 1 << 20

// A slab holds a segment, and before it room for the piece of the segment before
// that was not cut yet: chunks are cut without being copied together.
type slab struct {
	buf  []byte
	room int  // bytes before the segment, as many as the longest chunk
	n    int  // bytes of the segment
	end  bool // the last segment
}

func (s *slab) segment() []byte { return s.buf[s.room : s.room+s.n] }

// slabs is the memory of a lane that reads big blobs: while one slab is cut, the
// next is read and hashed.
type slabs [3]slab

// putChunks reads r in one goroutine, which hashes the whole, and cuts, hashes
// and keeps the chunks in this one. Full blocks are compressed in a third.
func (l *Lane) putChunks(ctx context.Context, size int64, r io.Reader) (objects.ID, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read, free := make(chan *slab, len(l.slabs)), make(chan *slab, len(l.slabs))
	cutter := chunk.For(size)
	for i := range l.slabs {
		s := &l.slabs[i]
		if s.room = cutter.Max(); len(s.buf) < s.room+segment {
			s.buf = make([]byte, s.room+segment)
		}
		free <- s
	}
	sum := objects.NewHasher(objects.Blob, size)
	var readErr error
	go func() {
		defer close(read)
		readErr = readSlabs(ctx, size, r, sum, free, read)
	}()
	pieces, err := l.cutSlabs(cutter, l.shelfFor(size), read, free)
	cancel()
	for range read { // until the goroutine has ended
	}
	if e := l.settle(); err == nil {
		err = e
	}
	if err == nil {
		err = readErr
	}
	if err != nil {
		return objects.ID{}, fmt.Errorf("put blob of %d bytes: %w", size, err)
	}
	id, err := sum.ID()
	if err != nil {
		return id, err
	}
	record := pack.AppendRecipe(make([]byte, 0, pack.RecipeSize(len(pieces))), id, size, pieces)
	if len(record) > pack.MaxRecord {
		return id, fmt.Errorf("put blob of %d bytes: it has too many chunks", size)
	}
	return id, l.b.recipes.put(pack.Record{ID: id, Type: pack.Recipe, Size: uint32(len(record))}, record)
}

// shelfFor returns where the chunks of a blob of size bytes go.
func (l *Lane) shelfFor(size int64) *shelf {
	huge := int64(0) // bytes of huge blobs so far
	if size >= hugeFrom {
		huge = l.b.huge.Add(size)
	}
	switch {
	case huge > fastAfter:
		return &l.fast
	case huge > size, l.open.size < chunkBlock:
		return &l.chunks
	}
	return &l.open
}

func readSlabs(ctx context.Context, size int64, r io.Reader, sum *objects.Hasher, free <-chan *slab, read chan<- *slab) error {
	for left := size; left > 0; {
		var s *slab
		select {
		case s = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.n = int(min(left, segment))
		left -= int64(s.n)
		s.end = left == 0
		p := s.segment()
		if n, err := io.ReadFull(r, p); err == io.EOF || err == io.ErrUnexpectedEOF {
			return fmt.Errorf("it ends after %d bytes", size-left-int64(s.n-n))
		} else if err != nil {
			return err
		}
		if s.end {
			if err := atEnd(r, size); err != nil {
				return err
			}
		}
		sum.Write(p)
		read <- s
	}
	return nil
}

// cutSlabs keeps the chunks of what comes from read.
func (l *Lane) cutSlabs(c chunk.Cutter, to *shelf, read <-chan *slab, free chan<- *slab) ([]pack.Piece, error) {
	var pieces []pack.Piece
	var before *slab // rest points into it
	var rest []byte
	for s := range read {
		start := s.room - len(rest)
		copy(s.buf[start:], rest)
		if before != nil {
			free <- before
		}
		before, rest = s, s.buf[start:s.room+s.n]
		for len(rest) >= c.Max() || s.end && len(rest) > 0 {
			n := c.Cut(rest)
			id, err := l.putChunk(to, rest[:n])
			if err != nil {
				return nil, err
			}
			pieces = append(pieces, pack.Piece{ID: id, Size: uint32(n)})
			rest = rest[n:]
		}
	}
	return pieces, nil
}

func (l *Lane) putChunk(to *shelf, p []byte) (objects.ID, error) {
	r := pack.Record{ID: objects.SumChunk(p), Type: pack.Chunk, Size: uint32(len(p))}
	if _, ok := l.b.seen.get(&r.ID); ok {
		return r.ID, nil
	}
	if to.isFull(len(p)) {
		if err := l.handOver(to); err != nil {
			return r.ID, err
		}
	}
	l.begin(to, len(p))
	to.mu.Lock()
	defer to.mu.Unlock()
	fresh, err := l.b.claim(to.openBlock, &r)
	if fresh {
		copy(to.block.Space(len(p)), p)
		to.block.Add(r)
	}
	return r.ID, err
}
