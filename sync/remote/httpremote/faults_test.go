package httpremote_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// A fault is what can befall a request.
type fault func(req *http.Request, next http.RoundTripper) (*http.Response, error)

// done makes a request, and nobody hears of the answer.
func done(req *http.Request, next http.RoundTripper) {
	if resp, err := next.RoundTrip(req); err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// body puts another body in the place of the answer's.
func body(resp *http.Response, change func(io.Reader) io.Reader) *http.Response {
	resp.Body = struct {
		io.Reader
		io.Closer
	}{change(resp.Body), resp.Body}
	return resp
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, syscall.ECONNRESET }

// faults come in pairs: not done, and done but reported as failed.
var faults = map[string]fault{
	"reset": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		remotetest.Drain(req)
		return nil, syscall.ECONNRESET
	},
	"reset in the middle": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if req.Body == nil {
			return nil, syscall.ECONNRESET
		}
		cut := req.Clone(req.Context())
		cut.Body = io.NopCloser(io.MultiReader(io.LimitReader(req.Body, 20), broken{}))
		_, err := next.RoundTrip(cut)
		if err == nil {
			err = syscall.ECONNRESET
		}
		return nil, err
	},
	"reset, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		done(req, next)
		return nil, syscall.ECONNRESET
	},
	"silence": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		remotetest.Drain(req)
		<-req.Context().Done()
		return nil, req.Context().Err()
	},
	"silence, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		done(req, next)
		<-req.Context().Done()
		return nil, req.Context().Err()
	},
	"500": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		remotetest.Drain(req)
		return remotetest.Answer(req, 500), nil
	},
	"500, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		done(req, next)
		return remotetest.Answer(req, 500), nil
	},
	"503": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		remotetest.Drain(req)
		return remotetest.Answer(req, 503, "Retry-After", "0"), nil
	},
	"503, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		done(req, next)
		return remotetest.Answer(req, 503), nil
	},
	"cut": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		return body(resp, func(r io.Reader) io.Reader { return io.MultiReader(io.LimitReader(r, 20), broken{}) }), nil
	},
	"cut by a proxy that says nothing": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		return body(resp, func(r io.Reader) io.Reader { return io.LimitReader(r, 20) }), nil
	},
}

// quick are options for a network that breaks. A server that the race detector looks at
// is not silent only because it is slow.
func quick(wrap func(http.RoundTripper) http.RoundTripper) httpremote.Options {
	patience := 200 * time.Millisecond
	if test.Race {
		patience = time.Second
	}
	return httpremote.Options{Pause: time.Millisecond, Patience: patience, Wrap: wrap}
}

// fetch fetches until it comes through, as whoever uses a remote does.
func fetch(t *testing.T, r remote.Remote, want remotetest.Item) {
	t.Helper()
	for try := 0; ; try++ {
		got, err := remotetest.Fetch(t.Context(), r, want.ID())
		if err == nil && bytes.Equal(got[want.ID()].Body, want.Body) {
			return
		}
		if err == nil {
			t.Fatalf("what came is not what was asked for, and nobody says so")
		}
		if try == 3 {
			t.Fatal(err)
		}
	}
}

// TestEveryRequestFails lets the first request, the second, … fail in each way:
// everything comes right by itself.
func TestEveryRequestFails(t *testing.T) {
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := int64(1); ; at++ {
				if !everyRequest(t, at, f) || t.Failed() {
					return
				}
			}
		})
	}
}

