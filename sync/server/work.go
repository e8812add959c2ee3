package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/sync/wire"
)

// work calls fn, which may take as long as Options.Work, and tells the client
// meanwhile that it has not been forgotten. The body must have been read: what is
// sent meanwhile would get in the way of asking for it.
func (x *exchange) work(fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	x.clock = newClock(x.s.o.Work, func() { cancel(wire.Errorf(wire.TooLarge, "it takes more than %v", x.s.o.Work)) })
	defer x.clock.stop()
	defer x.reassure()()
	err := fn(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// A clock says when something has taken too long, not counting while it stands.
type clock struct {
	timer *time.Timer
	left  time.Duration
	since time.Time
}

func newClock(limit time.Duration, late func()) *clock {
	return &clock{time.AfterFunc(limit, late), limit, time.Now()}
}

func (c *clock) stop() {
	c.timer.Stop()
	c.left -= time.Since(c.since)
}

func (c *clock) start() {
	c.since = time.Now()
	c.timer.Reset(max(0, c.left))
}

// reassurance is how often a client hears that we are still at it. Clients wait
// for a minute.
func (o Options) reassurance() time.Duration { return min(10*time.Second, o.Patience/3) }

// reassure tells the client now and then that something is being done for it,
// until stop is called.
func (x *exchange) reassure() (stop func()) {
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		ticker := time.NewTicker(x.s.o.reassurance())
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				x.murmur()
			}
		}
	})
	return func() {
		close(done)
		watch.Wait()
	}
}

// murmur sends what means nothing, unless something was sent just now.
func (x *exchange) murmur() {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case time.Since(x.last) < x.s.o.reassurance()/2:
		return
	case x.status == 0 && x.r.ProtoAtLeast(1, 1):
		x.last = time.Now()
		_ = x.rc.SetWriteDeadline(x.last.Add(x.s.o.Patience))
		x.w.WriteHeader(http.StatusProcessing) // which sends it
	case x.stream && !x.whole:
		_, _ = x.write(x.dialect.wait)
		_ = x.rc.Flush()
	}
}
