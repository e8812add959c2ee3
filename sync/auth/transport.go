package auth

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// ErrUnencrypted says that a password or token was not sent.
var ErrUnencrypted = errors.New("a password or token would go over the network unencrypted: use https")

// A Transport sends requests to one server, with credentials. It may be used
// from many goroutines at once.
type Transport struct {
	Base        http.RoundTripper
	Host        string // that get the credentials, as in a URL; others do not
	Credentials Credentials

	// Unencrypted lets passwords and tokens go over plain HTTP to other machines.
	Unencrypted bool

	mu     sync.Mutex
	basic  bool    // guarded by mu; the server wants that
	digest *digest // guarded by mu; the server wants that
}

// RoundTrip sends a request. A server that wants to know who we are is told,
// and then at once with every request that follows.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != t.Host || t.Credentials.IsZero() || req.Header.Get("Authorization") != "" {
		return t.Base.RoundTrip(req)
	}
	if t.Credentials.Token != "" {
		if err := t.mayTell(req); err != nil {
			return nil, refuse(req, err)
		}
		return t.Base.RoundTrip(with(req, "Bearer "+t.Credentials.Token))
	}
	first, err := t.authorize(req)
	if err != nil {
		return nil, refuse(req, err)
	}
	resp, err := t.Base.RoundTrip(first)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if !t.challenged(resp, first.Header.Get("Authorization")) {
		return resp, nil
	}
	again := req.Clone(req.Context())
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return resp, nil
		}
		body, err := req.GetBody()
		if err != nil {
			return resp, nil
		}
		again.Body = body
	}
	// Read to the end, the connection can be used again.
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	second, err := t.authorize(again)
	if err != nil {
		return nil, refuse(again, err)
	}
	return t.Base.RoundTrip(second)
}

// CloseIdleConnections lets go of what is not in use.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.Base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// refuse closes the body, as a RoundTripper must.
func refuse(req *http.Request, err error) error {
	if req.Body != nil {
		req.Body.Close()
	}
	return err
}

// with returns a copy of req with credentials.
func with(req *http.Request, authorization string) *http.Request {
	c := *req
	c.Header = req.Header.Clone()
	c.Header.Set("Authorization", authorization)
	return &c
}

// mayTell refuses to let others on the network read along.
func (t *Transport) mayTell(req *http.Request) error {
	if req.URL.Scheme == "https" || t.Unencrypted {
		return nil
	}
	host := req.URL.Hostname()
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s: %w", t.Host, ErrUnencrypted)
}

// authorize adds what the server is known to want.
func (t *Transport) authorize(req *http.Request) (*http.Request, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.digest != nil:
		return with(req, t.digest.answer(req, t.Credentials)), nil
	case t.basic:
		if err := t.mayTell(req); err != nil {
			return nil, err
		}
		c := with(req, "")
		c.SetBasicAuth(t.Credentials.User, t.Credentials.Password)
		return c, nil
	}
	return req, nil
}

// challenged remembers what the server wants, and reports whether there is sense
// in trying again after sent.
func (t *Transport) challenged(resp *http.Response, sent string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	basic := false
	for _, header := range resp.Header.Values("WWW-Authenticate") {
		for _, c := range parseChallenges(header) {
			if d := newDigest(c); d != nil {
				t.digest = d
				// The same answer to a new question, unless it was wrong.
				return !strings.HasPrefix(sent, "Digest ") || strings.EqualFold(c.params["stale"], "true")
			}
			basic = basic || strings.EqualFold(c.scheme, "Basic")
		}
	}
	t.basic = basic
	return basic && sent == ""
}
