package server

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cache-tool/cache-tool/sync/wire"
)

// limits say how much is done at once.
type limits struct {
	slots   chan struct{}       // one for each request
	perHead int                 // how many of them a client may have
	queue   time.Duration       // how long a request waits for others to end
	memory  *semaphore.Weighted // bytes for messages
	disk    *semaphore.Weighted // bytes for packs that are being received
	blocks  *semaphore.Weighted // bytes for packs that are being added to the store

	mu    sync.Mutex
	heads map[string]int // guarded by mu; requests of each client
}

const (
	// memoryLimit is how much memory messages take together, and blockLimit the
	// blocks of packs, as far as it is clients who say how much that is.
	memoryLimit = 256 << 20
	blockLimit  = 64 << 20

	// diskLimit is how many of the biggest packs are received at once.
	diskLimit = 8
)

func newLimits(o Options) *limits {
	return &limits{
		slots:   make(chan struct{}, o.MaxRequests),
		perHead: max(2, o.MaxRequests/4),
		queue:   min(5*time.Second, o.Patience),
		memory:  semaphore.NewWeighted(memoryLimit),
		disk:    semaphore.NewWeighted(diskLimit * o.MaxUpload),
		blocks:  semaphore.NewWeighted(blockLimit),
		heads:   map[string]int{},
	}
}

func busy() error { return wire.Errorf(wire.Busy, "the server is busy") }

// enter lets in one more request of a client.
func (l *limits) enter(ctx context.Context, key string) (leave func(), err error) {
	l.mu.Lock()
	full := l.heads[key] >= l.perHead
	if !full {
		l.heads[key]++
	}
	l.mu.Unlock()
	if full {
		return nil, wire.Errorf(wire.TooMany, "more than %d requests at once", l.perHead)
	}
	if err := l.take(ctx); err != nil {
		l.forget(key)
		return nil, err
	}
	return func() {
		<-l.slots
		l.forget(key)
	}, nil
}

func (l *limits) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heads[key]--; l.heads[key] == 0 {
		delete(l.heads, key)
	}
}

// take waits for a place.
func (l *limits) take(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.queue, busy())
	defer cancel()
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hold waits until there are n bytes of something.
func (l *limits) hold(ctx context.Context, of *semaphore.Weighted, n int64) (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.queue, busy())
	defer cancel()
	if of.Acquire(ctx, n) != nil {
		return nil, context.Cause(ctx)
	}
	return func() { of.Release(n) }, nil
}
