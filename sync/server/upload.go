package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/wire"
)

const (
	// inMemory is up to what size a pack is not written to a file first.
	inMemory = 256 << 10

	// leastMemory is what it takes to add a small pack.
	leastMemory = 16 << 20

	// maxExpansion is how many times as long as MaxUpload a pack may be,
	// decompressed.
	maxExpansion = 16
)

// upload adds a pack to the store. It is received as a whole first: a store holds
// locks while it adds something, and somebody slow must not hold them.
func (x *exchange) upload(store Store) error {
	if err := x.checkLength(x.s.o.MaxUpload); err != nil {
		return err
	}
	release, err := x.s.limits.hold(x.r.Context(), x.s.limits.disk, x.r.ContentLength)
	if err != nil {
		return err
	}
	defer release()
	p, err := x.spool()
	if err != nil {
		return err
	}
	defer p.close()
	if err := x.work(func(ctx context.Context) error { return x.add(ctx, store, p) }); err != nil {
		return err
	}
	return x.reply(nil)
}

// A spooled pack has been received.
type spooled struct {
	io.ReaderAt
	size  int64
	close func()
}

func (x *exchange) spool() (spooled, error) {
	size := x.r.ContentLength
	if size <= inMemory {
		data, err := io.ReadAll(x.body())
		return spooled{bytes.NewReader(data), size, func() {}}, err
	}
	f, err := os.CreateTemp(x.s.o.Spool, "tmp-upload-")
	if err != nil {
		return spooled{}, fmt.Errorf("receive a pack: %w", err)
	}
	// It goes with us, however we go.
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return spooled{}, fmt.Errorf("receive a pack: %w", err)
	}
	if _, err := io.CopyBuffer(onlyWriter{f}, x.body(), make([]byte, 128<<10)); err != nil {
		f.Close()
		return spooled{}, err
	}
	return spooled{f, size, func() { f.Close() }}, nil
}

// onlyWriter hides ReadFrom, which would take buffers of its own.
type onlyWriter struct{ io.Writer }

// add adds a pack to the store, unless it would become too much. What is here
// already waits for the memory that it takes: some of its blocks at once, as they
// are and decompressed.
func (x *exchange) add(ctx context.Context, store Store, p spooled) error {
	s := x.s
	m, err := pack.Weigh(p, p.size)
	if err != nil {
		return err
	}
	if most := s.o.MaxUpload * maxExpansion; m.Raw > most {
		return wire.Errorf(wire.TooLarge, "a pack that becomes %d bytes, more than %d", m.Raw, most)
	}
	v, err := x.view(ctx, store)
	if err != nil {
		return err
	}
	memory := min(blockLimit, leastMemory+int64(runtime.GOMAXPROCS(0))*int64(m.Largest))
	if err := s.limits.blocks.Acquire(ctx, memory); err != nil {
		return err
	}
	defer s.limits.blocks.Release(memory)
	if v == nil {
		return store.Upload(ctx, p, p.size)
	}
	var brought *reach.Set
	err = x.recalling(ctx, store, v, func() error {
		brought, err = v.bring(ctx, p)
		return err
	})
	if err != nil {
		return err
	}
	if r, ok := store.(Register); ok {
		err = r.UploadFor(ctx, x.who.key, p, p.size)
	} else {
		err = store.Upload(ctx, p, p.size)
	}
	if err == nil {
		s.owned.add(x.who.key, brought)
	}
	return err
}