func everyRequest(t *testing.T, at int64, f fault) (hit bool) {
	s := servertest.Start(t, server.Options{})
	defer s.Stop()
	var n atomic.Int64
	r := s.Client(s.Admin(), quick(func(next http.RoundTripper) http.RoundTripper {
		return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) == at {
				return f(req, next)
			}
			return next.RoundTrip(req)
		})
	}))
	blob := remotetest.Blob(strings.Repeat("a", 1000))
	tree := remotetest.Tree("a", blob)
	one, two := remotetest.Commit(1, tree), remotetest.Commit(2, tree)
	ids := []objects.ID{blob.ID(), tree.ID(), one.ID(), two.ID()}
	missing, err := r.Missing(t.Context(), ids)
	if err != nil || len(missing) != len(ids) {
		t.Errorf("fault at request %d: Missing: %d, %v", at, len(missing), err)
	}
	remotetest.Upload(t, r, blob, tree, one, two)
	both := func(old, next objects.ID) []refs.Update {
		return []refs.Update{{Name: "refs/heads/main", Old: old, New: next}, {Name: "refs/heads/a/b", Old: old, New: next}}
	}
	for _, u := range [][]refs.Update{both(objects.ID{}, one.ID()), both(one.ID(), two.ID()), both(two.ID(), two.ID()), both(two.ID(), objects.ID{})} {
		if err := r.Update(t.Context(), u...); err != nil {
			t.Errorf("fault at request %d: Update to %s: %v", at, u[0].New.Short(), err)
		}
	}
	for ref, err := range r.Refs(t.Context(), "") {
		t.Errorf("fault at request %d: %s is there: %v", at, ref.Name, err)
	}
	fetch(t, r, tree)
	return n.Load() >= at
}

// TestUpdateSettles: what an update says when an answer got lost is where the refs
// are.
func TestUpdateSettles(t *testing.T) {
	tree := remotetest.Tree("a", remotetest.Blob("a"))
	commits := []remotetest.Item{remotetest.Commit(0, tree), remotetest.Commit(1, tree), remotetest.Commit(2, tree)}
	main := func(old, next int) refs.Update {
		return refs.Update{Name: "refs/heads/main", Old: commits[old].ID(), New: commits[next].ID()}
	}
	for _, tt := range []struct {
		what  string
		fault func(s *servertest.Server, req *http.Request, next http.RoundTripper) (*http.Response, error)
		want  func(error) bool
		is    int
	}{
		{"somebody else was faster", func(s *servertest.Server, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			s.Store.Update(t.Context(), main(0, 2))
			return next.RoundTrip(req)
		}, func(err error) bool {
			var c *refs.ConflictError
			return errors.As(err, &c) && *c == refs.ConflictError{Name: "refs/heads/main", Is: commits[2].ID(), Expected: commits[0].ID()}
		}, 2},
		{"somebody else was faster, and our request lost", func(s *servertest.Server, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			s.Store.Update(t.Context(), main(0, 2))
			return nil, syscall.ECONNRESET
		}, func(err error) bool { return strings.Contains(err.Error(), "the refs have moved since") }, 2},
		{"done, and moved on by somebody else", func(s *servertest.Server, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			done(req, next)
			s.Store.Update(t.Context(), main(1, 2))
			return nil, syscall.ECONNRESET
		}, func(err error) bool {
			return !errors.As(err, new(*refs.ConflictError)) && strings.Contains(err.Error(), "the refs have moved since")
		}, 2},
		{"done late, when we try again", func(s *servertest.Server, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			late := req.Clone(context.Background())
			late.Body, _ = req.GetBody()
			time.AfterFunc(5*time.Millisecond, func() { done(late, next) })
			return nil, syscall.ECONNRESET
		}, func(err error) bool { return err == nil }, 1},
		{"refused, without being tried", func(s *servertest.Server, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			remotetest.Drain(req)
			resp := remotetest.Answer(req, 403, "Content-Type", wire.ErrorType)
			resp.Body = io.NopCloser(bytes.NewReader(wire.Errorf(wire.Denied, "no").Encode()))
			return resp, nil
		}, func(err error) bool { return errors.Is(err, remote.ErrDenied) }, 0},
	} {
		t.Run(tt.what, func(t *testing.T) {
			s := servertest.Start(t, server.Options{})
			remotetest.Upload(t, s.Store, append(commits, tree, remotetest.Blob("a"))...)
			if err := s.Store.Update(t.Context(), refs.Update{Name: "refs/heads/main", New: commits[0].ID()}); err != nil {
				t.Fatal(err)
			}
			var first atomic.Bool
			o := quick(func(next http.RoundTripper) http.RoundTripper {
				return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) {
					if strings.HasSuffix(req.URL.Path, wire.Update) && !first.Swap(true) {
						return tt.fault(s, req, next)
					}
					return next.RoundTrip(req)
				})
			})
			o.Pause = 20 * time.Millisecond
			if err := s.Client(s.Admin(), o).Update(t.Context(), main(0, 1)); !tt.want(err) {
				t.Errorf("%v", err)
			}
			for ref := range s.Store.Refs(t.Context(), "") {
				if ref.ID != commits[tt.is].ID() {
					t.Errorf("%s is at %s", ref.Name, ref.ID.Short())
				}
			}
		})
	}
}

