package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/remote/s3"
	"github.com/cache-tool/cache-tool/sync/remote/s3/s3test"
)

// says answers all requests with an error of a store.
func says(code int, reason, more string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(code)
		fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>The store says so</Message>%s</Error>`, reason, more)
	}
}

// TestErrors: what can be wrong is said, soon, in words that name it.
func TestErrors(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		is      error
		want    string
	}{
		"region": {says(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"), s3.ErrRegion, "in the region eu-west-1, and not in us-west-2"},
		"moved":  {says(301, "PermanentRedirect", ""), s3.ErrRegion, "PermanentRedirect"},
		"key":    {says(403, "InvalidAccessKeyId", ""), s3.ErrKey, "InvalidAccessKeyId"},
		"secret": {says(403, "SignatureDoesNotMatch", ""), s3.ErrKey, "SignatureDoesNotMatch"},
		"old":    {says(400, "ExpiredToken", ""), s3.ErrKey, "ExpiredToken"},
		"denied": {says(403, "AccessDenied", ""), remote.ErrDenied, "AccessDenied: The store says so"},
		"bucket": {says(404, "NoSuchBucket", ""), s3.ErrNoBucket, "NoSuchBucket"},
		"clock": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			says(403, "RequestTimeTooSkewed", "")(w, r)
		}, s3.ErrClock, "the clock of this machine is 1h0m"},
		"throttled":  {says(503, "SlowDown", ""), s3.ErrThrottled, "SlowDown"},
		"in trouble": {says(500, "InternalError", ""), remote.ErrUnreachable, "InternalError"},
		"no store":   {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>Welcome") }, nil, "damaged"},
		"not found":  {http.NotFound, s3.ErrNoStore, "no S3 store"},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.org/", http.StatusFound)
		}, s3.ErrNoStore, "302"},
		"silent":  {func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-stop }, remote.ErrUnreachable, "silent"},
		"hang up": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, remote.ErrUnreachable, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			t.Cleanup(server.CloseClientConnections)
			b := open(t, nil, "s3://cache/team", s3.Options{
				Endpoint: server.URL, Region: "us-west-2", Patience: 200 * time.Millisecond, Tries: 2, Pause: time.Millisecond,
			})
			_, root := b.Root(t.Context())
			for call, err := range map[string]error{
				"Root":  root,
				"Put":   b.Put(t.Context(), "packs/a", bytes.NewReader(make([]byte, 100)), 100),
				"Swap":  b.Swap(t.Context(), remote.Root{}, remote.Root{Seq: 1, Nonce: 1}),
				"Probe": b.Probe(t.Context()),
			} {
				switch {
				case err == nil || strings.Contains(err.Error(), s3test.SecretKey):
					t.Errorf("%s: %v", call, err)
				case tt.is != nil && !errors.Is(err, tt.is):
					t.Errorf("%s: %v is not: %v", call, err, tt.is)
				case call == "Root" && !strings.Contains(err.Error(), tt.want):
					t.Errorf("%s: %v, want %q", call, err, tt.want)
				}
			}
		})
	}
}

// TestAdoptsRegion: a store that says where the bucket is is believed, if nobody here
// has said it.
func TestAdoptsRegion(t *testing.T) {
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		if !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/s3/") {
			says(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")(w, r)
			return
		}
		says(404, "NoSuchKey", "")(w, r)
	}))
	defer server.Close()
	b := open(t, nil, "s3://cache/team", s3.Options{Endpoint: server.URL})
	for range 2 {
		if r, err := b.Root(t.Context()); err != nil || !r.IsZero() {
			t.Errorf("Root: %v, %v", r, err)
		}
	}
	if n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

// TestWrongKeys asks real servers, whose words differ.
func TestWrongKeys(t *testing.T) {
	server := s3test.Servers[0].Start(t)
	at := server.NewBucket(t)
	for _, tt := range []struct{ key, secret string }{{s3test.AccessKey, "wrong-secret"}, {"nobody", s3test.SecretKey}} {
		t.Setenv("AWS_ACCESS_KEY_ID", tt.key)
		t.Setenv("AWS_SECRET_ACCESS_KEY", tt.secret)
		_, err := open(t, server, at, s3.Options{}).Root(t.Context())
		if !errors.Is(err, s3.ErrKey) || strings.Contains(err.Error(), tt.secret) {
			t.Errorf("%s: %v", tt.key, err)
		}
	}
}

func TestWrongRegion(t *testing.T) {
	server := s3test.Servers[0].Start(t)
	_, err := open(t, server, server.NewBucket(t), s3.Options{Region: "mars-1"}).Root(t.Context())
	if !errors.Is(err, s3.ErrRegion) {
		t.Error(err)
	}
}

// TestBucketVanishes: what was pushed to a bucket that is gone is not taken for an
// empty one.
func TestBucketVanishes(t *testing.T) {
	onServers(t, func(t *testing.T, server *s3test.Running) {
		at := server.NewBucket(t)
		r := bucket.Open(open(t, server, at, s3.Options{}))
		a := remotetest.Blob("a")
		remotetest.Upload(t, r, a)
		server.RemoveBucket(t, at)
		p := remotetest.Pack(t, []remotetest.Item{remotetest.Blob("b")})
		err := r.Upload(t.Context(), bytes.NewReader(p), int64(len(p)))
		_, reading := open(t, server, at, s3.Options{}).Root(t.Context())
		for _, err := range []error{err, reading} {
			if !errors.Is(err, s3.ErrNoBucket) {
				t.Error(err)
			}
		}
	})
}

// TestProbe: stores that ignore conditions are found out, each in its own way.
func TestProbe(t *testing.T) {
	onServers(t, func(t *testing.T, server *s3test.Running) {
		at := server.NewBucket(t)
		b := open(t, server, at, s3.Options{})
		if err := b.Probe(t.Context()); err != nil {
			t.Error(err)
		}
		if err := b.Tidy(t.Context(), -time.Second); err != nil {
			t.Error(err)
		}
		for name, lie := range map[string]func(*http.Request, *http.Response) *http.Response{
			"ignores": func(req *http.Request, resp *http.Response) *http.Response {
				if resp.StatusCode == http.StatusPreconditionFailed {
					return remotetest.Answer(req, 200, "ETag", `"x"`)
				}
				return resp
			},
			"ignores If-Match": func(req *http.Request, resp *http.Response) *http.Response {
				if resp.StatusCode == http.StatusPreconditionFailed && req.Header.Get("If-Match") != "" {
					return remotetest.Answer(req, 200, "ETag", `"x"`)
				}
				return resp
			},
			"does not take them": func(req *http.Request, resp *http.Response) *http.Response {
				if req.Header.Get("If-None-Match") != "" {
					return remotetest.Answer(req, 501)
				}
				return resp
			},
		} {
			liar := open(t, server, at, s3.Options{Wrap: func(next http.RoundTripper) http.RoundTripper {
				return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) {
					resp, err := next.RoundTrip(req)
					if err == nil {
						resp = lie(req, resp)
					}
					return resp, err
				})
			}})
			// Who has not said "remote add" finds out when he makes the root.
			swap := liar.Swap(t.Context(), remote.Root{}, remote.Root{Seq: 1, Nonce: 1})
			for _, err := range []error{liar.Probe(t.Context()), swap} {
				if !errors.Is(err, s3.ErrNoConditions) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if r, err := b.Root(t.Context()); err != nil || !r.IsZero() {
			t.Errorf("Root: %v, %v", r, err)
		}
	})
}

func TestUnencrypted(t *testing.T) {
	sent := 0
	o := s3.Options{Endpoint: "http://store.example.org", Tries: 1, Wrap: func(http.RoundTripper) http.RoundTripper {
		return remotetest.RoundTripper(func(req *http.Request) (*http.Response, error) {
			sent++
			return nil, errors.New("sent")
		})
	}}
	if _, err := open(t, nil, "s3://b", o).Root(t.Context()); !errors.Is(err, auth.ErrUnencrypted) || sent > 0 {
		t.Errorf("%v, %d sent", err, sent)
	}
	o.Unencrypted = true
	if _, err := open(t, nil, "s3://b", o).Root(t.Context()); errors.Is(err, auth.ErrUnencrypted) || sent != 1 {
		t.Errorf("%v, %d sent", err, sent)
	}
}

// TestCancelledLookForKeys: who does not want to wait for a role does not.
func TestCancelledLookForKeys(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	defer server.Close()
	defer close(stop)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := open(t, nil, "s3://b", s3.Options{Endpoint: server.URL}).Root(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestNoKeys: that there is none is known soon, and said.
func TestNoKeys(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	os.Unsetenv("AWS_EC2_METADATA_DISABLED")
	defer os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	begun := time.Now()
	b := open(t, nil, "s3://b", s3.Options{Endpoint: "http://127.0.0.1:1"})
	for range 3 {
		if _, err := b.Root(t.Context()); !errors.Is(err, s3.ErrNoCredentials) {
			t.Error(err)
		}
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
