package odb

import (
	"context"
	"fmt"
	"io"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// chunks is where a stream finds the pieces of a blob: the store, or a batch
// that is not committed yet.
type chunks interface {
	// chunk returns the bytes of a chunk, not proven, until done is called.
	chunk(ctx context.Context, id objects.ID) (body []byte, done func(), err error)
}

// A stream is the body of a blob that is stored in chunks.
type stream struct {
	ctx    context.Context // of Open: a body lasts no longer
	from   chunks
	id     objects.ID
	recipe pack.BlobRecipe
	sum    *objects.Hasher
	next   int    // chunk
	rest   []byte // of the chunk before
	done   func()
	err    error
}

func newStream(ctx context.Context, from chunks, id objects.ID, record []byte) (*stream, error) {
	s := &stream{ctx: ctx, from: from, id: id}
	var err error
	if s.recipe, err = pack.ParseRecipe(record); err != nil {
		return s, err
	}
	if s.recipe.ID != id {
		return s, errWrongID(pack.Recipe)
	}
	s.sum = objects.NewHasher(objects.Blob, s.recipe.Size)
	return s, nil
}

// advance makes rest the next chunk, hashed. It returns io.EOF when there is
// none and the id is proven.
func (s *stream) advance() error {
	s.drop()
	if s.err != nil {
		return s.err
	}
	if s.err = s.ctx.Err(); s.err != nil {
		return s.err
	}
	if s.next == s.recipe.Len() {
		s.err = io.EOF
		if got, err := s.sum.ID(); err != nil || got != s.id {
			s.err = &objects.DamagedError{ID: s.id, Reason: "its chunks do not hash to it"}
		}
		return s.err
	}
	piece := s.recipe.Piece(s.next)
	body, done, err := s.from.chunk(s.ctx, piece.ID)
	if err == nil && len(body) != int(piece.Size) {
		done()
		err = fmt.Errorf("%d bytes, want %d", len(body), piece.Size)
	}
	if err != nil {
		if s.err = s.ctx.Err(); s.err == nil {
			s.err = &objects.DamagedError{ID: s.id, Reason: fmt.Sprintf("chunk %s: %v", piece.ID, err)}
		}
		return s.err
	}
	s.rest, s.done = body, done
	s.sum.Write(body)
	s.next++
	return nil
}

func (s *stream) drop() {
	if s.done != nil {
		s.done()
	}
	s.rest, s.done = nil, nil
}

func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(s.rest) == 0 {
		if err := s.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// WriteTo writes the rest of the body from where it lies, without copying it.
func (s *stream) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if len(s.rest) > 0 {
			n, err := w.Write(s.rest)
			total += int64(n)
			if err != nil {
				return total, err
			}
			s.rest = nil
		}
		switch err := s.advance(); err {
		case nil:
		case io.EOF:
			return total, nil
		default:
			return total, err
		}
	}
}

func (s *stream) Close() error {
	s.drop()
	if s.err == nil {
		s.err = fmt.Errorf("blob %s: read after close", s.id)
	}
	return nil
}

func (s *stream) readAll() ([]byte, error) {
	defer s.Close()
	if s.recipe.Size > objects.MaxInMemory {
		return nil, fmt.Errorf("blob %s: %d bytes: %w", s.id, s.recipe.Size, errTooBig)
	}
	body := make([]byte, s.recipe.Size)
	if _, err := io.ReadFull(s, body); err != nil {
		return nil, err
	}
	_, err := s.Read(make([]byte, 1))
	if err == io.EOF {
		err = nil
	}
	return body, err
}

func (db *DB) chunk(ctx context.Context, id objects.ID) (body []byte, done func(), err error) {
	err = db.eachCopy(ctx, id, func(h hit) error {
		if h.entry.Type != pack.Chunk {
			return errSkip
		}
		record, b, err := db.record(h)
		if err == nil {
			body, done = record, b.release
		}
		return err
	})
	return body, done, err
}