// TestStale: what was not missing has gone when refs are to be moved to it.
func TestStale(t *testing.T) {
	s := servertest.Start(t, server.Options{})
	forgetful := &forgetful{Store: s.Store}
	s = servertest.Start(t, server.Options{Open: func() server.Store { return forgetful }})
	r := s.Client(s.Admin(), httpremote.Options{})
	update := refs.Update{Name: "refs/heads/main", New: objects.ID{1}}
	if err := r.Update(t.Context(), update); !errors.Is(err, objects.ErrNotFound) || errors.Is(err, remote.ErrStale) {
		t.Errorf("never there: %v", err)
	}
	forgetful.has = true
	if missing, err := r.Missing(t.Context(), []objects.ID{{1}}); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	forgetful.has = false
	if err := r.Update(t.Context(), update); !errors.Is(err, remote.ErrStale) {
		t.Errorf("gone: %v", err)
	}
}

// forgetful has everything, or nothing.
type forgetful struct {
	server.Store
	has bool
}

func (f *forgetful) Missing(_ context.Context, ids []objects.ID) ([]objects.ID, error) {
	if f.has {
		return nil, nil
	}
	return ids, nil
}

// TestRaceWithFaults lets clients race while a tenth of their requests fail in
// some way: whatever they were told, what was acknowledged is there.
func TestRaceWithFaults(t *testing.T) {
	s := servertest.Start(t, server.Options{})
	admin := s.Admin()
	flaky := quick(func(next http.RoundTripper) http.RoundTripper {
		return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) {
			if rand.IntN(10) == 0 {
				for _, f := range faults { // any of them
					return f(req, next)
				}
			}
			return next.RoundTrip(req)
		})
	})
	var mu sync.Mutex
	var there []remotetest.Item
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := refs.Branch(fmt.Sprint(i))
			var old objects.ID
			for j := range test.Count(t, 300) {
				r := s.Client(admin, flaky)
				blob := remotetest.Blob(fmt.Sprint(i, j))
				tree := remotetest.Tree("a", blob)
				commit := remotetest.Commit(j, tree)
				p := remotetest.Pack(t, []remotetest.Item{blob, tree, commit})
				if err := r.Upload(t.Context(), bytes.NewReader(p), int64(len(p))); err != nil {
					continue
				}
				mu.Lock()
				there = append(there, blob, tree, commit)
				mu.Unlock()
				err := r.Update(t.Context(), refs.Update{Name: name, Old: old, New: commit.ID()})
				var is objects.ID
				for ref := range s.Store.Refs(t.Context(), string(name)) {
					is = ref.ID
				}
				if is != commit.ID() && (err == nil || is != old) {
					t.Errorf("%s is at %s after %v", name, is.Short(), err)
				}
				old = is
			}
		})
	}
	wg.Wait()
	if len(there) == 0 {
		t.Error("nothing went through")
	}
	remotetest.WantFetched(t, s.Store, there...)
}

// TestFlippedBits: a pack that changes on its way is an error to who reads it.
func TestFlippedBits(t *testing.T) {
	s := servertest.Start(t, server.Options{})
	blob := remotetest.Blob(strings.Repeat("a", 100))
	remotetest.Upload(t, s.Store, blob)
	bit := 0
	r := s.Client(s.Admin(), quick(func(next http.RoundTripper) http.RoundTripper {
		return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err != nil {
				return nil, err
			}
			return body(resp, func(r io.Reader) io.Reader {
				data, _ := io.ReadAll(r)
				if bit < 8*len(data) {
					data[bit/8] ^= 1 << (bit % 8)
				} else {
					bit = -1
				}
				return bytes.NewReader(data)
			}), nil
		})
	}))
	for ; bit >= 0; bit++ {
		got, err := remotetest.Fetch(t.Context(), r, blob.ID())
		if bit < 0 {
			if err != nil {
				t.Error(err)
			}
			break
		}
		if err == nil {
			t.Fatalf("bit %d flipped: %d objects came", bit, len(got))
		}
	}
}

