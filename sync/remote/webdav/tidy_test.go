package webdav_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote/webdav"
	"github.com/cache-tool/cache-tool/sync/remote/webdav/davtest"
)

// TestTidy: what was never put whole goes when it is old, and nothing else does.
func TestTidy(t *testing.T) {
	for _, s := range davtest.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			at := davtest.NewBucket(s.Start(t).URL)
			b := open(t, at, webdav.Options{})
			if err := b.Tidy(t.Context(), -time.Hour); err != nil {
				t.Errorf("of an empty bucket: %v", err)
			}
			if err := b.Put(t.Context(), "packs/a.pack", bytes.NewReader([]byte("a")), 1); err != nil {
				t.Fatal(err)
			}
			left := strings.TrimSuffix(at, "/") + "/packs/tmp-0123456789abcdef"
			send(t, "PUT", left, "half a pa")
			if err := b.Tidy(t.Context(), time.Hour); err != nil || send(t, "GET", left, "") != http.StatusOK {
				t.Errorf("what is new is gone: %v", err)
			}
			if err := b.Tidy(t.Context(), -time.Hour); err != nil || send(t, "GET", left, "") != http.StatusNotFound {
				t.Errorf("what is old is there: %v", err)
			}
			body, err := b.Get(t.Context(), "packs/a.pack", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			body.Close()
		})
	}
}

func send(t *testing.T, method, url, body string) (code int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
