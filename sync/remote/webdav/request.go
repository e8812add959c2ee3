package webdav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
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
		return err != nil && !errors.Is(err, auth.ErrUnencrypted) && !attempt.IsTLS(err)
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusLocked,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// send sends a request until it is answered, and not with an error that passes.
func (b *Bucket) send(ctx context.Context, req request) (*http.Response, error) {
	for a := b.attempts(); ; {
		resp, err := b.once(ctx, req)
		again := transient(err) || replacedMeanwhile(req, err, a.Failed+1)
		if err == nil || !again || ctx.Err() != nil {
			return resp, err
		}
		if err := rest(ctx, a, err); err != nil {
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
		attempt.Drop(resp.Body)
	}
	return err
}

// doOnce is do without trying again.
func (b *Bucket) doOnce(ctx context.Context, req request) error {
	resp, err := b.once(ctx, req)
	if err == nil {
		attempt.Drop(resp.Body)
	}
	return err
}

func (b *Bucket) attempts() *attempt.Attempts { return attempt.Begin(b.o.bounds()) }

// rest waits before another attempt, as long as the server says.
func rest(ctx context.Context, a *attempt.Attempts, cause error) error {
	var status *StatusError
	if errors.As(cause, &status) {
		return a.Rest(ctx, cause, status.Wait)
	}
	return a.Rest(ctx, cause, 0)
}

// bigBody is from where on a server is asked before it is sent all of it.
const bigBody = 1 << 20

// once sends a request, and makes an error of an answer that does not say it is done.
func (b *Bucket) once(ctx context.Context, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "cache-tool")
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	if r.size > bigBody {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := attempt.Do(b.http, req, r.body, r.size, b.o.Patience)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.url, err)
	}
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
	defer attempt.Drop(resp.Body)
	e := &StatusError{Method: r.method, URL: r.url, Code: resp.StatusCode, Wait: attempt.RetryAfter(resp.Header.Get("Retry-After"))}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		e.Reason = "which is no answer to that"
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		e.Reason = "to " + resp.Header.Get("Location")
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
