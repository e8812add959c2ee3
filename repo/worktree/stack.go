package worktree

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// A stack spreads work over goroutines when work makes more work, as
// directories do.
type stack[T any] struct {
	mu   sync.Mutex
	cond *sync.Cond
	todo []T   // guarded by mu
	busy int   // guarded by mu: how many are working
	err  error // guarded by mu: the first
}

// push adds work. It may be called by those who work.
func (s *stack[T]) push(work ...T) {
	if len(work) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.todo = append(s.todo, work...)
	if len(work) > 1 {
		s.cond.Broadcast()
	} else {
		s.cond.Signal()
	}
}

// pop returns the latest work, once there is some. It is over when nobody works
// who could push.
func (s *stack[T]) pop(ctx context.Context) (work T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.todo) == 0 && s.busy > 0 && s.err == nil {
		s.cond.Wait()
	}
	if s.err == nil {
		s.err = ctx.Err()
	}
	if len(s.todo) == 0 || s.err != nil {
		s.cond.Broadcast()
		return work, false
	}
	last := len(s.todo) - 1
	work = s.todo[last]
	s.todo = s.todo[:last]
	s.busy++
	return work, true
}

func (s *stack[T]) done(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	if err != nil && s.err == nil {
		s.err = err
	}
	if s.busy == 0 || err != nil {
		s.cond.Broadcast()
	}
}

// drain lets n workers do the work, and what they push meanwhile, until none is
// left or one fails. Each worker is made by its own goroutine when it is needed.
func (s *stack[T]) drain(ctx context.Context, n int, newWorker func() func(T) error) error {
	if len(s.todo) == 0 {
		return ctx.Err()
	}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			var worker func(T) error
			for {
				work, ok := s.pop(ctx)
				if !ok {
					return
				}
				if worker == nil {
					worker = newWorker()
				}
				s.done(worker(work))
			}
		})
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func newStack[T any](work ...T) *stack[T] {
	s := &stack[T]{todo: work}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// each calls fn for 0 to count-1, from n goroutines, until one call fails.
func each(ctx context.Context, n, count int, fn func(ctx context.Context, i int) error) error {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(n, count) {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := fn(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// eachPart calls fn for each of all, some of them in a row from one goroutine.
func eachPart[T any](ctx context.Context, n int, all []T, fn func(*T) error) error {
	const part = 64
	return each(ctx, parallel(n), (len(all)+part-1)/part, func(ctx context.Context, i int) error {
		some := all[i*part : min((i+1)*part, len(all))]
		for k := range some {
			if err := fn(&some[k]); err != nil {
				return err
			}
		}
		return nil
	})
}
