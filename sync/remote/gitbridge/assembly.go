package gitbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cache-tool/cache-tool/objects"
)

// pieces adds a blob that is kept as the tree of its pieces.
func (w *inward) pieces(ctx context.Context, at oid) (row, error) {
	if r, ok := w.known(at, pieces); ok {
		return r, nil
	}
	i, err := w.entry(at, objects.Tree)
	if err != nil {
		return row{}, err
	}
	body, err := w.in.read(i)
	if err != nil {
		return row{}, err
	}
	a := &assembly{w: w, at: map[oid]span{}}
	defer a.close()
	for rest, n := body, 0; len(rest) > 0; n++ {
		mode, name, part, after, err := cutEntry(rest)
		if err != nil {
			return row{}, err
		}
		rest = after
		if mode != objects.ModeFile || name != fmt.Sprintf("%08x", n) {
			return row{}, fmt.Errorf("%w: tree %s is not one of pieces", ErrForeign, at)
		}
		a.parts = append(a.parts, part)
	}
	size, err := a.gather(ctx)
	if err != nil {
		return row{}, err
	}
	id, err := w.b.Put(ctx, objects.Blob, size, a)
	if err != nil {
		return row{}, fmt.Errorf("blob of tree %s: %w", at, err)
	}
	for _, part := range a.parts {
		if err := w.ids.add(ctx, id, piece, part); err != nil {
			return row{}, err
		}
	}
	return w.add(ctx, i, id, pieces)
}

// An assembly reads a blob that is put together of its pieces. Pieces that the server
// did not send, since another blob here has them, are taken from that.
type assembly struct {
	w     *inward
	parts []oid

	file *os.File // has the pieces that are not in the pack
	size int64
	at   map[oid]span // where in it

	next int // of parts
	now  io.ReadCloser
}

type span struct{ off, n int64 }

func (a *assembly) close() {
	if a.file != nil {
		a.file.Close()
	}
	if a.now != nil {
		a.now.Close()
	}
}

// gather makes sure that all pieces are at hand, and returns how big they are together.
func (a *assembly) gather(ctx context.Context) (size int64, err error) {
	for _, part := range a.parts {
		if i, ok := a.w.in.find(part); ok {
			if a.w.in.entries[i].kind != objects.Blob {
				return 0, fmt.Errorf("%w: %s is no piece", ErrForeign, part)
			}
			size += a.w.in.entries[i].size
			continue
		}
		if _, ok := a.at[part]; !ok {
			r, ok := a.w.ids.ours(part, piece)
			if !ok {
				return 0, fmt.Errorf("piece %s: %w", part, errLacks)
			}
			if err := a.take(ctx, r.id); err != nil {
				return 0, err
			}
		}
		s, ok := a.at[part]
		if !ok {
			return 0, fmt.Errorf("piece %s: %w", part, errLacks)
		}
		size += s.n
	}
	return size, nil
}

// take keeps the pieces of a blob that is here, as far as they are needed.
func (a *assembly) take(ctx context.Context, id objects.ID) error {
	o, err := a.w.src.Open(ctx, id)
	if errors.Is(err, objects.ErrNotFound) {
		// It may be one of those that have just come.
		o, err = a.w.b.Open(ctx, id)
	}
	if errors.Is(err, objects.ErrNotFound) {
		return fmt.Errorf("blob %s: %w", id.Short(), errLacks)
	}
	if err != nil {
		return err
	}
	defer o.Body.Close()
	if a.file == nil {
		if a.file, err = scratch(a.w.dir); err != nil {
			return err
		}
	}
	wanted := map[oid]bool{}
	for _, part := range a.parts {
		wanted[part] = true
	}
	return eachPiece(o.Body, func(body []byte) error {
		at := sumOID(objects.Blob, body)
		if _, known := a.at[at]; known || !wanted[at] {
			return nil
		}
		a.at[at] = span{a.size, int64(len(body))}
		_, err := a.file.WriteAt(body, a.size)
		a.size += int64(len(body))
		return err
	})
}

func (a *assembly) Read(p []byte) (int, error) {
	for {
		if a.now == nil {
			if a.next == len(a.parts) {
				return 0, io.EOF
			}
			var err error
			if a.now, err = a.open(a.parts[a.next]); err != nil {
				return 0, err
			}
			a.next++
		}
		n, err := a.now.Read(p)
		if err == io.EOF {
			err = a.now.Close()
			a.now = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (a *assembly) open(part oid) (io.ReadCloser, error) {
	if i, ok := a.w.in.find(part); ok {
		return a.w.in.open(i)
	}
	s := a.at[part]
	return io.NopCloser(io.NewSectionReader(a.file, s.off, s.n)), nil
}
