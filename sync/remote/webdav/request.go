package webdav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A request can be sent again.
type request struct {
	method, url string
	header      map[string]string
	body        io.ReaderAt
	size        int64
}

// A StatusError is an answer that is not the one that was hoped for.
type StatusError struct {
	Method, URL string
	Code        int
	Reason      string        // what the server says about it, shortened
	Wait        time.Duration // before trying again, if the server says so

	ours bool // it is a cache-tool server that says so
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Code, http.StatusText(e.Code))
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	if e.ours {
		s += ": a cache-tool server is there, and no WebDAV server"
	}
	return s
}

// Is makes the usual codes answer to what callers ask for.
func (e *StatusError) Is(target error) bool {
	if e.ours {
		return target == ErrNoServer
	}
	switch e.Code {
	case http.StatusNotFound, http.StatusGone:
		return target == remote.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return target == remote.ErrDenied
	case http.StatusInsufficientStorage:
		return target == syscall.ENOSPC
	}
	return false
}

// code returns the code of an answer, 0 if err is none.
func code(err error) int {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

// transient reports whether there is sense in trying again.
func transient(err error) bool {
	switch code(err) {
	case 0:
		return err != nil && !errors.Is(err, auth.ErrUnencrypted) && !isTLS(err)
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusLocked,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// isTLS reports whether the certificates are wrong: that does not pass.
func isTLS(err error) bool {
	return strings.Contains(err.Error(), "x509: ") || strings.Contains(err.Error(), "tls: ")
}

// Why the watchdog bites: nothing came, or went, for too long; or too little.
var (
	errSilent = remote.Unreachable(errors.New("the server is silent"))
	errSlow   = remote.Unreachable(errors.New("the server is too slow"))

	// errHungUp is the end of a connection where an answer should begin.
	errHungUp = fmt.Errorf("the server hangs up: %w", io.EOF)
)

// send sends a request until it is answered, and not with an error that passes.
func (b *Bucket) send(ctx context.Context, req request) (*http.Response, error) {
	for a := b.attempts(); ; {
		resp, err := b.once(ctx, req)
		again := transient(err) || replacedMeanwhile(req, err, a.failed+1)
		if err == nil || !again || ctx.Err() != nil {
			return resp, err
		}
		if err := a.rest(ctx, err); err != nil {
			return nil, err
		}
	}
}

// replacedMeanwhile reports whether a file may just have been put again: Apache
// refuses to read one that goes away between its look and its open with the 403
// that it also has for those who may not read. They get it each time.
func replacedMeanwhile(req request, err error, try int) bool {
	return req.method == "GET" && code(err) == http.StatusForbidden && try < 3
}

// do is send for those who look at no body.
func (b *Bucket) do(ctx context.Context, req request) error {
	resp, err := b.send(ctx, req)
	if err == nil {
		drop(resp)
	}
	return err
}

// doOnce is do without trying again.
func (b *Bucket) doOnce(ctx context.Context, req request) error {
	resp, err := b.once(ctx, req)
	if err == nil {
		drop(resp)
	}
	return err
}

// drop reads what is left of a short body, so that the connection can be used
// again.
func drop(resp *http.Response) {
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
}

// attempts are those to get something done.
type attempts struct {
	o      *Options
	begun  time.Time
	failed int
}

func (b *Bucket) attempts() *attempts { return &attempts{o: &b.o, begun: time.Now()} }

// rest waits before another attempt, longer each time and as long as the server
// says; never as long as others do. If there were enough of them, or they took too
// long, that is its error.
func (a *attempts) rest(ctx context.Context, cause error) error {
	a.failed++
	if a.failed >= a.o.Tries || time.Since(a.begun) > 2*a.o.Patience {
		return remote.Unreachable(cause)
	}
	wait := min(30*time.Second, a.o.Pause<<min(a.failed-1, 10))
	wait = wait/2 + rand.N(wait)
	var status *StatusError
	if errors.As(cause, &status) {
		wait = max(wait, min(status.Wait, a.o.Patience))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w, after: %w", ctx.Err(), cause)
	case <-timer.C:
		return nil
	}
}

// bigBody is from where on a server is asked before it is sent all of it.
const bigBody = 1 << 20

// once sends a request, and makes an error of an answer that does not say it is done.
func (b *Bucket) once(ctx context.Context, r request) (*http.Response, error) {
	watch, ctx := newWatchdog(ctx, b.o.Patience)
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, nil)
	if err != nil {
		watch.stop()
		return nil, err
	}
	req.Header.Set("User-Agent", "cache-tool")
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	if r.body != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(&sent{io.NewSectionReader(r.body, 0, r.size), watch}), nil
		}
		req.Body, _ = req.GetBody()
		if req.ContentLength = r.size; r.size == 0 {
			req.Body, req.GetBody = http.NoBody, nil
		}
		if r.size > bigBody {
			req.Header.Set("Expect", "100-continue")
		}
	}
	resp, err := b.http.Do(req)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err
		}
		if err == io.EOF {
			err = errHungUp
		}
		err = fmt.Errorf("%s %s: %w", r.method, r.url, watch.cause(ctx, err))
		watch.stop()
		return nil, err
	}
	watch.rest(0)
	resp.Body = &watchedBody{resp.Body, watch, ctx}
	if !hoped(r.method, resp) {
		return nil, statusError(r, resp)
	}
	return resp, nil
}

// hoped reports whether an answer says that what was asked for is done. Something
// that stands in the server's place, such as a page to log in, says 200 to all; and
// 207 says that a part of it is not done.
func hoped(method string, resp *http.Response) bool {
	switch c := resp.StatusCode; method {
	case "MOVE", "MKCOL":
		return c == http.StatusCreated || c == http.StatusNoContent
	case "PUT", "DELETE":
		page := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
		return c == http.StatusCreated || c == http.StatusNoContent || c == http.StatusOK && !page
	default:
		return c >= 200 && c < 300
	}
}

func statusError(r request, resp *http.Response) error {
	defer drop(resp)
	e := &StatusError{Method: r.method, URL: r.url, Code: resp.StatusCode}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		e.Reason = "which is no answer to that"
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		e.Reason = "to " + resp.Header.Get("Location")
	}
	if after := resp.Header.Get("Retry-After"); after != "" {
		if seconds, err := strconv.Atoi(after); err == nil {
			e.Wait = time.Duration(min(max(seconds, 0), 3600)) * time.Second
		} else if at, err := http.ParseTime(after); err == nil {
			e.Wait = time.Until(at)
		}
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	switch kind := resp.Header.Get("Content-Type"); {
	case strings.HasPrefix(kind, "text/plain"):
		e.Reason = strings.ToValidUTF8(strings.Join(strings.Fields(string(text)), " "), "?")
	case kind == "application/json":
		e.ours = strings.Contains(string(text), "this is a cache-tool server")
	}
	return e
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
	return w, ctx
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