// TestRetryAfter: a server that wants to be left alone is, for a while.
func TestRetryAfter(t *testing.T) {
	s := servertest.Start(t, server.Options{})
	for _, tt := range []struct {
		header   func() string
		patience time.Duration
		least    time.Duration
	}{
		{func() string { return "1" }, time.Minute, time.Second},
		{func() string { return time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat) }, time.Minute, 900 * time.Millisecond},
		{func() string { return "3600" }, 100 * time.Millisecond, 100 * time.Millisecond},
		{func() string { return "soon" }, time.Minute, 0},
	} {
		var n atomic.Int64
		r := s.Client(s.Admin(), httpremote.Options{Pause: time.Millisecond, Patience: tt.patience, Wrap: func(next http.RoundTripper) http.RoundTripper {
			return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) {
				if n.Add(1) == 1 {
					return remotetest.Answer(req, 503, "Retry-After", tt.header()), nil
				}
				return next.RoundTrip(req)
			})
		}})
		begun := time.Now()
		_, err := r.Missing(t.Context(), []objects.ID{{1}})
		if took := time.Since(begun); err != nil || took < tt.least || took > 10*time.Second || n.Load() != 2 {
			t.Errorf("Retry-After %s: %v after %v and %d requests", tt.header(), err, took, n.Load())
		}
	}
}

