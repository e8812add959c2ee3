package httpremote_test

import (
	"os"
	"testing"

	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

func TestMain(m *testing.M) {
	os.Setenv("NETRC", "/nonexistent")
	os.Unsetenv(httpremote.TokenVariable)
	os.Exit(m.Run())
}

func TestHTTP1(t *testing.T) {
	remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
		s := servertest.Start(t, server.Options{})
		admin := s.Admin()
		return func() remote.Remote { return s.Client(admin, httpremote.Options{}) }
	})
}

// TestHTTP2 is the same, encrypted: HTTP/2 comes with that.
func TestHTTP2(t *testing.T) {
	remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
		s := servertest.StartTLS(t, server.Options{}, nil)
		admin := s.Admin()
		return func() remote.Remote { return s.Client(admin, httpremote.Options{}) }
	})
}

// TestRestricted is the same for somebody who may not read everything, but all
// that he writes.
func TestRestricted(t *testing.T) {
	remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
		s := servertest.Start(t, server.Options{})
		token := s.Token(auth.Token{Rules: auth.Rules{Write: []string{"**", "tag:*"}}})
		return func() remote.Remote { return s.Client(token, httpremote.Options{}) }
	})
}
