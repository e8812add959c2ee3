package webdav_test

import (
	"os"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/remote/webdav"
	"github.com/cache-tool/cache-tool/sync/remote/webdav/davtest"
)

func TestMain(m *testing.M) {
	os.Setenv("NETRC", "/nonexistent")
	os.Exit(m.Run())
}

func open(t testing.TB, url string, o webdav.Options) *webdav.Bucket {
	t.Helper()
	if o.Pause == 0 {
		o.Pause = 5 * time.Millisecond
	}
	b, err := webdav.Open(url, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestServers(t *testing.T) {
	for _, s := range davtest.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			url := s.Start(t).URL
			t.Run("Bucket", func(t *testing.T) {
				remotetest.RunBucket(t, func(t *testing.T) func() remote.Bucket {
					at := davtest.NewBucket(url)
					return func() remote.Bucket { return open(t, at, webdav.Options{}) }
				})
			})
			t.Run("Remote", func(t *testing.T) {
				remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
					at := davtest.NewBucket(url)
					return func() remote.Remote { return bucket.Open(open(t, at, webdav.Options{})) }
				})
			})
		})
	}
}
