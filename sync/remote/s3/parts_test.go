package s3_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/remote/s3"
	"github.com/cache-tool/cache-tool/sync/remote/s3/s3test"
)

// TestParts: a big file comes back as it was; of one that could not be sent whole
// nothing is left, or Tidy finds it.
func TestParts(t *testing.T) {
	onServers(t, func(t *testing.T, server *s3test.Running) {
		at := server.NewBucket(t)
		data := make([]byte, 12<<20)
		rand.NewChaCha8([32]byte{1}).Read(data)
		size := int64(len(data))
		var dead atomic.Bool
		o := s3.Options{PartSize: 5 << 20, Tries: 2}
		o.Wrap = func(next http.RoundTripper) http.RoundTripper {
			return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) {
				if req.URL.Query().Get("partNumber") == "3" {
					dead.Store(true) // and so cannot tidy up
				}
				if dead.Load() {
					remotetest.Drain(req)
					return nil, syscall.ECONNRESET
				}
				return next.RoundTrip(req)
			})
		}
		if err := open(t, server, at, o).Put(t.Context(), "packs/a.pack", bytes.NewReader(data), size); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		o.Wrap = nil
		b := open(t, server, at, o)
		if _, err := b.Get(t.Context(), "packs/a.pack", 0, -1); err == nil {
			t.Error("a part of a file is there")
		}
		if err := b.Put(t.Context(), "packs/b.pack", bytes.NewReader(data), size); err != nil {
			t.Error(err)
		}
		for _, want := range []int{1, 0} {
			if n := server.Unfinished(t, at); n != want {
				t.Errorf("%d uploads are unfinished, want %d", n, want)
			}
			if err := b.Tidy(t.Context(), -time.Second); err != nil {
				t.Error(err)
			}
		}
		body, err := b.Get(t.Context(), "packs/b.pack", 1, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, data[1:]) {
			t.Errorf("%d bytes: %v", len(got), err)
		}
	})
}
