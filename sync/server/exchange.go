package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// An exchange is one request and its answer.
type exchange struct {
	s       *Server
	r       *http.Request
	rc      *http.ResponseController
	id      string  // the same in the log and in the answer
	op      string  // what is asked for, once that is known
	dialect dialect // how the answer looks
	who     client
	begun   time.Time
	objects GitObjects // of Git's requests
	clock   *clock     // of the work that is being done
	err     error      // why it failed
	got     int64      // bytes of the body

	mu     sync.Mutex
	w      http.ResponseWriter // guarded by mu
	status int                 // guarded by mu; 0 before the answer has begun
	stream bool                // guarded by mu; the answer is a stream that goes on
	whole  bool                // guarded by mu; nothing is lacking of the answer
	sent   int64               // guarded by mu; bytes of the answer
	last   time.Time           // guarded by mu; when something was sent
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request) *exchange {
	s.metrics.begin()
	var id [6]byte
	rand.Read(id[:])
	now := time.Now()
	return &exchange{
		s: s, r: r, w: w, rc: http.NewResponseController(w), id: hex.EncodeToString(id[:]), op: "none", dialect: native,
		begun: now, last: now,
	}
}

// end answers with the error, if there is one and nothing was answered yet, and
// writes down what has happened. It is to be deferred.
func (x *exchange) end() {
	if p := recover(); p != nil {
		x.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
	if x.err != nil {
		x.fail()
	}
	// What is left of the body is not waited for.
	_ = x.rc.SetReadDeadline(time.Now().Add(time.Second))
	x.mu.Lock()
	status, sent, whole := x.status, x.sent, x.whole
	x.mu.Unlock()
	x.s.metrics.end(x.op, status, x.got, sent, time.Since(x.begun))
	x.log(status, sent)
	if !whole {
		panic(http.ErrAbortHandler) // what is there of an answer must not look like one
	}
}

// statusGone is what the log says of clients that went away before they were
// answered.
const statusGone = 499

// A dialect is how an answer looks to a kind of client.
type dialect struct {
	content string // the type of a stream
	wait    []byte // what means nothing in it
	failure func(*wire.Error) (status int, contentType string, body []byte)
}

var native = dialect{
	content: wire.ContentType,
	wait:    wire.Wait,
	failure: func(e *wire.Error) (int, string, []byte) { return e.Status(), wire.ErrorType, e.Encode() },
}

// fail answers with x.err.
func (x *exchange) fail() {
	if x.gone() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.status == 0 {
			x.status = statusGone
		}
		return
	}
	e := wire.AsError(x.err)
	switch {
	case e.Code == wire.Internal && errors.Is(x.err, remote.ErrUnreachable):
		// Whether it was done nobody knows: so it is no wire.Busy.
		e = wire.Errorf(wire.Internal, "what is behind this server does not answer; the server's log has it under %s", x.id)
	case e.Code == wire.Internal:
		e = wire.Errorf(wire.Internal, "internal error; the server's log has it under %s", x.id)
	}
	header := x.w.Header()
	switch e.Code {
	case wire.Unknown:
		header.Add("WWW-Authenticate", `Bearer realm="cache-tool"`)
		header.Add("WWW-Authenticate", `Basic realm="cache-tool"`)
		header.Set("Connection", "close") // strangers keep none
	case wire.Slow, wire.TooLarge:
		header.Set("Connection", "close")
	case wire.BadMethod:
		header.Set("Allow", http.MethodPost)
	case wire.Busy, wire.TooMany:
		header.Set("Retry-After", "2")
	}
	status, contentType, body := x.dialect.failure(e)
	x.answer(status, contentType, body)
}

// answer sends a whole answer, unless there was one.
func (x *exchange) answer(status int, contentType string, body []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status != 0 {
		return
	}
	x.head(status, contentType)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	_, err := x.write(body)
	x.whole = err == nil
}

// head sets what all answers have. x.mu is held.
func (x *exchange) head(status int, contentType string) {
	x.status = status
	header := x.w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Request-Id", x.id)
}

// write sends p, which must get away in time. x.mu is held.
func (x *exchange) write(p []byte) (int, error) {
	x.last = time.Now()
	_ = x.rc.SetWriteDeadline(x.last.Add(x.s.o.Patience))
	n, err := x.w.Write(p)
	x.sent += int64(n)
	return n, err
}

// reply answers with a message.
func (x *exchange) reply(message []byte) error {
	x.answer(http.StatusOK, wire.ContentType, message)
	return nil
}

func (x *exchange) text(s string) error {
	x.answer(http.StatusOK, "text/plain; charset=utf-8", []byte(s))
	return nil
}

// Write sends a part of a stream. The first begins the answer.
func (x *exchange) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status == 0 {
		x.head(http.StatusOK, x.dialect.content)
		x.stream = true
		x.w.WriteHeader(http.StatusOK)
	}
	return x.write(p)
}

// read reads the body, which is a message of at most so many bytes. Release gives
// its memory back.
func (x *exchange) read(most int64) (body []byte, release func(), err error) {
	if err := x.checkLength(most); err != nil {
		return nil, nil, err
	}
	// As bytes, as what they mean, and as the answer.
	release, err = x.s.limits.hold(x.r.Context(), x.s.limits.memory, 3*x.r.ContentLength)
	if err != nil {
		return nil, nil, err
	}
	body, err = io.ReadAll(x.body())
	if err != nil {
		release()
		return nil, nil, err
	}
	return body, release, nil
}

// checkLength refuses bodies that are too long, or do not say how long they are.
func (x *exchange) checkLength(most int64) error {
	switch n := x.r.ContentLength; {
	case n < 0:
		return wire.Errorf(wire.NoLength, "the body has no Content-Length")
	case n > most:
		return wire.Errorf(wire.TooLarge, "a body of %d bytes, more than %d", n, most)
	}
	return nil
}

// body returns the body, of which all must come, in time.
func (x *exchange) body() io.Reader { return &body{x: x, begun: time.Now()} }

// minPace is how many bytes of a body must come in a second, on average.
const minPace = 16 << 10

type body struct {
	x     *exchange
	begun time.Time
}

func (b *body) Read(p []byte) (int, error) {
	x := b.x
	patience := x.s.o.Patience
	deadline := time.Now().Add(patience)
	if latest := b.begun.Add(patience + time.Duration(x.got/minPace)*time.Second); latest.Before(deadline) {
		deadline = latest
	}
	_ = x.rc.SetReadDeadline(deadline)
	n, err := x.r.Body.Read(p)
	x.got += int64(n)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = wire.Errorf(wire.BadRequest, "the body ends after %d of %d bytes", x.got, x.r.ContentLength)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = wire.Errorf(wire.Slow, "the body came too slowly: %d of %d bytes", x.got, x.r.ContentLength)
	case err != nil:
		// While the handler works, HTTP/1 listens for the client to go away: that
		// must not run into the deadline of the last read.
		_ = x.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}
