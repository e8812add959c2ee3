package webdav_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/remote/webdav"
	"github.com/cache-tool/cache-tool/sync/remote/webdav/davtest"
)

// TestEveryRequestFails lets the first request of each method and kind fail, in
// each way: everything comes right by itself.
func TestEveryRequestFails(t *testing.T) {
	for _, s := range davtest.Servers {
		if s.Name != "lighttpd" && !test.Soak() {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			url := s.Start(t).URL
			remotetest.RunEveryRequestFails(t, func(t *testing.T) func(remotetest.Network) remote.Bucket {
				at := davtest.NewBucket(url)
				return func(wrap remotetest.Network) remote.Bucket {
					return open(t, at, webdav.Options{Pause: time.Millisecond, Wrap: wrap})
				}
			})
		})
	}
}

// TestRaceWithFaults lets clients race while a tenth of their requests fail in
// some way: whatever they were told, what was acknowledged is there.
func TestRaceWithFaults(t *testing.T) {
	for _, s := range davtest.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			url := s.Start(t).URL
			at := davtest.NewBucket(url)
			flaky := webdav.Options{Pause: time.Millisecond, Wrap: remotetest.Flaky}
			remotetest.RaceWithFaults(t, func() remote.Bucket { return open(t, at, flaky) }, open(t, at, webdav.Options{}))
		})
	}
}

// TestKilled kills the server again and again while clients push.
func TestKilled(t *testing.T) {
	for _, s := range davtest.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			server := s.Start(t)
			at := davtest.NewBucket(server.URL)
			kill := func() { server.Stop(syscall.SIGKILL) }
			patient := open(t, at, webdav.Options{Tries: 12, Pause: 20 * time.Millisecond})
			impatient := func() remote.Bucket { return open(t, at, webdav.Options{}) }
			remotetest.RaceWithKills(t, kill, func() bool { return server.Run(t) }, impatient, patient)
		})
	}
}

func TestAuth(t *testing.T) {
	url := davtest.Servers[0].Start(t).URL
	for _, dir := range []string{"basic", "digest"} {
		for _, tt := range []struct {
			user string
			o    webdav.Options
			ok   bool
		}{
			{"", webdav.Options{Credentials: auth.Credentials{User: "u", Password: "p"}}, true},
			{"u:p@", webdav.Options{}, true},
			{"u:secret@", webdav.Options{}, false},
			{"", webdav.Options{}, false},
			{"", webdav.Options{Credentials: auth.Credentials{Token: "secret"}}, false},
		} {
			b := open(t, davtest.NewBucket(strings.Replace(url, "//", "//"+tt.user, 1)+dir+"/"), tt.o)
			data := bytes.Repeat([]byte("x"), 2<<20)
			err := b.Put(t.Context(), "packs/a", bytes.NewReader(data), int64(len(data)))
			_, rootErr := b.Root(t.Context())
			for _, err := range []error{err, rootErr} {
				if tt.ok && err != nil || !tt.ok && (!errors.Is(err, remote.ErrDenied) || strings.Contains(err.Error(), "secret")) {
					t.Errorf("%s %+v: %v", dir, tt, err)
				}
			}
		}
	}
}

// TestNetrc: credentials need not be in a URL.
func TestNetrc(t *testing.T) {
	url := davtest.Servers[0].Start(t).URL
	name := filepath.Join(t.TempDir(), "netrc")
	os.WriteFile(name, []byte("machine 127.0.0.1 login u password p\n"), 0o600)
	t.Setenv("NETRC", name)
	if _, err := open(t, url+"basic/", webdav.Options{}).Root(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBadURLs(t *testing.T) {
	for _, url := range []string{"", "host/path", "ftp://h/", "https:///x", "https://u:secret@h/?x=1", "https://u:secret@h/#x", "https://u:secret@h:port/"} {
		if _, err := webdav.Open(url, webdav.Options{}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestHostile: servers that are none, or want something else of us.
func TestHostile(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"no WebDAV": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }, "no WebDAV"},
		"silent":    {func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-stop }, "silent"},
		"stalls":    {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(207); w.(http.Flusher).Flush(); <-stop }, "silent"},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.org/", http.StatusMovedPermanently)
		}, "example.org"},
		"no XML": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(207); io.WriteString(w, "<a><b>") }, "XML"},
		"full":   {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(507) }, "507"},
		"asks again": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Digest realm="x", nonce="y", stale=true`)
			w.WriteHeader(401)
		}, "401"},
		"hang up": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			t.Cleanup(server.CloseClientConnections)
			b := open(t, server.URL, webdav.Options{
				Patience: 100 * time.Millisecond, Tries: 2, Pause: time.Millisecond, Credentials: auth.Credentials{User: "u", Password: "p"},
			})
			_, err := b.Root(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Root: %v, want %q", err, tt.want)
			}
			if err := b.Put(t.Context(), "packs/a", bytes.NewReader(make([]byte, 100)), 100); err == nil && name != "no WebDAV" && name != "no XML" && name != "stalls" {
				t.Error("Put worked")
			}
		})
	}
}

func TestWrongCertificate(t *testing.T) {
	n := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n++ }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	for _, config := range []*tls.Config{nil, {ServerName: "other"}} {
		if _, err := open(t, server.URL, webdav.Options{TLS: config}).Root(t.Context()); err == nil || n > 0 {
			t.Errorf("%v, %d requests", err, n)
		}
	}
}
