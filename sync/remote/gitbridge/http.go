package gitbridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A StatusError is an answer of an HTTP server that is not the one that was hoped for.
type StatusError struct {
	Method, URL string
	Code        int
	Reason      string // what the server says about it, shortened
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Code, http.StatusText(e.Code))
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	return s
}

// Is makes the usual codes answer to what callers ask for.
func (e *StatusError) Is(target error) bool {
	switch e.Code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return target == remote.ErrDenied
	}
	return false
}

// An httpServer is a Git server over smart HTTP. (go-git's client holds all that it sends
// in memory.)
type httpServer struct {
	base *url.URL // without credentials
	user string
	o    Options

	mu        sync.Mutex
	transport *auth.Transport // guarded by mu; replaced when there are other credentials
	asked     bool            // guarded by mu; Git's helpers were
}

func newHTTP(u *url.URL, o Options) (*httpServer, error) {
	s := &httpServer{base: u, o: o, user: u.User.Username()}
	u.User = nil
	c := auth.Credentials{User: s.user, Password: o.Token}
	if c.User == "" {
		c.User = "x-access-token" // which hosts of Git look for, or do not look at
	}
	if o.Token == "" {
		var err error
		if c, err = auth.Netrc(u.Hostname(), s.user); err != nil {
			return nil, err
		}
	}
	base := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: min(o.Patience, 15*time.Second), KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   min(o.Patience, 15*time.Second),
		ExpectContinueTimeout: time.Second,
		TLSClientConfig:       o.TLS,
		ForceAttemptHTTP2:     true,
	}
	s.transport = &auth.Transport{Base: base, Host: u.Host, Credentials: c, Unencrypted: o.Unencrypted}
	return s, nil
}

func (s *httpServer) isFar() bool { return false } // the connection stays

// do sends a request. Who is not known with what he has says who he is with what
// Git's helpers say.
func (s *httpServer) do(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	rt, asked := s.transport, s.asked
	s.mu.Unlock()
	resp, err := s.once(rt, req)
	if asked || !errors.Is(err, remote.ErrDenied) {
		return resp, err
	}
	c, helped := helperCredentials(req.Context(), s.base, s.user)
	s.mu.Lock()
	s.asked = true
	if helped {
		rt = &auth.Transport{Base: rt.Base, Host: rt.Host, Credentials: c, Unencrypted: rt.Unencrypted}
		s.transport = rt
	}
	s.mu.Unlock()
	if !helped {
		return nil, err
	}
	if req.GetBody != nil {
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return s.once(rt, req)
}

func (s *httpServer) once(rt http.RoundTripper, req *http.Request) (*http.Response, error) {
	// Not one redirection is followed: nobody knows who is there.
	client := http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err
		}
		return nil, fmt.Errorf("%s %s: %w", req.Method, s.shown(req), err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &StatusError{Method: req.Method, URL: s.shown(req), Code: resp.StatusCode}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 400))
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		e.Reason = printable(string(text))
	}
	if e.Code >= 300 && e.Code < 400 {
		e.Reason = "to " + printable(resp.Header.Get("Location"))
	}
	return nil, e
}

func (s *httpServer) shown(req *http.Request) string {
	u := *req.URL
	u.RawQuery = ""
	return u.String()
}

// passes reports whether there is sense in trying again.
func passes(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code >= 500 && status.Code != http.StatusNotImplemented || status.Code == http.StatusTooManyRequests || status.Code == http.StatusRequestTimeout
	}
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return err != nil && !errors.Is(err, auth.ErrUnencrypted) && !errors.As(err, &verify) && !errors.As(err, &record) && !errors.As(err, new(x509.UnknownAuthorityError))
}

// open asks which refs there are. It tries again as long as that may pass.
func (s *httpServer) open(ctx context.Context, what service) (conversation, error) {
	for try := 1; ; try++ {
		c, err := s.openOnce(ctx, what)
		if err == nil || ctx.Err() != nil || !passes(err) || errors.Is(err, ErrNoServer) {
			return c, err
		}
		if try >= s.o.Tries {
			return nil, remote.Unreachable(err)
		}
		wait := 200 * time.Millisecond << min(try, 8)
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w, after: %w", ctx.Err(), err)
		}
	}
}

func (s *httpServer) openOnce(ctx context.Context, what service) (conversation, error) {
	w, ctx := newWatch(ctx, s.o.Patience)
	u := s.base.JoinPath("info/refs")
	u.RawQuery = "service=" + string(what)
	req, err := http.NewRequestWithContext(ctx, "GET", u.String(), nil)
	if err != nil {
		w.stop()
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := s.do(req)
	if err != nil {
		err = cause(ctx, err)
		w.stop()
		return nil, err
	}
	w.pause()
	if kind := resp.Header.Get("Content-Type"); kind != "application/x-"+string(what)+"-advertisement" {
		resp.Body.Close()
		w.stop()
		return nil, fmt.Errorf("%s: %w: it answers with %.60q", s.shown(req), ErrNoServer, kind)
	}
	return &httpConversation{s: s, what: what, ctx: ctx, w: w, resp: resp}, nil
}

// userAgent begins as that of Git does: some servers tell those who speak to them in a
// browser by that.
const userAgent = "git/cache-tool"

type httpConversation struct {
	s    *httpServer
	what service
	ctx  context.Context
	w    *watch
	resp *http.Response // with the advertisement
}

func (c *httpConversation) advertised() io.Reader { return &watched{c.resp.Body, c.w, c.ctx} }

func (c *httpConversation) close() error {
	io.Copy(io.Discard, io.LimitReader(c.resp.Body, 64<<10))
	c.resp.Body.Close()
	c.w.stop()
	return nil
}

// bigBody is from where on a server is asked before it is sent all of it.
const bigBody = 1 << 20

func (c *httpConversation) exchange(_ context.Context, r request) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(c.ctx, "POST", c.s.base.JoinPath(string(c.what)).String(), nil)
	if err != nil {
		return nil, err
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(&sending{r.open(), c.w}), nil }
	req.Body, _ = req.GetBody()
	req.ContentLength = r.size
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Content-Type", "application/x-"+string(c.what)+"-request")
	req.Header.Set("Accept", "application/x-"+string(c.what)+"-result")
	if r.size > bigBody {
		req.Header.Set("Expect", "100-continue")
	}
	c.w.wait()
	resp, err := c.s.do(req)
	c.w.pause()
	if err != nil {
		if err = cause(c.ctx, err); passes(err) && c.ctx.Err() == nil {
			err = remote.Unreachable(err)
		}
		return nil, err
	}
	if kind := resp.Header.Get("Content-Type"); kind != "application/x-"+string(c.what)+"-result" {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %w: it answers with %.60q", c.s.shown(req), ErrNoServer, kind)
	}
	return struct {
		io.Reader
		io.Closer
	}{&watched{resp.Body, c.w, c.ctx}, resp.Body}, nil
}

// isLoopback reports whether nobody else can read along.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// portOf returns the port in a URL, or nothing.
func portOf(u *url.URL) (string, error) {
	if u.Port() == "" {
		return "", nil
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil || n < 1 || n > 65535 {
		return "", errors.New("no port has that number")
	}
	return u.Port(), nil
}
