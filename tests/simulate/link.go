// Package simulate counts what pushes, pulls and collections of a bucket take, for
// docs/scale.md: real repositories, the real transfer, and a bucket in memory with a link
// to it for each machine, which takes time and fails.
//
// It runs in a bubble of testing/synctest, whose clock goes on when all wait. So time is
// that of the links: what is computed takes none, and a thousand machines fit into one.
package simulate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

// A Network is what lies between machines and a bucket. The zero Network takes no time
// and never fails.
type Network struct {
	Latency   time.Duration // of a request, on average: half of it to one and a half
	Bandwidth int64         // bytes a second, of one machine; 0 is any number
	Fail      float64       // the share of requests that fail: half of them not done, half done
}

// A link connects one machine with a bucket, and counts. It sends a request again as the
// backends for real storage do: five times, with a growing pause.
type link struct {
	remote.Bucket
	net Network

	mu    sync.Mutex
	count Count     // guarded by mu
	free  time.Time // guarded by mu; when what was sent before has gone through
}

// Count is what went over a link.
type Count struct {
	Reads   int // of whole files, and of the root
	Ranges  int // reads of parts of files
	Writes  int
	Swaps   int // conditional writes: attempts to replace the root
	Lists   int // of at most 1,000 names each
	Deletes int

	Lost    int // swaps for which somebody else was faster
	Retries int // requests that were sent again
	Up      int64
	Down    int64 // bytes of bodies
}

// Requests is how many there were.
func (c Count) Requests() int { return c.Reads + c.Ranges + c.Writes + c.Swaps + c.Lists + c.Deletes }

// Add adds what went over another link.
func (c *Count) Add(d Count) {
	for i, f := range c.fields() {
		*f += *d.fields()[i]
	}
	c.Up, c.Down = c.Up+d.Up, c.Down+d.Down
}

func (c *Count) fields() []*int {
	return []*int{&c.Reads, &c.Ranges, &c.Writes, &c.Swaps, &c.Lists, &c.Deletes, &c.Lost, &c.Retries}
}

// take returns what was counted since the last take.
func (l *link) take() Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.count
	l.count = Count{}
	return c
}

func (l *link) counted(fn func(*Count)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(&l.count)
}

// carry takes as long as n bytes do behind those that are on their way.
func (l *link) carry(n int64) {
	if l.net.Bandwidth == 0 {
		return
	}
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.net.Bandwidth) * float64(time.Second)))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	time.Sleep(wait)
}

var errBroken = errors.New("the connection broke")

// once makes one request: there, done, and back.
func (l *link) once(kind func(*Count) *int, up int64, do func() error) error {
	l.counted(func(c *Count) {
		*kind(c)++
		c.Up += up
	})
	l.carry(up)
	wait := l.net.Latency/2 + rand.N(l.net.Latency+1)
	time.Sleep(wait / 2)
	chance := rand.Float64()
	if chance < l.net.Fail/2 {
		return errBroken
	}
	err := do()
	time.Sleep(wait - wait/2)
	if chance < l.net.Fail {
		return errBroken
	}
	return err
}

// request makes a request that may be made again.
func (l *link) request(ctx context.Context, kind func(*Count) *int, up int64, do func() error) error {
	for a := attempt.Begin(attempt.Options{}.OrDefault()); ; {
		err := l.once(kind, up, do)
		if !errors.Is(err, errBroken) {
			return err
		}
		if err := a.Rest(ctx, err, 0); err != nil {
			return err
		}
		l.counted(func(c *Count) { c.Retries++ })
	}
}

// Get opens a part of a file.
func (l *link) Get(ctx context.Context, name string, off, n int64) (body io.ReadCloser, err error) {
	kind := func(c *Count) *int { return &c.Ranges }
	if off == 0 && n < 0 {
		kind = func(c *Count) *int { return &c.Reads }
	}
	err = l.request(ctx, kind, 0, func() error {
		body, err = l.Bucket.Get(ctx, name, off, n)
		return err
	})
	return carried{body, l}, err
}

// carried is a body on its way.
type carried struct {
	io.ReadCloser
	l *link
}

func (b carried) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.l.counted(func(c *Count) { c.Down += int64(n) })
	b.l.carry(int64(n))
	return n, err
}

// Put keeps a file.
func (l *link) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	return l.request(ctx, func(c *Count) *int { return &c.Writes }, size, func() error {
		return l.Bucket.Put(ctx, name, body, size)
	})
}

// List yields the files in a directory.
func (l *link) List(ctx context.Context, dir string) iter.Seq2[remote.Info, error] {
	const page = 1000
	kind := func(c *Count) *int { return &c.Lists }
	return func(yield func(remote.Info, error) bool) {
		n := 0
		for info, err := range l.Bucket.List(ctx, dir) {
			if n%page == 0 && err == nil {
				err = l.request(ctx, kind, 0, func() error { return nil })
			}
			if n++; !yield(info, err) || err != nil {
				return
			}
		}
		if n == 0 {
			if err := l.request(ctx, kind, 0, func() error { return nil }); err != nil {
				yield(remote.Info{}, err)
			}
		}
	}
}

// Delete removes a file.
func (l *link) Delete(ctx context.Context, name string) error {
	return l.request(ctx, func(c *Count) *int { return &c.Deletes }, 0, func() error { return l.Bucket.Delete(ctx, name) })
}

// Root returns the root.
func (l *link) Root(ctx context.Context) (root remote.Root, err error) {
	err = l.request(ctx, func(c *Count) *int { return &c.Reads }, 0, func() error {
		root, err = l.Bucket.Root(ctx)
		return err
	})
	return root, err
}

// Swap replaces the root. After a request that broke it looks what became of it.
func (l *link) Swap(ctx context.Context, old, next remote.Root) error {
	for a := attempt.Begin(attempt.Options{}.OrDefault()); ; {
		err := l.once(func(c *Count) *int { return &c.Swaps }, 0, func() error { return l.Bucket.Swap(ctx, old, next) })
		if errors.Is(err, remote.ErrLost) {
			l.counted(func(c *Count) { c.Lost++ })
		}
		if !errors.Is(err, errBroken) {
			return err
		}
		is, e := l.Root(ctx)
		if e != nil {
			return fmt.Errorf("%w; and what became of it: %w", err, e)
		}
		switch done, lost := remote.Settle(old, next, is); {
		case done:
			return nil
		case lost != nil:
			return lost
		}
		if err := a.Rest(ctx, err, 0); err != nil {
			return err
		}
		l.counted(func(c *Count) { c.Retries++ })
	}
}
