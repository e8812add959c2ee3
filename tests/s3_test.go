package tests

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote/s3/s3test"
)

func s3Places() (list []place) {
	for _, s := range s3test.Servers {
		list = append(list, place{s.Name, func(t *testing.T) *site { return startS3(t, s) }})
	}
	return list
}

// startS3 starts one of the object stores.
func startS3(t *testing.T, s s3test.Server) *site {
	t.Helper()
	server := s.Start(t)
	return &site{
		url:  server.NewBucket(t),
		env:  s3Env(server.URL),
		kill: func() { server.Stop(syscall.SIGKILL) },
		restart: func() {
			// What was killed may hold its port for a moment.
			for try := 0; !server.Run(t); try++ {
				if try == 20 || t.Failed() {
					t.Fatalf("%s does not start again", server.Name)
				}
			}
		},
	}
}

// s3Env is what a machine must know of an object store.
func s3Env(endpoint string) (env []string) {
	for name, value := range s3test.Environment() {
		env = append(env, name+"="+value)
	}
	return append(env, "AWS_ENDPOINT_URL_S3="+endpoint)
}

// A meter counts what goes to an object store, and comes from there.
type meter struct {
	url             string
	requests, bytes atomic.Int64
}

// newMeter puts a meter before an object store. It keeps the host that was asked for,
// which is signed.
func newMeter(t *testing.T, endpoint string) *meter {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	m := new(meter)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			resp.Body = metered{resp.Body, m}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests.Add(1)
		r.Body = metered{r.Body, m}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

type metered struct {
	io.ReadCloser
	m *meter
}

func (r metered) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.m.bytes.Add(int64(n))
	return n, err
}

// of returns what fn takes.
func (m *meter) of(fn func()) (requests, bytes int64) {
	r, b := m.requests.Load(), m.bytes.Load()
	fn()
	return m.requests.Load() - r, m.bytes.Load() - b
}

