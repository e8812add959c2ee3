package httpremote

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

// Options of a conversation. The zero Options work.
type Options struct {
	// Credentials for the server. If they are zero, those in the URL count, or
	// $CACHE_TOOL_TOKEN, or else what ~/.netrc says.
	Credentials auth.Credentials

	// Unencrypted lets tokens and passwords go over plain HTTP to other machines.
	Unencrypted bool

	// TLS, if not nil, has client certificates, or which authorities to trust; see
	// auth.TLSFiles.
	TLS *tls.Config

	// Patience is how long a server may be silent. Zero is a minute. Servers say
	// something every ten seconds while they are at work.
	Patience time.Duration

	// Tries is how often a request is sent, at most, as long as all of them together
	// have not taken twice Patience. Zero is 5.
	Tries int

	// Pause is how long to wait, on average, before a request is sent a second
	// time; then longer. Zero is 200 ms.
	Pause time.Duration

	// Wrap, if not nil, makes a faulty network of a good one, for tests.
	Wrap func(http.RoundTripper) http.RoundTripper
}

func (o Options) bounds() attempt.Options {
	return attempt.Options{Patience: o.Patience, Tries: o.Tries, Pause: o.Pause}
}

// TokenVariable is the environment variable with a token.
const TokenVariable = "CACHE_TOOL_TOKEN"

// Open returns a conversation with the server at a URL of http or https. It does
// not connect. Credentials in the URL are used, and appear in no error.
func Open(rawURL string, o Options) (*Remote, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The error of the standard library has the URL in it, and that a password.
		return nil, errors.New("server: malformed URL")
	}
	user := u.User
	u.User = nil
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("server: %s: not a URL of http or https, without query", u)
	}
	if o.Credentials.IsZero() {
		if o.Credentials, err = credentials(u, user); err != nil {
			return nil, fmt.Errorf("server: %s: %w", u, err)
		}
	}
	bounds := o.bounds().OrDefault()
	o.Patience, o.Tries, o.Pause = bounds.Patience, bounds.Tries, bounds.Pause
	return &Remote{base: strings.TrimRight(u.String(), "/"), http: client(u, o), o: o}, nil
}

// credentials looks for a token, or a name and password. A token may stand where
// others have a place for passwords only.
func credentials(u *url.URL, user *url.Userinfo) (auth.Credentials, error) {
	password, hasPassword := user.Password()
	switch {
	case hasPassword:
		return bearer(auth.Credentials{User: user.Username(), Password: password}), nil
	case auth.IsToken(user.Username()):
		return auth.Credentials{Token: user.Username()}, nil
	}
	if token := os.Getenv(TokenVariable); token != "" {
		return auth.Credentials{Token: token}, nil
	}
	c, err := auth.Netrc(u.Hostname(), user.Username())
	return bearer(c), err
}

// bearer makes a token of a password that is one. It is sent with the first
// request, and not only when the server asks: one that lets everybody in would
// never ask, and show less than it could.
func bearer(c auth.Credentials) auth.Credentials {
	if auth.IsToken(c.Password) {
		return auth.Credentials{Token: c.Password}
	}
	return c
}

func client(u *url.URL, o Options) *http.Client {
	var rt http.RoundTripper = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: min(o.Patience, 15*time.Second), KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    min(o.Patience, 15*time.Second),
		ExpectContinueTimeout:  2 * time.Second,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig:        o.TLS,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // packs are compressed
	}
	if o.Wrap != nil {
		rt = o.Wrap(rt)
	}
	return &http.Client{
		Transport: &auth.Transport{Base: rt, Host: u.Host, Credentials: o.Credentials, Unencrypted: o.Unencrypted},
		// Nobody knows who is elsewhere, and a POST that is sent on is a GET there.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
