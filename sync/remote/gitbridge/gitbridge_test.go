package gitbridge_test

import (
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/gitbridge"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

func open(t testing.TB, url string, o gitbridge.Options) *gitbridge.Remote {
	t.Helper()
	o.Warn = func(err error) { t.Logf("warning: %v", err) }
	r, err := gitbridge.Open(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// TestRemote has conversations share a directory, as those of a repository do: what is
// uploaded waits there for the ref that leads to it.
func TestRemote(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			if s.name == "ssh" && !test.Soak() {
				t.Skip("a connection takes ssh a second: in a soak only")
			}
			remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
				dir, repo := test.Dir(t), bare(t)
				url := s.url(t, repo)
				t.Cleanup(func() { clean(t, repo) })
				return func() remote.Remote { return open(t, url, gitbridge.Options{Dir: dir}) }
			})
		})
	}
}
