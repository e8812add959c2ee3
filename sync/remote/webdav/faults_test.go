package webdav_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/remote/webdav"
	"github.com/cache-tool/cache-tool/sync/remote/webdav/davtest"
)

// roundTripper is a network that somebody has thought up.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answer(req *http.Request, code int, header ...string) *http.Response {
	rec := httptest.NewRecorder()
	for i := 0; i < len(header); i += 2 {
		rec.Header().Set(header[i], header[i+1])
	}
	rec.WriteHeader(code)
	resp := rec.Result()
	resp.Request = req
	return resp
}

// drain ends a request that goes nowhere.
func drain(req *http.Request) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
}

// faults are what can befall a request, each in two forms: before the server
// has done what was asked, and after.
var faults = map[string]func(req *http.Request, next http.RoundTripper) (*http.Response, error){
	"reset": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		drain(req)
		return nil, syscall.ECONNRESET
	},
	"reset, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if resp, err := next.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		return nil, syscall.ECONNRESET
	},
	"500": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		drain(req)
		return answer(req, 500), nil
	},
	"500, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if resp, err := next.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		return answer(req, 500), nil
	},
	"503": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		drain(req)
		return answer(req, 503, "Retry-After", "0"), nil
	},
	"503, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if resp, err := next.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		return answer(req, 503), nil
	},
	"cut": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err == nil {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(resp.Body, 20), broken{}), resp.Body}
		}
		return resp, err
	},
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, syscall.ECONNRESET }

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
			for name, fault := range faults {
				t.Run(name, func(t *testing.T) { testEveryRequest(t, davtest.NewBucket(url), fault) })
			}
		})
	}
}

func testEveryRequest(t *testing.T, url string, fault func(*http.Request, http.RoundTripper) (*http.Response, error)) {
	for at := 1; ; at++ {
		n, hit := 0, false
		var mu sync.Mutex
		b := open(t, fmt.Sprint(url, at), webdav.Options{Pause: time.Millisecond, Wrap: func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				mu.Lock()
				n++
				now := n == at
				hit = hit || now
				mu.Unlock()
				if now {
					return fault(req, next)
				}
				return next.RoundTrip(req)
			})
		}})
		r := bucket.Open(b)
		a := remotetest.Blob(strings.Repeat("a", 1000))
		remotetest.Upload(t, r, a)
		var old objects.ID
		for range 2 {
			if err := r.Update(t.Context(), refs.Update{Name: "refs/tags/a", Old: old, New: a.ID()}); err != nil {
				t.Errorf("fault at request %d: Update: %v", at, err)
			}
			old = a.ID()
		}
		remotetest.WantFetched(t, bucket.Open(b), a)
		if !hit || t.Failed() {
			return
		}
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
			flaky := webdav.Options{Pause: time.Millisecond, Wrap: func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(req *http.Request) (*http.Response, error) {
					if rand.IntN(10) == 0 {
						for _, fault := range faults { // any of them
							return fault(req, next)
						}
					}
					return next.RoundTrip(req)
				})
			}}
			raceWithFaults(t, func() remote.Bucket { return open(t, at, flaky) }, open(t, at, webdav.Options{}))
		})
	}
}

func raceWithFaults(t *testing.T, flaky func() remote.Bucket, good remote.Bucket) {
	var mu sync.Mutex
	var there []remotetest.Item
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := refs.Branch(fmt.Sprint(i))
			for j := range test.Count(t, 100) {
				r := bucket.Open(flaky())
				blob := remotetest.Blob(fmt.Sprint(i, j))
				p := remotetest.Pack(t, []remotetest.Item{blob})
				if err := r.Upload(t.Context(), bytes.NewReader(p), int64(len(p))); err != nil {
					continue
				}
				mu.Lock()
				there = append(there, blob)
				mu.Unlock()
				var old objects.ID
				for ref, err := range bucket.Open(good).Refs(t.Context(), string(name)) {
					if err != nil {
						t.Error(err)
					}
					old = ref.ID
				}
				err := r.Update(t.Context(), refs.Update{Name: name, Old: old, New: blob.ID()})
				for ref := range bucket.Open(good).Refs(t.Context(), string(name)) {
					if ref.ID != blob.ID() && (err == nil || ref.ID != old) {
						t.Errorf("%s is at %s after %v", name, ref.ID.Short(), err)
					}
				}
			}
		})
	}
	wg.Wait()
	if len(there) == 0 {
		t.Error("nothing went through")
	}
	remotetest.WantFetched(t, bucket.Open(good), there...)
}

// TestKilled kills the server again and again while clients push.
func TestKilled(t *testing.T) {
	for _, s := range davtest.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			server := s.Start(t)
			at := davtest.NewBucket(server.URL)
			done := make(chan struct{})
			var killer sync.WaitGroup
			killer.Go(func() {
				for range test.Count(t, 40) {
					select {
					case <-done:
						return
					case <-time.After(rand.N(300 * time.Millisecond)):
					}
					server.Stop(syscall.SIGKILL)
					for !server.Run(t) && !t.Failed() {
						t.Log("once more")
					}
				}
			})
			patient := open(t, at, webdav.Options{Tries: 12, Pause: 20 * time.Millisecond})
			raceWithFaults(t, func() remote.Bucket { return open(t, at, webdav.Options{}) }, patient)
			close(done)
			killer.Wait()
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