// TestCancel: whoever does not want to wait does not.
func TestCancel(t *testing.T) {
	s := servertest.Start(t, server.Options{})
	admin := s.Admin()
	hang := httpremote.Options{Pause: time.Hour, Wrap: func(http.RoundTripper) http.RoundTripper {
		return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) {
			if strings.HasSuffix(req.URL.Path, wire.Missing) { // fails, and then there is a long pause
				return nil, syscall.ECONNRESET
			}
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
	}}
	r := s.Client(admin, hang)
	for what, call := range map[string]func(context.Context) error{
		"Missing": func(ctx context.Context) error { _, err := r.Missing(ctx, []objects.ID{{1}}); return err },
		"Fetch":   func(ctx context.Context) error { _, err := remotetest.Fetch(ctx, r, objects.ID{1}); return err },
		"Upload":  func(ctx context.Context) error { return r.Upload(ctx, bytes.NewReader(make([]byte, 100)), 100) },
		"Update":  func(ctx context.Context) error { return r.Update(ctx, refs.Update{Name: "refs/heads/a"}) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		begun := time.Now()
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 10*time.Second {
			t.Errorf("%s: %v after %v", what, err, time.Since(begun))
		}
		cancel()
	}
}

// TestUnreachable: a server that is not there costs a few tries, and says so.
func TestUnreachable(t *testing.T) {
	s := servertest.Start(t, server.Options{})
	r := s.Client(s.Admin(), httpremote.Options{Pause: time.Millisecond})
	s.Stop()
	for what, err := range map[string]error{
		"Update":  r.Update(t.Context(), refs.Update{Name: "refs/heads/a", New: objects.ID{1}}),
		"Missing": second(r.Missing(t.Context(), []objects.ID{{1}})),
	} {
		if !errors.Is(err, syscall.ECONNREFUSED) || !strings.HasPrefix(err.Error(), s.URL+": ") || strings.Count(err.Error(), s.URL) != 1 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestNothingSentInVain: a pack is sent only to who wants it.
func TestNothingSentInVain(t *testing.T) {
	s := servertest.Start(t, server.Options{MaxUpload: 2 << 20})
	for _, tt := range []struct {
		token string
		size  int64
		want  error
	}{{"wrong", 1 << 20, remote.ErrDenied}, {s.Admin(), 3 << 20, nil}} {
		counted := &counted{size: tt.size}
		err := s.Client(tt.token, httpremote.Options{}).Upload(t.Context(), counted, tt.size)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || counted.n.Load() > 0 {
			t.Errorf("%d bytes were sent: %v", counted.n.Load(), err)
		}
	}
}

// counted counts what is read of it.
type counted struct {
	size int64
	n    atomic.Int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), c.size-off))
	c.n.Add(int64(n))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// TestStrangeServers: servers that are none of ours, or want something else of us.
func TestStrangeServers(t *testing.T) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	ours := func(w http.ResponseWriter, data []byte) {
		w.Header().Set("Content-Type", wire.ContentType)
		w.Write(data)
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"a web site":    {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") }, "no cache-tool server"},
		"a static site": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(405) }, "no cache-tool server"},
		"nothing there": {http.NotFound, "no cache-tool server"},
		"silent":        {func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-stop }, "silent"},
		"stalls":        {func(w http.ResponseWriter, r *http.Request) { ours(w, []byte{0}); w.(http.Flusher).Flush(); <-stop }, "silent"},
		"sends elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.org/", http.StatusTemporaryRedirect)
		}, "example.org"},
		"asks who we are": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }, "401"},
		"hangs up":        {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"says too much":   {func(w http.ResponseWriter, r *http.Request) { ours(w, make([]byte, 10<<10)) }, "malformed"},
		"miscounts":       {func(w http.ResponseWriter, r *http.Request) { ours(w, []byte{0, 0, 0, 9}) }, "malformed"},
		"echoes secrets":  {func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.Header.Get("Authorization"), 400) }, "400"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(tt.handler)
			t.Cleanup(s.CloseClientConnections)
			r, err := httpremote.Open(s.URL, httpremote.Options{
				Patience: 100 * time.Millisecond, Tries: 2, Pause: time.Millisecond, Credentials: auth.Credentials{Token: "secret"},
			})
			if err != nil {
				t.Fatal(err)
			}
			_, missing := r.Missing(t.Context(), []objects.ID{{1}, {2}})
			errs := map[string]error{"Missing": missing, "Refs": nil, "Fetch": second(remotetest.Fetch(t.Context(), r, objects.ID{1}))}
			for _, err := range r.Refs(t.Context(), "") {
				errs["Refs"] = err
			}
			for call, err := range errs {
				if err == nil || strings.Contains(err.Error(), "secret") {
					t.Errorf("%s: %v", call, err)
				}
			}
			if !strings.Contains(missing.Error(), tt.want) {
				t.Errorf("%v, want %q", missing, tt.want)
			}
		})
	}
}

func TestWrongCertificate(t *testing.T) {
	n := 0
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n++ }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	tries := 0
	for _, config := range []*tls.Config{nil, {ServerName: "other"}} {
		r, err := httpremote.Open(s.URL, httpremote.Options{TLS: config, Credentials: auth.Credentials{Token: "secret"}, Wrap: func(next http.RoundTripper) http.RoundTripper {
			return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) { tries++; return next.RoundTrip(req) })
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := second(r.Missing(t.Context(), []objects.ID{{1}})); err == nil || !strings.Contains(err.Error(), "certificate") || n > 0 {
			t.Errorf("%v, %d requests", err, n)
		}
	}
	if tries != 2 {
		t.Errorf("%d tries; it does not pass", tries)
	}
}

// TestBadPack: what the server says about a pack is what a store in this process
// would say. It is sent twice: it may have been damaged on its way.
func TestBadPack(t *testing.T) {
	s := servertest.Start(t, server.Options{})
	tries := 0
	r := s.Client(s.Admin(), quick(func(next http.RoundTripper) http.RoundTripper {
		return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) { tries++; return next.RoundTrip(req) })
	}))
	if err := r.Upload(t.Context(), strings.NewReader("nonsense"), 8); !errors.Is(err, pack.ErrBadPack) || tries != 2 {
		t.Errorf("%v after %d tries", err, tries)
	}
	if err := r.Update(t.Context(), refs.Update{Name: "refs/heads/a"}, refs.Update{Name: "refs/heads/a"}); err == nil || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
}
