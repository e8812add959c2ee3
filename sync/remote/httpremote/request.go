package httpremote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
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
		return !errors.Is(err, auth.ErrUnencrypted) && !errors.Is(err, ErrNoServer) && !attempt.IsTLS(err)
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

// ErrNoServer says that something else is at the URL.
var ErrNoServer = errors.New("no cache-tool server answers there")

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
	attempt.Drop(resp)
	return nil
}

// again calls try until it succeeds, or fails in a way that does not pass.
func (r *Remote) again(ctx context.Context, try func() error) error {
	for a := r.attempts(); ; {
		err := try()
		// What we sent is sound. If it was not when it arrived, it is sent once more.
		changed := errors.Is(err, pack.ErrBadPack) && a.Failed == 0
		if err == nil || !transient(err) && !changed || ctx.Err() != nil {
			return err
		}
		if err := rest(ctx, a, err); err != nil {
			return err
		}
	}
}

func (r *Remote) attempts() *attempt.Attempts { return attempt.Begin(r.o.bounds()) }

// rest waits before another attempt, as long as the server says.
func rest(ctx context.Context, a *attempt.Attempts, cause error) error {
	var status *StatusError
	if errors.As(cause, &status) {
		return a.Rest(ctx, cause, status.Wait)
	}
	return a.Rest(ctx, cause, 0)
}

// bigBody is from where on the server is asked before it is sent all of it.
const bigBody = 256 << 10

// once sends a request, and makes an error of all answers but the one that was
// hoped for.
func (r *Remote) once(ctx context.Context, operation string, b body) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+wire.Path(operation), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "cache-tool")
	req.Header.Set("Content-Type", wire.ContentType)
	if b.size > bigBody {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := attempt.Do(r.http, req, b, b.size, r.o.Patience)
	if err != nil {
		return nil, err // we say ourselves where
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != wire.ContentType {
		defer attempt.Drop(resp.Body)
		return nil, statusError(resp, resp.Body)
	}
	return resp.Body, nil
}

// statusError says what an answer means. Where it is not from a server of ours it
// is from something that stands in its place, or in between.
func statusError(resp *http.Response, body io.Reader) error {
	e := &StatusError{Code: resp.StatusCode, Wait: attempt.RetryAfter(resp.Header.Get("Retry-After"))}
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