// TestFewRequests: object stores charge by the request, and each takes its time.
func TestFewRequests(t *testing.T) {
	alone(t)
	n := test.Count(t, 1_000_000)
	dir := fillBranch(t, n)
	server := s3test.Servers[0].Start(t)
	at := server.NewBucket(t)
	m := newMeter(t, server.URL)
	for _, pair := range s3Env(m.url) {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	must(t, dir, "remote", "add", "origin", at)
	must(t, dir, "push", "-q")

	other := filepath.Join(test.Dir(t), "other")
	requests, bytes := m.of(func() {
		must(t, other, "clone", "-q", "--lazy", at, other)
		if got := must(t, other, "get", keyOf(n/2)).out; got != valueOf(n/2) {
			t.Errorf("got %q", got)
		}
	})
	t.Logf("a lazy clone of %d entries and a hit: %d requests, %d bytes", n, requests, bytes)
	if requests > 12 || bytes > 5<<20 {
		t.Errorf("want at most 12 requests and 5 MB")
	}

	for i := range 1000 {
		if r := runWith([]byte(fmt.Sprint("new value ", i)), dir, "put", "-q", "--stage", fmt.Sprint("new/", i)); r.code != done {
			t.Fatal(r)
		}
	}
	requests, bytes = m.of(func() { must(t, dir, "push", "-q") })
	t.Logf("a push of 1000 new entries: %d requests, %d bytes", requests, bytes)
	if requests > 10 {
		t.Errorf("want at most 10 requests")
	}
	requests, bytes = m.of(func() { must(t, dir, "push", "-q") })
	t.Logf("a push of nothing: %d requests, %d bytes", requests, bytes)
}

// TestS3Errors: what is wrong with an object store is said where it is added, with the
// way out, and nothing is written down.
func TestS3Errors(t *testing.T) {
	server := s3test.Servers[0].Start(t)
	at := server.NewBucket(t)
	ignores := forgetful(t, server.URL)
	for _, tt := range []struct {
		name string
		env  string
		args []string
		says []string
	}{
		{"no such bucket", "", []string{"s3://no-such-bucket/x"}, []string{"NoSuchBucket", "endpoint"}},
		{"no name of a bucket", "", []string{"s3://NO_NAME/x"}, []string{"InvalidBucketName", "endpoint"}},
		{"region", "", []string{"--region", "mars-1", at}, []string{"us-east-1", "config set remote.origin.region us-east-1"}},
		{"secret", "AWS_SECRET_ACCESS_KEY=wrong", []string{at}, []string{"SignatureDoesNotMatch", "$AWS_SECRET_ACCESS_KEY"}},
		{"conditions", "", []string{"--endpoint", ignores, at}, []string{"ignores conditions", "cache-tool serve"}},
		{"port", "", []string{"s3://cache:9000/x"}, []string{"--endpoint"}},
		{"key in URL", "", []string{"s3://key:s3cret@cache/x"}, []string{"$AWS_ACCESS_KEY_ID"}},
		{"in the clear", "", []string{"--endpoint", "http://store.example.org", at}, []string{"unencrypted", "remote.origin.insecure"}},
		{"endpoint of something else", "", []string{"--endpoint", "https://h", "https://cache"}, []string{"s3://"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.env = append(s3Env(server.URL), tt.env)
			args := append([]string{"remote", "add"}, tt.args[:len(tt.args)-1]...)
			r := h.run(append(args, "origin", tt.args[len(tt.args)-1])...)
			if r.code == done || strings.Contains(r.err, "s3cret") {
				t.Errorf("%v", r)
			}
			for _, says := range tt.says {
				if !strings.Contains(r.err, says) {
					t.Errorf("%v, want %q", r, says)
				}
			}
			h.must("init", h.repo())
			if list := h.must("remote").out; list != "" {
				t.Errorf("there is %s", list)
			}
		})
	}
}

// forgetful is an object store that lets every condition hold.
func forgetful(t *testing.T, endpoint string) string {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode == http.StatusPreconditionFailed {
				resp.StatusCode, resp.Status = http.StatusOK, "200 OK"
				resp.Header.Set("ETag", `"another"`)
			}
			return nil
		},
	})
	t.Cleanup(server.Close)
	return server.URL
}

// TestS3Unreachable: a store that does not answer, or throttles, costs no build
// anything but a bounded time, and what is pushed later is all there.
func TestS3Unreachable(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := startS3(t, s3test.Servers[0])
	h := s.connected(t)
	if err := h.put("first"); err != nil {
		t.Fatal(err)
	}
	h.must("push")
	lazy := s.host(t)
	lazy.must("clone", "--lazy", s.url, lazy.repo())
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
	}))
	defer slow.Close()
	for endpoint, says := range map[string]string{slow.URL: "SlowDown", "http://127.0.0.1:1": "refused"} {
		for _, h := range []*host{h, lazy} {
			h.setenv("AWS_ENDPOINT_URL_S3", endpoint)
			if err := h.put("second"); err != nil {
				t.Fatal(err)
			}
			r := h.runWithin(boundedBy, "push")
			wantClear(t, r, "origin")
			if !strings.Contains(r.err, says) || !strings.Contains(r.err, "it goes on where it stopped") {
				t.Errorf("%v, want %q", r, says)
			}
			begun := time.Now()
			if r := h.run("run", "--", "echo", endpoint); r.code != done || time.Since(begun) > 40*time.Second {
				t.Errorf("after %v: %v", time.Since(begun), r)
			}
		}
		added := newHost(t)
		added.env = s3Env(endpoint)
		if r := added.must("remote", "add", "origin", s.url); !strings.Contains(r.err, "the first push does so") {
			t.Errorf("%v", r)
		}
	}
	h.env = append(h.env, s.env...)
	h.must("push")
	s.sound(t)
	s.clone(t).holds("first", "second")
}
