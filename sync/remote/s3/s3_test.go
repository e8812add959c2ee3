package s3_test

import (
	"os"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/remote/s3"
	"github.com/cache-tool/cache-tool/sync/remote/s3/s3test"
)

func TestMain(m *testing.M) {
	for name, value := range s3test.Environment() {
		os.Setenv(name, value)
	}
	os.Exit(m.Run())
}

func open(t testing.TB, server *s3test.Running, url string, o s3.Options) *s3.Bucket {
	t.Helper()
	if o.Pause == 0 {
		o.Pause = 5 * time.Millisecond
	}
	if o.Endpoint == "" {
		o.Endpoint = server.URL
	}
	b, err := s3.Open(url, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onServers runs a test on each server that there is.
func onServers(t *testing.T, test func(t *testing.T, server *s3test.Running)) {
	for _, s := range s3test.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			test(t, s.Start(t))
		})
	}
}

func TestServers(t *testing.T) {
	onServers(t, func(t *testing.T, server *s3test.Running) {
		for _, tt := range []struct {
			name string
			o    s3.Options
		}{
			{"whole", s3.Options{}},
			{"parts", s3.Options{PartSize: 1 << 10}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Run("Bucket", func(t *testing.T) {
					remotetest.RunBucket(t, func(t *testing.T) func() remote.Bucket {
						at := server.NewBucket(t)
						return func() remote.Bucket { return open(t, server, at, tt.o) }
					})
				})
				t.Run("Remote", func(t *testing.T) {
					remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
						at := server.NewBucket(t)
						return func() remote.Remote { return bucket.Open(open(t, server, at, tt.o)) }
					})
				})
			})
		}
	})
}
