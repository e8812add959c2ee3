package server

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// A client is who sends a request.
type client struct {
	name  string // for logs and reflogs; empty if nobody knows
	key   string // the same for all requests of a client
	rules auth.Rules
}

// identify finds out who sends the request: by token, by client certificate, or
// nobody in particular. Whoever shows a token that is not good is told so, and not
// served as nobody.
func (x *exchange) identify() error {
	x.who = client{key: "address " + network(x.r), rules: x.s.o.Anonymous}
	if header := x.r.Header.Get("Authorization"); header != "" {
		secret, ok := secretIn(x.r, header)
		if !ok {
			return wire.Errorf(wire.Unknown, "want a token: Authorization: Bearer %s…", auth.TokenPrefix)
		}
		return x.known(x.s.findToken(secret))
	}
	if name, ok := certName(x.r); ok {
		t, err := x.s.findCert(name)
		if errors.Is(err, auth.ErrUnknownToken) {
			// We know who that is, but nobody has said what he may do.
			x.who.name, x.who.key = name, "certificate "+name
			return nil
		}
		return x.known(t, err)
	}
	return nil
}

// secretIn returns the token in a header. It may be a password, too: that is what
// ~/.netrc and many programs have a place for.
func secretIn(r *http.Request, header string) (string, bool) {
	if _, password, ok := r.BasicAuth(); ok {
		return password, true
	}
	scheme, token, _ := strings.Cut(header, " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}

// certName returns the common name in a client certificate that was proven to be
// the client's, and signed by one of those authorities who may.
func certName(r *http.Request) (string, bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return "", false
	}
	return r.TLS.PeerCertificates[0].Subject.CommonName, true
}

func (s *Server) findToken(secret string) (auth.Token, error) {
	if s.o.Tokens == nil {
		return auth.Token{}, auth.ErrUnknownToken
	}
	return s.o.Tokens.Find(secret)
}

func (s *Server) findCert(name string) (auth.Token, error) {
	if s.o.Tokens == nil {
		return auth.Token{}, auth.ErrUnknownToken
	}
	return s.o.Tokens.FindCert(name)
}

// known takes the client for whom a token says that it is.
func (x *exchange) known(t auth.Token, err error) error {
	if errors.Is(err, auth.ErrUnknownToken) || errors.Is(err, auth.ErrExpiredToken) {
		return wire.Errorf(wire.Unknown, "%v", err)
	}
	if err != nil {
		return err
	}
	x.who.name, x.who.key = t.String(), "token "+t.ID
	x.who.rules = auth.Rules{
		Read:  slices.Concat(t.Read, x.s.o.Anonymous.Read),
		Write: slices.Concat(t.Write, x.s.o.Anonymous.Write),
	}
	return nil
}

// mayEnter refuses those who could read nothing at all, or write nothing.
func (x *exchange) mayEnter(writes bool) error {
	if writes && len(x.who.rules.Write) == 0 {
		return x.refuse("may write nothing")
	}
	if x.who.rules.IsZero() {
		return x.refuse("may read nothing")
	}
	return nil
}

// refuse says to somebody known that he may not do something, and to all others
// that they should say who they are.
func (x *exchange) refuse(what string) error {
	if x.who.name == "" {
		return wire.Errorf(wire.Unknown, "who shows no token %s here", what)
	}
	return wire.Errorf(wire.Denied, "%s %s here", x.who.name, what)
}

// network returns what is one client's of the address where a request comes from:
// with IPv6 who has one has 2^64.
func network(r *http.Request) string {
	ip, err := netip.ParseAddr(address(r))
	if err != nil || ip.Is4() || ip.Is4In6() {
		return address(r)
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return address(r)
	}
	return prefix.String()
}

// address returns where a request comes from, without the port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
