package remotetest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
)

// A Network makes a faulty network of a good one.
type Network = func(http.RoundTripper) http.RoundTripper

// A RoundTripper is a network that somebody has thought up.
type RoundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f RoundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Answer is what a server says without being asked.
func Answer(req *http.Request, code int, header ...string) *http.Response {
	rec := httptest.NewRecorder()
	for i := 0; i < len(header); i += 2 {
		rec.Header().Set(header[i], header[i+1])
	}
	rec.WriteHeader(code)
	resp := rec.Result()
	resp.Request = req
	return resp
}

// Drain ends a request that goes nowhere.
func Drain(req *http.Request) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
}

// faults are what can befall a request, each in two forms: before the server
// has done what was asked, and after.
var faults = map[string]func(req *http.Request, next http.RoundTripper) (*http.Response, error){
	"reset": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		Drain(req)
		return nil, syscall.ECONNRESET
	},
	"reset, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if resp, err := next.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		return nil, syscall.ECONNRESET
	},
	"500": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		Drain(req)
		return Answer(req, 500), nil
	},
	"500, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if resp, err := next.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		return Answer(req, 500), nil
	},
	"503": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		Drain(req)
		return Answer(req, 503, "Retry-After", "0"), nil
	},
	"503, done": func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if resp, err := next.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		return Answer(req, 503), nil
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

// RunEveryRequestFails lets each request fail, in each way: everything comes right by
// itself. Each call of fresh makes a new empty bucket, and returns a function that
// returns a client of it, behind a network.
func RunEveryRequestFails(t *testing.T, fresh func(t *testing.T) func(Network) remote.Bucket) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) { testEveryRequest(t, fresh, fault) })
	}
}

func testEveryRequest(t *testing.T, fresh func(t *testing.T) func(Network) remote.Bucket, fault func(*http.Request, http.RoundTripper) (*http.Response, error)) {
	for at := 1; ; at++ {
		n, hit := 0, false
		var mu sync.Mutex
		b := fresh(t)(func(next http.RoundTripper) http.RoundTripper {
			return RoundTripper(func(req *http.Request) (*http.Response, error) {
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
		})
		r := bucket.Open(b)
		a := Blob(strings.Repeat("a", 1000))
		Upload(t, r, a)
		var old objects.ID
		for range 2 {
			if err := r.Update(t.Context(), refs.Update{Name: "refs/tags/a", Old: old, New: a.ID()}); err != nil {
				t.Errorf("fault at request %d: Update: %v", at, err)
			}
			old = a.ID()
		}
		WantFetched(t, bucket.Open(b), a)
		if !hit || t.Failed() {
			return
		}
	}
}

// Flaky is a network in which a tenth of all requests fail in some way.
func Flaky(next http.RoundTripper) http.RoundTripper {
	return RoundTripper(func(req *http.Request) (*http.Response, error) {
		if rand.IntN(10) == 0 {
			for _, fault := range faults { // any of them
				return fault(req, next)
			}
		}
		return next.RoundTrip(req)
	})
}

// RaceWithFaults lets clients of a bucket race that may fail, and wants to find, with a
// good one, all that was acknowledged.
func RaceWithFaults(t *testing.T, flaky func() remote.Bucket, good remote.Bucket) {
	var mu sync.Mutex
	var there []Item
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := refs.Branch(fmt.Sprint(i))
			for j := range test.Count(t, 100) {
				r := bucket.Open(flaky())
				blob := Blob(fmt.Sprint(i, j))
				p := Pack(t, []Item{blob})
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
	WantFetched(t, bucket.Open(good), there...)
}

// RaceWithKills is RaceWithFaults with a server that is killed, and comes again, again
// and again meanwhile.
func RaceWithKills(t *testing.T, kill func(), restart func() bool, flaky func() remote.Bucket, patient remote.Bucket) {
	done := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for range test.Count(t, 40) {
			select {
			case <-done:
				return
			case <-time.After(rand.N(300 * time.Millisecond)):
			}
			kill()
			for !restart() && !t.Failed() {
				t.Log("once more")
			}
		}
	})
	RaceWithFaults(t, flaky, patient)
	close(done)
	killer.Wait()
}
