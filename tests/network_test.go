package tests

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A network lies between machines and a server, and breaks when it is told to.
type network struct {
	url string // the one of the server, as it is seen from the other side

	backend string // host:port
	server  *httptest.Server

	mu     sync.Mutex
	n      int                              // guarded by mu; requests so far
	choose func(n int, method string) fault // guarded by mu; nil is a network that works
	struck map[string]int                   // guarded by mu; requests by what was done to them
}

// A fault befalls one request. It gets the whole request, and the way on.
type fault func(x *passage)

// newNetwork puts a network before the server of a URL.
func newNetwork(t testing.TB, url string) *network {
	t.Helper()
	n := newNetworkTo(t, url)
	n.server.Start()
	n.url = strings.Replace(url, n.backend, hostPort(n.server.URL), 1)
	return n
}

// newTLSNetwork is newNetwork with encryption up to the network.
func newTLSNetwork(t testing.TB, url string, cert tls.Certificate) *network {
	t.Helper()
	n := newNetworkTo(t, url)
	n.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	n.server.StartTLS()
	n.url = strings.Replace(strings.Replace(url, "http://", "https://", 1), n.backend, hostPort(n.server.URL), 1)
	return n
}

func newNetworkTo(t testing.TB, url string) *network {
	n := &network{backend: hostPort(url), struck: map[string]int{}}
	n.server = httptest.NewUnstartedServer(n)
	n.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	n.server.Config.MaxHeaderBytes = 1 << 20
	t.Cleanup(func() {
		n.server.CloseClientConnections()
		n.server.Close()
	})
	return n
}

// breaks lets choose say what befalls each request, counted from 1; nil is nothing.
func (n *network) breaks(choose func(n int, method string) fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.n, n.choose = 0, choose
}

// at lets one request fail.
func (n *network) at(which int, f fault) {
	n.breaks(func(i int, _ string) fault {
		if i == which {
			return f
		}
		return nil
	})
}

// always lets every request fail.
func (n *network) always(f fault) { n.breaks(func(int, string) fault { return f }) }

func (n *network) works() { n.breaks(nil) }

// requests is how many there were since the last time that something was said about
// what breaks.
func (n *network) requests() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.n
}

func (n *network) next(method string) fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.n++
	if n.choose == nil {
		return nil
	}
	return n.choose(n.n, method)
}

// A passage is one request on its way.
type passage struct {
	n    *network
	w    http.ResponseWriter
	r    *http.Request
	body []byte
}

func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	x := &passage{n, w, r, body}
	if f := n.next(r.Method); f != nil {
		f(x)
		return
	}
	x.answer(x.forward(x.body))
}

// An answer of the server; nil if there was none.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

// onward are the connections to servers. What was sent is not sent again by itself.
var onward = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8, DisableKeepAlives: true}

// forward sends a body on, and returns the answer.
func (x *passage) forward(body []byte) *reply {
	ctx := httptrace.WithClientTrace(x.r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			if code == http.StatusProcessing {
				x.w.WriteHeader(code)
			}
			return nil
		},
	})
	return x.forwardIn(ctx, bytes.NewReader(body), int64(len(body)))
}

func (x *passage) forwardIn(ctx context.Context, body io.Reader, size int64) *reply {
	out := x.r.Clone(ctx)
	out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", x.n.backend
	out.Body, out.ContentLength, out.Close = io.NopCloser(body), size, false
	if size == 0 {
		out.Body = http.NoBody
	}
	out.Header.Del("Expect")
	resp, err := onward.RoundTrip(out)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil
	}
	return &reply{resp.StatusCode, resp.Header, data}
}

// answer passes an answer on.
func (x *passage) answer(r *reply) {
	if r == nil {
		x.reset()
		return
	}
	for name, values := range r.header {
		x.w.Header()[name] = values
	}
	if r.code != http.StatusNoContent && r.code != http.StatusNotModified && x.r.Method != http.MethodHead {
		x.w.Header().Set("Content-Length", strconv.Itoa(len(r.body)))
	}
	x.w.Header().Del("Transfer-Encoding")
	x.w.WriteHeader(r.code)
	x.w.Write(r.body)
}

