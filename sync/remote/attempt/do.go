package attempt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
)

var (
	// Why the watchdog bites: nothing came, or went, for too long; or too little.
	errSilent = remote.Unreachable(errors.New("the server is silent"))
	errSlow   = remote.Unreachable(errors.New("the server is too slow"))

	// errHungUp is the end of a connection where an answer should begin.
	errHungUp = fmt.Errorf("the server hangs up: %w", io.EOF)
)

// Do sends a request, with size bytes of body, and gives it up if the other side
// is silent for longer than patience, or too slow. Its errors say nothing of the URL:
// the caller knows what of that people may see. Who gets an answer closes its body.
func Do(client *http.Client, req *http.Request, body io.ReaderAt, size int64, patience time.Duration) (*http.Response, error) {
	watch, ctx := newWatchdog(req.Context(), patience)
	req = req.WithContext(ctx)
	req.ContentLength = size
	if req.Body = http.NoBody; size > 0 {
		req.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(&sent{io.NewSectionReader(body, 0, size), watch}), nil
		}
		req.Body, _ = req.GetBody()
	}
	resp, err := client.Do(req)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err
		}
		if err == io.EOF {
			err = errHungUp
		}
		err = watch.cause(ctx, err)
		watch.stop()
		return nil, err
	}
	watch.rest(0)
	resp.Body = &watchedBody{resp.Body, watch, ctx}
	return resp, nil
}

// Drop reads what is left of a short body, so that the connection can be used
// again.
func Drop(body io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(body, 64<<10))
	body.Close()
}

// A watchdog ends a request in which nothing moves for too long, or so little that
// it would never end. It counts while we wait for the other side, and not while we
// are busy ourselves.
type watchdog struct {
	timer    *time.Timer
	patience time.Duration
	cancel   context.CancelCauseFunc

	mu     sync.Mutex
	waits  time.Time     // guarded by mu; since when
	waited time.Duration // guarded by mu; before that
	moved  int64         // guarded by mu; bytes
}

// minPace is how many bytes must move in a second, on average, once a request has
// lasted for some time.
const minPace = 1 << 10

func newWatchdog(ctx context.Context, patience time.Duration) (*watchdog, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{patience: patience, cancel: cancel, waits: time.Now()}
	w.timer = time.AfterFunc(patience, w.bite)
	// A server that is still looking says so.
	return w, httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			w.restart()
			return nil
		},
	})
}

// restart says that what counts begins now.
func (w *watchdog) restart() {
	w.mu.Lock()
	w.waits, w.waited, w.moved = time.Now(), 0, 0
	w.mu.Unlock()
	w.wait()
}

func (w *watchdog) bite() {
	w.mu.Lock()
	defer w.mu.Unlock()
	cause := fmt.Errorf("%w for %v", errSilent, w.patience)
	if now := time.Since(w.waits); now < w.patience {
		cause = fmt.Errorf("%w: %d bytes in %v", errSlow, w.moved, (w.waited + now).Round(time.Second))
	}
	w.cancel(cause)
}

// wait says that we wait for the other side from now on.
func (w *watchdog) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waits = time.Now()
	left := 5*w.patience + time.Duration(w.moved/minPace)*time.Second - w.waited
	w.timer.Reset(max(0, min(w.patience, left)))
}

// rest says that it is our turn: n bytes have moved.
func (w *watchdog) rest(n int) {
	w.timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waited, w.moved = w.waited+time.Since(w.waits), w.moved+int64(n)
}

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause says why a request ended early, if it was the watchdog.
func (w *watchdog) cause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, remote.ErrUnreachable) {
		return cause
	}
	return err
}

// sent is a body that is being sent: the other side has taken what was read of it
// before.
type sent struct {
	io.Reader
	watch *watchdog
}

func (r *sent) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.watch.rest(n)
		r.watch.wait()
	}
	return n, err
}

// watchedBody is the body of an answer. Closing it ends the request.
type watchedBody struct {
	io.ReadCloser
	watch *watchdog
	ctx   context.Context
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.wait()
	n, err := b.ReadCloser.Read(p)
	b.watch.rest(n)
	if err != nil && err != io.EOF {
		err = b.watch.cause(b.ctx, err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.watch.stop()
	return err
}
