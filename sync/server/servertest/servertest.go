// Package servertest runs servers for tests: of an empty repository, on a port of
// its own.
package servertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/server"
)

// A Server is one that runs until the test ends.
type Server struct {
	URL    string
	Addr   string
	Store  server.Store
	Tokens *auth.Tokens

	tb   testing.TB
	tls  *tls.Config // of clients; nil if nothing is encrypted
	stop func()

	mu  sync.Mutex
	log strings.Builder // guarded by mu
}

// NewStore returns an empty repository.
func NewStore(tb testing.TB) server.Store {
	tb.Helper()
	dir := test.Dir(tb)
	if _, err := refs.Init(tb.Context(), dir, refs.Branch("main"), refs.Options{}); err != nil {
		tb.Fatal(err)
	}
	db, err := odb.Open(filepath.Join(dir, "packs"), odb.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return peer.New(db, refs.Open(dir, refs.Options{}), new(remotetest.Cuts))
}

// Start runs a server. What of o is not set is chosen.
func Start(tb testing.TB, o server.Options) *Server {
	tb.Helper()
	return start(tb, o, nil, nil)
}

// StartTLS is Start with a certificate that clients of this server trust. Clients
// that are to be let in by certificate show one that is signed with ca.
func StartTLS(tb testing.TB, o server.Options, ca *x509.CertPool) *Server {
	tb.Helper()
	// Its certificate is for 127.0.0.1 and example.com.
	borrowed := httptest.NewUnstartedServer(nil)
	borrowed.StartTLS()
	defer borrowed.Close()
	config := &tls.Config{Certificates: borrowed.TLS.Certificates}
	if ca != nil {
		config.ClientCAs, config.ClientAuth = ca, tls.VerifyClientCertIfGiven
	}
	trust := x509.NewCertPool()
	trust.AddCert(borrowed.Certificate())
	return start(tb, o, config, &tls.Config{RootCAs: trust})
}

func start(tb testing.TB, o server.Options, config, clients *tls.Config) *Server {
	tb.Helper()
	s := &Server{tb: tb, tls: clients}
	if o.Open == nil {
		store := NewStore(tb)
		o.Open = func() server.Store { return store }
	}
	s.Store = o.Open()
	if o.Tokens == nil {
		o.Tokens = auth.OpenTokens(filepath.Join(test.Dir(tb), "tokens"))
	}
	s.Tokens = o.Tokens
	o.Log = slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.Addr = l.Addr().String()
	s.URL = "http://" + s.Addr
	if config != nil {
		s.URL = "https://" + s.Addr
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.New(o).Serve(ctx, l, config) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Serve: %v", err)
		}
	})
	tb.Cleanup(s.stop)
	return s
}

// Stop stops the server, as a signal would.
func (s *Server) Stop() { s.stop() }

// Token makes a token and returns its secret.
func (s *Server) Token(t auth.Token) string {
	s.tb.Helper()
	_, secret, err := s.Tokens.Create(s.tb.Context(), t)
	if err != nil {
		s.tb.Fatal(err)
	}
	return secret
}

// Admin is the token of somebody who may do everything.
func (s *Server) Admin() string {
	s.tb.Helper()
	return s.Token(auth.Token{Name: "admin", Rules: auth.Rules{Write: []string{auth.Everything}}})
}

// TLS returns a copy of what clients need to trust the server.
func (s *Server) TLS() *tls.Config { return s.tls.Clone() }

// Client opens a conversation with a token, or without if that is empty.
func (s *Server) Client(token string, o httpremote.Options) *httpremote.Remote {
	s.tb.Helper()
	if token != "" {
		o.Credentials = auth.Credentials{Token: token}
	}
	if o.TLS == nil {
		o.TLS = s.TLS()
	}
	r, err := httpremote.Open(s.URL, o)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { r.Close() })
	return r
}

// Write takes what the server logs.
func (s *Server) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

// Log returns what the server has logged so far.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}
