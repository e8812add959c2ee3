package remotetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// Strict is a bucket that holds its callers to what the interface says, and
// itself does no more than it must: it reads byte by byte, lists in any order,
// and fails the test if a body is not closed, a file is given other bytes, or a
// root leads to a file that is not there.
type Strict struct {
	tb testing.TB

	Memory

	mu   sync.Mutex
	sums map[string][sha256.Size]byte // guarded by mu; of all files that ever were
	open map[*strictBody]string       // guarded by mu
}

// NewStrict returns an empty bucket that watches its callers until tb ends.
func NewStrict(tb testing.TB) *Strict {
	s := &Strict{tb: tb, sums: map[string][sha256.Size]byte{}, open: map[*strictBody]string{}}
	tb.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, name := range s.open {
			tb.Errorf("the body of %s was not closed", name)
		}
	})
	return s
}

type strictBody struct {
	io.Reader
	s *Strict
}

func (b *strictBody) Close() error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	delete(b.s.open, b)
	return nil
}

// Get opens n bytes of a file, and gives them one by one at times.
func (s *Strict) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if off < 0 {
		s.tb.Errorf("Get of %s at %d", name, off)
	}
	body, err := s.Memory.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	b := &strictBody{Reader: iotest.DataErrReader(body), s: s}
	if n < 1<<10 {
		b.Reader = iotest.OneByteReader(body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[b] = name
	return b, nil
}

// Put keeps a file, which must be what it was before if it was.
func (s *Strict) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(body, 0, size)); err != nil {
		return err
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	s.mu.Lock()
	before, ok := s.sums[name]
	s.sums[name] = sum
	s.mu.Unlock()
	if ok && before != sum {
		s.tb.Errorf("Put gave other bytes to %s", name)
	}
	return s.Memory.Put(ctx, name, body, size)
}

// List yields the files in a directory in any order.
func (s *Strict) List(ctx context.Context, dir string) iter.Seq2[remote.Info, error] {
	return func(yield func(remote.Info, error) bool) {
		var all []remote.Info
		for info, err := range s.Memory.List(ctx, dir) {
			if err != nil {
				yield(info, err)
				return
			}
			all = append(all, info)
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// A Faulty bucket fails as a Plan says, and otherwise does what Bucket does.
type Faulty struct {
	remote.Bucket
	Plan func(op string, n int) Fault // n counts the calls of op, from 1

	mu    sync.Mutex
	calls map[string]int // guarded by mu
}

// A Fault is what befalls a call.
type Fault uint8

// The faults.
const (
	None     Fault = iota
	Fail           // not done, and reported as failed
	DoneFail       // done, but reported as failed
	Cut            // of Get: the body ends early
)

// ErrFault is what faults report.
var ErrFault = errors.New("the connection broke")

func (f *Faulty) next(op string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[op]++
	return f.Plan(op, f.calls[op])
}

// do makes a call, or not.
func (f *Faulty) do(op string, call func() error) error {
	switch f.next(op) {
	case Fail:
		return fmt.Errorf("%s: %w", op, ErrFault)
	case DoneFail:
		if err := call(); err != nil {
			return err
		}
		return fmt.Errorf("%s: %w", op, ErrFault)
	}
	return call()
}

// Get may fail or be cut short.
func (f *Faulty) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	switch f.next("get") {
	case Fail, DoneFail:
		return nil, fmt.Errorf("get: %w", ErrFault)
	case Cut:
		body, err := f.Bucket.Get(ctx, name, off, n)
		if err != nil {
			return nil, err
		}
		return cutBody{io.MultiReader(io.LimitReader(body, max(0, n/2)), iotest.ErrReader(io.ErrUnexpectedEOF)), body}, nil
	}
	return f.Bucket.Get(ctx, name, off, n)
}

type cutBody struct {
	io.Reader
	io.Closer
}

// Put may fail.
func (f *Faulty) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	return f.do("put", func() error { return f.Bucket.Put(ctx, name, body, size) })
}

// Delete may fail.
func (f *Faulty) Delete(ctx context.Context, name string) error {
	return f.do("delete", func() error { return f.Bucket.Delete(ctx, name) })
}

// List may fail.
func (f *Faulty) List(ctx context.Context, dir string) iter.Seq2[remote.Info, error] {
	if f.next("list") == None {
		return f.Bucket.List(ctx, dir)
	}
	return func(yield func(remote.Info, error) bool) { yield(remote.Info{}, fmt.Errorf("list: %w", ErrFault)) }
}

// Root may fail.
func (f *Faulty) Root(ctx context.Context) (r remote.Root, err error) {
	err = f.do("root", func() error {
		r, err = f.Bucket.Root(ctx)
		return err
	})
	return r, err
}

// Swap may fail.
func (f *Faulty) Swap(ctx context.Context, old, next remote.Root) error {
	return f.do("swap", func() error { return f.Bucket.Swap(ctx, old, next) })
}

// At is a plan with one fault, at call n of op.
func At(op string, n int, fault Fault) func(string, int) Fault {
	return func(o string, i int) Fault {
		if o == op && i == n {
			return fault
		}
		return None
	}
}

// Often is a plan by which about one in n calls fails, in one way or another.
func Often(n int) func(string, int) Fault {
	faults := []Fault{Fail, DoneFail, Cut}
	return func(string, int) Fault {
		if rand.IntN(n) > 0 {
			return None
		}
		return faults[rand.IntN(len(faults))]
	}
}
