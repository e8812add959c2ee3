package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// tries is how often a file is opened before its reader gives up.
const tries = 4

// A stream reads n bytes of a file. If the connection breaks, it goes on where
// that happened.
type stream struct {
	ctx    context.Context // of the one read that it is for
	r      *Remote
	name   string
	off, n int64

	body   io.ReadCloser
	failed int
	since  int64 // bytes that came since it failed last
}

func (r *Remote) stream(ctx context.Context, name string, off, n int64) *stream {
	return &stream{ctx: ctx, r: r, name: name, off: off, n: n}
}

func (s *stream) Read(p []byte) (int, error) {
	if s.n == 0 {
		return 0, io.EOF
	}
	for {
		n, err := s.try(p)
		s.off, s.n, s.since = s.off+int64(n), s.n-int64(n), s.since+int64(n)
		if n > 0 || err == nil {
			return n, nil
		}
		s.Close()
		if s.since >= s.n { // of what was left half has come: it gets on
			s.failed = 0
		}
		s.since = 0
		if err := s.r.retry(s.ctx, &s.failed, err); err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
	}
}

func (s *stream) try(p []byte) (int, error) {
	if s.body == nil {
		body, err := s.r.b.Get(s.ctx, s.name, s.off, s.n)
		if err != nil {
			return 0, err
		}
		s.body = body
	}
	if int64(len(p)) > s.n {
		p = p[:s.n]
	}
	n, err := s.body.Read(p)
	if err == io.EOF && int64(n) < s.n {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close closes what is open. The stream can be read on after that.
func (s *stream) Close() {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
}

// retry returns nil, after a while, if there is sense in trying again.
func (r *Remote) retry(ctx context.Context, failed *int, err error) error {
	*failed++
	final := errors.Is(err, remote.ErrNotFound) || errors.Is(err, remote.ErrDenied) || errors.Is(err, remote.ErrUnreachable)
	if *failed == tries || final || ctx.Err() != nil {
		return err
	}
	return pause(ctx, 3+*failed)
}

// read reads n bytes of a file, and takes not much more memory than arrives.
func (r *Remote) read(ctx context.Context, name string, off, n int64) ([]byte, error) {
	s := r.stream(ctx, name, off, n)
	defer s.Close()
	data := make([]byte, 0, min(n, maxRange))
	for int64(len(data)) < n {
		data = slices.Grow(data, int(min(n-int64(len(data)), maxRange)))
		m, err := s.Read(data[len(data):min(int64(cap(data)), n)])
		data = data[:len(data)+m]
		if err != nil {
			return data, err
		}
	}
	return data, nil
}

// readAll reads a file of at most limit bytes.
func (r *Remote) readAll(ctx context.Context, name string, limit int64) ([]byte, error) {
	for failed := 0; ; {
		data, err := r.readOnce(ctx, name, limit)
		if err == nil {
			return data, nil
		}
		if err := r.retry(ctx, &failed, err); err != nil {
			return nil, err
		}
	}
}

func (r *Remote) readOnce(ctx context.Context, name string, limit int64) ([]byte, error) {
	body, err := r.b.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, limit))
}
