package gitbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// A watch ends a conversation in which nothing moves for too long. It runs while we wait
// for the other side, and not while we are busy ourselves.
type watch struct {
	timer    *time.Timer
	patience time.Duration
	cancel   context.CancelCauseFunc
}

func newWatch(ctx context.Context, patience time.Duration) (*watch, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{patience: patience, cancel: cancel}
	w.timer = time.AfterFunc(patience, func() {
		cancel(remote.Unreachable(fmt.Errorf("the server is silent for %v", patience)))
	})
	return w, ctx
}

func (w *watch) wait()  { w.timer.Reset(w.patience) }
func (w *watch) pause() { w.timer.Stop() }

// think lets the other side take longer: it has got all, and works on it.
func (w *watch) think() { w.timer.Reset(5 * w.patience) }

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause says why a conversation has ended early, if it was the watch.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); err != nil && errors.Is(why, remote.ErrUnreachable) {
		return why
	}
	return err
}

// watched is what comes from the other side.
type watched struct {
	io.Reader
	w   *watch
	ctx context.Context
}

func (r *watched) Read(p []byte) (int, error) {
	r.w.wait()
	n, err := r.Reader.Read(p)
	r.w.pause()
	if err != nil && err != io.EOF {
		err = cause(r.ctx, err)
	}
	return n, err
}

// sending is what goes to the other side: it has taken what was read before.
type sending struct {
	io.Reader
	w *watch
}

func (r *sending) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == nil {
		r.w.wait()
	} else {
		r.w.think()
	}
	return n, err
}