// cut passes a part of an answer on, which says that it is longer, and breaks the
// connection.
func (x *passage) cut(r *reply, n int) {
	if r == nil || len(r.body) == 0 {
		x.reset()
		return
	}
	conn := x.conn()
	if conn == nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n", r.code, http.StatusText(r.code), r.header.Get("Content-Type"))
	if at := r.header.Get("Content-Range"); at != "" {
		fmt.Fprintf(conn, "Content-Range: %s\r\n", at)
	}
	fmt.Fprintf(conn, "Content-Length: %d\r\n\r\n%s", len(r.body), r.body[:min(n, len(r.body))])
}

// conn takes the connection over.
func (x *passage) conn() net.Conn {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return nil
	}
	return conn
}

// reset breaks the connection, as a machine does that has just started anew.
func (x *passage) reset() {
	conn := x.conn()
	if conn == nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// hang says nothing until the client has gone.
func (x *passage) hang() {
	select {
	case <-x.r.Context().Done():
	case <-time.After(longest):
	}
	panic(http.ErrAbortHandler)
}

func (x *passage) say(code int, header ...string) {
	for i := 0; i < len(header); i += 2 {
		x.w.Header().Set(header[i], header[i+1])
	}
	x.w.WriteHeader(code)
	io.WriteString(x.w, "<html>something is wrong here</html>\n")
}

// halfway sends a half of the request on, and breaks both connections.
func (x *passage) halfway() {
	if len(x.body) > 1 {
		x.forwardIn(x.r.Context(), io.MultiReader(bytes.NewReader(x.body[:len(x.body)/2]), failing{}), int64(len(x.body)))
	}
	x.reset()
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func flipped(body []byte, seed int) []byte {
	body = bytes.Clone(body)
	if len(body) > 0 {
		bit := (seed*7919 + 13) % (8 * len(body))
		body[bit/8] ^= 1 << (bit % 8)
	}
	return body
}

// passing are the faults that pass, in pairs where there are two: the request was
// not done, and it was done but reported as failed. One of them must not be seen.
var passing = map[string]fault{
	"silent":           func(x *passage) { x.hang() },
	"silent, done":     func(x *passage) { x.forward(x.body); x.hang() },
	"reset":            func(x *passage) { x.reset() },
	"reset halfway":    func(x *passage) { x.halfway() },
	"reset, done":      func(x *passage) { x.forward(x.body); x.reset() },
	"500":              func(x *passage) { x.say(500) },
	"500, done":        func(x *passage) { x.forward(x.body); x.say(500) },
	"503":              func(x *passage) { x.say(503, "Retry-After", "1") },
	"503, done":        func(x *passage) { x.forward(x.body); x.say(503, "Retry-After", "1") },
	"cut":              func(x *passage) { r := x.forward(x.body); x.cut(r, len(r.bytes())/2) },
	"cut to nothing":   func(x *passage) { x.cut(x.forward(x.body), 0) },
	"502 of a gateway": func(x *passage) { x.forward(x.body); x.say(502, "Content-Type", "text/html") },
}

func (r *reply) bytes() []byte {
	if r == nil {
		return nil
	}
	return r.body
}

// wrong are the faults that are no accident of networks. After one of them a
// command may fail, and says so; but nothing wrong is ever believed.
var wrong = map[string]fault{
	"flipped bit": func(x *passage) {
		if r := x.forward(x.body); r != nil {
			r.body = flipped(r.body, len(r.body))
			x.answer(r)
		} else {
			x.reset()
		}
	},
	"flipped bit at the end": func(x *passage) {
		if r := x.forward(x.body); r != nil && len(r.body) > 0 {
			r.body[len(r.body)-1] ^= 0x80
			x.answer(r)
		} else {
			x.answer(r)
		}
	},
	"cut, and nobody says so": func(x *passage) {
		if r := x.forward(x.body); r != nil {
			r.body = r.body[:len(r.body)/2]
			x.answer(r)
		} else {
			x.reset()
		}
	},
	"somebody else answers": func(x *passage) { x.say(200, "Content-Type", "text/html") },
	"sent elsewhere":        func(x *passage) { x.say(302, "Location", "http://127.0.0.1:1/login") },
	"401":                   func(x *passage) { x.say(401, "WWW-Authenticate", `Basic realm="x"`) },
	"403":                   func(x *passage) { x.say(403) },
	"404":                   func(x *passage) { x.say(404) },
}
