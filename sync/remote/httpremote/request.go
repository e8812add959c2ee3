package httpremote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// A body can be sent again.
type body struct {
	io.ReaderAt
	size int64
}

func asBody(message []byte) body { return body{bytes.NewReader(message), int64(len(message))} }

// A StatusError is an answer that is not the one that was hoped for.
type StatusError struct {
	Code int
	Err  error         // what the server says about it; nil if it says nothing that we know
	Wait time.Duration // before trying again, if the server says so
}

func (e *StatusError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return strings.TrimSpace(fmt.Sprintf("the server answers %d %s", e.Code, http.StatusText(e.Code)))
}

// Unwrap returns what the server says.
func (e *StatusError) Unwrap() error { return e.Err }

// Is makes answers of other servers, such as proxies, answer to what callers ask
// for.
func (e *StatusError) Is(target error) bool {
	switch e.Code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return target == remote.ErrDenied
	}
	return false
}

// failed says what failed, and where. A conflict speaks for itself.
func (r *Remote) failed(operation string, err error) error {
	var conflict *refs.ConflictError
	if errors.As(err, &conflict) {
		return conflict
	}
	return fmt.Errorf("%s: %s: %w", r.base, operation, err)
}

// transient reports whether there is sense in trying again.
func transient(err error) bool {
	var status *StatusError
	if !errors.As(err, &status) {
		return !errors.Is(err, auth.ErrUnencrypted) && !errors.Is(err, ErrNoServer) && !isTLS(err)
	}
	switch status.Code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// mayBeDone reports whether what was asked for may have been done all the same. It
// has not where nobody was reached, or the server says that it did not even try.
func mayBeDone(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	var known *wire.Error
	return !errors.As(err, &known) || known.Code == wire.Internal
}

// isTLS reports whether the certificates are wrong: that does not pass.
func isTLS(err error) bool {
	return strings.Contains(err.Error(), "x509: ") || strings.Contains(err.Error(), "tls: ")
}

// ErrNoServer says that something else is at the URL.
var ErrNoServer = errors.New("no cache-tool server answers there")

var (
	// Why the watchdog bites: nothing came, or went, for too long; or too little.
	errSilent = remote.Unreachable(errors.New("the server is silent"))
	errSlow   = remote.Unreachable(errors.New("the server is too slow"))

	// errHungUp is the end of a connection where an answer should begin.
	errHungUp = fmt.Errorf("the server hangs up: %w", io.EOF)
)

// ask sends a message and parses the answer, which has at most so many bytes. One
// that makes no sense was changed on its way, and is asked for again.
func (r *Remote) ask(ctx context.Context, operation string, message []byte, most int64, parse func([]byte) error) error {
	err := r.again(ctx, func() error {
		resp, err := r.once(ctx, operation, asBody(message))
		if err != nil {
			return err
		}
		defer resp.Close()
		answer, err := io.ReadAll(io.LimitReader(resp, most+1))
		if err != nil {
			return err
		}
		if int64(len(answer)) > most {
			return fmt.Errorf("%w: more than %d bytes", wire.ErrMalformed, most)
		}
		return parse(answer)
	})
	if err != nil {
		return r.failed(operation, err)
	}
	return nil
}

// send sends a request until it is answered, and not with an error that passes.
func (r *Remote) send(ctx context.Context, operation string, b body) (resp io.ReadCloser, err error) {
	err = r.again(ctx, func() error {
		resp, err = r.once(ctx, operation, b)
		return err
	})
	if err != nil {
		return nil, r.failed(operation, err)
	}
	return resp, nil
}

// do is send for those who wait for an answer without content.
func (r *Remote) do(ctx context.Context, operation string, b body) error {
	err := r.again(ctx, func() error { return r.finish(ctx, operation, b) })
	if err != nil {
		return r.failed(operation, err)
	}
	return nil
}

// doOnce is do without trying again.
func (r *Remote) doOnce(ctx context.Context, operation string, b body) error {
	if err := r.finish(ctx, operation, b); err != nil {
		return r.failed(operation, err)
	}
	return nil
}

func (r *Remote) finish(ctx context.Context, operation string, b body) error {
	resp, err := r.once(ctx, operation, b)
	if err != nil {
		return err
	}
	drop(resp)
	return nil
}

// again calls try until it succeeds, or fails in a way that does not pass.
func (r *Remote) again(ctx context.Context, try func() error) error {
	for a := r.attempts(); ; {
		err := try()
		// What we sent is sound. If it was not when it arrived, it is sent once more.
		changed := errors.Is(err, pack.ErrBadPack) && a.failed == 0
		if err == nil || !transient(err) && !changed || ctx.Err() != nil {
			return err
		}
		if err := a.rest(ctx, err); err != nil {
			return err
		}
	}
}

// drop reads what is left of a short body, so that the connection can be used
// again.
func drop(body io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(body, 64<<10))
	body.Close()
}

// attempts are those to get something done.
type attempts struct {
	o      *Options
	begun  time.Time
	failed int
}

func (r *Remote) attempts() *attempts { return &attempts{o: &r.o, begun: time.Now()} }

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

// bigBody is from where on the server is asked before it is sent all of it.
const bigBody = 256 << 10

// once sends a request, and makes an error of all answers but the one that was
// hoped for.
func (r *Remote) once(ctx context.Context, operation string, b body) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	watch, ctx := newWatchdog(ctx, r.o.Patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+wire.Path(operation), nil)
	if err != nil {
		watch.stop()
		return nil, err
	}
	req.Header.Set("User-Agent", "cache-tool")
	req.Header.Set("Content-Type", wire.ContentType)
	if b.size > 0 {
		req.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(&sent{io.NewSectionReader(b, 0, b.size), watch}), nil
		}
		req.Body, _ = req.GetBody()
		req.ContentLength = b.size
	} else {
		req.Body = http.NoBody
	}
	if b.size > bigBody {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := r.http.Do(req)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err // we say ourselves where
		}
		if err == io.EOF {
			err = errHungUp
		}
		err = watch.cause(ctx, err)
		watch.stop()
		return nil, err
	}
	watch.rest(0)
	body := &watchedBody{resp.Body, watch, ctx}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != wire.ContentType {
		defer drop(body)
		return nil, statusError(resp, body)
	}
	return body, nil
}

// statusError says what an answer means. Where it is not from a server of ours it
// is from something that stands in its place, or in between.
func statusError(resp *http.Response, body io.Reader) error {
	e := &StatusError{Code: resp.StatusCode, Wait: retryAfter(resp.Header.Get("Retry-After"))}
	data, _ := io.ReadAll(io.LimitReader(body, wire.MaxError))
	if resp.Header.Get("Content-Type") == wire.ErrorType {
		if err, ok := wire.ParseError(data); ok {
			e.Err = err
			return e
		}
	}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300, resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusMethodNotAllowed:
		e.Err = ErrNoServer
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		e.Err = fmt.Errorf("%w: it sends us to %.200q", ErrNoServer, resp.Header.Get("Location"))
	}
	return e
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(s string) time.Duration {
	if seconds, err := strconv.Atoi(s); err == nil {
		return time.Duration(min(max(seconds, 0), 3600)) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
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
