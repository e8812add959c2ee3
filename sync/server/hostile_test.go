package server_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// patience is that of servers which are to lose it soon.
const patience = 300 * time.Millisecond

// A raw request is one that no client of ours would send.
type raw struct {
	method, path, token string
	header              []string
	body                io.Reader
	length              int64 // of the body, if it is no bytes.Reader
}

// send returns the status and the code of the error, if there is one.
func (q raw) send(t *testing.T, s *servertest.Server) (status int, code wire.Code, header http.Header) {
	t.Helper()
	if q.method == "" {
		q.method = "POST"
	}
	req, err := http.NewRequestWithContext(t.Context(), q.method, s.URL+q.path, q.body)
	if err != nil {
		t.Fatal(err)
	}
	if q.length != 0 {
		req.ContentLength = q.length
	}
	req.Header.Set("Content-Type", wire.ContentType)
	if q.token != "" {
		req.Header.Set("Authorization", "Bearer "+q.token)
	}
	for i := 0; i < len(q.header); i += 2 {
		req.Header.Set(q.header[i], q.header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.TLS(), DisableKeepAlives: true, ExpectContinueTimeout: time.Minute}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	var known *wire.Error
	if err, ok := wire.ParseError(data); ok && errors.As(err, &known) {
		code = known.Code
	}
	return resp.StatusCode, code, resp.Header
}

func message(p []byte) io.Reader { return bytes.NewReader(p) }

// TestMalformed: what makes no sense is refused, and says why.
func TestMalformed(t *testing.T) {
	s := servertest.Start(t, server.Options{MaxUpload: 1 << 20})
	admin := s.Admin()
	update := func(name string) io.Reader {
		return message(wire.EncodeUpdates([]refs.Update{{Name: refs.Name(name), New: objects.ID{1}}}, nil))
	}
	manyIDs := binary.BigEndian.AppendUint32(nil, wire.MaxIDs+1)
	for _, tt := range []struct {
		what   string
		q      raw
		status int
		code   wire.Code
	}{
		{"no such path", raw{path: "/"}, 404, wire.NoOperation},
		{"path that climbs", raw{path: "/v1/../../etc/passwd"}, 404, wire.NoOperation},
		{"path that is escaped", raw{path: "/v1/%2e%2e/refs"}, 404, wire.NoOperation},
		{"two slashes", raw{path: "//v1/refs"}, 404, wire.NoOperation},
		{"another version", raw{path: "/v2/refs"}, 404, wire.NoOperation},
		{"GET", raw{method: "GET", path: "/v1/refs"}, 405, wire.BadMethod},
		{"DELETE", raw{method: "DELETE", path: "/v1/update"}, 405, wire.BadMethod},
		{"PUT", raw{method: "PUT", path: "/v1/upload", body: message([]byte("x"))}, 405, wire.BadMethod},
		{"POST of health", raw{path: "/healthz"}, 405, wire.BadMethod},
		{"POST of metrics", raw{path: "/metrics"}, 405, wire.BadMethod},
		{"form", raw{path: "/v1/refs", header: []string{"Content-Type", "text/plain"}}, 415, wire.BadType},
		{"gzip", raw{path: "/v1/refs", header: []string{"Content-Encoding", "gzip"}, body: message([]byte("x"))}, 415, wire.BadType},
		{"odd credentials", raw{path: "/v1/refs", header: []string{"Authorization", "Negotiate x"}}, 401, wire.Unknown},
		{"no credentials", raw{path: "/v1/refs"}, 401, wire.Unknown},
		{"empty credentials", raw{path: "/v1/refs", header: []string{"Authorization", "Bearer"}}, 401, wire.Unknown},
		{"no length", raw{path: "/v1/refs", token: admin, body: io.MultiReader(message([]byte("x")))}, 411, wire.NoLength},
		{"long prefix", raw{path: "/v1/refs", token: admin, body: message(make([]byte, 2000))}, 413, wire.TooLarge},
		{"empty list", raw{path: "/v1/missing", token: admin}, 400, wire.BadRequest},
		{"too many ids", raw{path: "/v1/missing", token: admin, body: message(manyIDs)}, 400, wire.BadRequest},
		{"fewer ids than said", raw{path: "/v1/bases", token: admin, body: message([]byte{0, 0, 0, 9})}, 400, wire.BadRequest},
		{"bytes after the ids", raw{path: "/v1/missing", token: admin, body: message(make([]byte, 5))}, 400, wire.BadRequest},
		{"long list", raw{path: "/v1/missing", token: admin, body: message([]byte("x")), length: 100 << 20, header: []string{"Expect", "100-continue"}}, 413, wire.TooLarge},
		{"unknown extent", raw{path: "/v1/fetch", token: admin, body: message(append([]byte{9}, make([]byte, 8)...))}, 400, wire.BadRequest},
		{"endless budget", raw{path: "/v1/paths", token: admin, body: message(bytes.Repeat([]byte{0xff}, 12))}, 400, wire.BadRequest},
		{"name that climbs", raw{path: "/v1/update", token: admin, body: update("refs/heads/../../config")}, 400, wire.BadName},
		{"absolute name", raw{path: "/v1/update", token: admin, body: update("/etc/passwd")}, 400, wire.BadName},
		{"name with NUL", raw{path: "/v1/update", token: admin, body: update("refs/heads/a\x00b")}, 400, wire.BadName},
		{"name of a lock", raw{path: "/v1/update", token: admin, body: update("refs/heads/main.lock")}, 400, wire.BadName},
		{"name of nothing", raw{path: "/v1/update", token: admin, body: update("")}, 400, wire.BadName},
		{"name of HEAD", raw{path: "/v1/update", token: admin, body: update("HEAD")}, 400, wire.BadName},
		{"long name", raw{path: "/v1/update", token: admin, body: update("refs/heads/" + strings.Repeat("a/", 490) + "bb")}, 404, wire.NotFound},
		{"to a missing commit", raw{path: "/v1/update", token: admin, body: update("refs/heads/main")}, 404, wire.NotFound},
		{"no pack", raw{path: "/v1/upload", token: admin}, 422, wire.BadPack},
		{"garbage", raw{path: "/v1/upload", token: admin, body: message(bytes.Repeat([]byte("garbage "), 10_000))}, 422, wire.BadPack},
		{"big garbage", raw{path: "/v1/upload", token: admin, body: message(bytes.Repeat([]byte("garbage "), 100_000))}, 422, wire.BadPack},
		{"pack that is too long", raw{path: "/v1/upload", token: admin, body: message(make([]byte, 1<<20+1)), header: []string{"Expect", "100-continue"}}, 413, wire.TooLarge},
		{"endless pack", raw{path: "/v1/upload", token: admin, body: endless{}, header: []string{"Expect", "100-continue"}}, 411, wire.NoLength},
		{"pack of an exabyte", raw{path: "/v1/upload", token: admin, body: endless{}, length: 1 << 60, header: []string{"Expect", "100-continue"}}, 413, wire.TooLarge},
		{"newer pack", raw{path: "/v1/upload", token: admin, body: message([]byte("CTPK\x00\x00\x00\x07" + strings.Repeat("x", 100)))}, 422, wire.BadPack},
	} {
		if status, code, _ := tt.q.send(t, s); status != tt.status || code != tt.code {
			t.Errorf("%s: %d %s, want %d %s", tt.what, status, code, tt.status, tt.code)
		}
	}
	r := s.Client(admin, once)
	if got := names(t, r); len(got) > 0 {
		t.Errorf("refs: %v", got)
	}
}

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestBadPacks: of a pack with a bad object nothing enters the store.
func TestBadPacks(t *testing.T) {
	s := servertest.Start(t, server.Options{MaxUpload: 1 << 20, Work: time.Second})
	r := s.Client(s.Admin(), once)
	blob := remotetest.Blob("x")
	zeros := remotetest.Item{Type: pack.Blob, Body: make([]byte, 17<<20)}
	chunk := remotetest.Item{Type: pack.Chunk, Body: make([]byte, 8<<20)}
	pieces := slices.Repeat([]pack.Piece{{ID: chunk.ID(), Size: 8 << 20}}, 20_000) // 160 GB
	for _, tt := range []struct {
		what  string
		items []remotetest.Item
		want  string
	}{
		{"bomb", []remotetest.Item{blob, zeros}, "becomes 17825793 bytes"},
		{"recipe of one chunk, over and over", []remotetest.Item{blob, chunk, {Type: pack.Recipe, Body: pack.AppendRecipe(nil, objects.ID{1}, 20_000*8<<20, pieces)}}, "takes more than 1s"},
		{"recipe of another blob", []remotetest.Item{blob, chunk, {Type: pack.Recipe, Body: pack.AppendRecipe(nil, objects.ID{1}, 8<<20, pieces[:1])}}, "damaged pack"},
		{"recipe of what is not there", []remotetest.Item{blob, {Type: pack.Recipe, Body: pack.AppendRecipe(nil, objects.ID{1}, 8<<20, pieces[:1])}}, "not found"},
		{"tree that climbs", []remotetest.Item{blob, {Type: pack.Tree, Body: objects.Entries{{Mode: objects.ModeFile, Name: "../x", ID: blob.ID()}}.Encode()}}, "tree "},
		{"tree in disorder", []remotetest.Item{blob, {Type: pack.Tree, Body: objects.Entries{{Mode: objects.ModeFile, Name: "b", ID: blob.ID()}, {Mode: objects.ModeFile, Name: "a", ID: blob.ID()}}.Encode()}}, "tree "},
		{"commit of nothing", []remotetest.Item{blob, {Type: pack.Commit, Body: []byte("commit")}}, "commit "},
	} {
		p := remotetest.Pack(t, tt.items)
		if len(p) > 1<<20 {
			t.Fatalf("%s: %d bytes", tt.what, len(p))
		}
		begun := time.Now()
		err := r.Upload(t.Context(), bytes.NewReader(p), int64(len(p)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
		}
		if took := time.Since(begun); took > 15*time.Second {
			t.Errorf("%s: it took %v", tt.what, took)
		}
		if missing, err := r.Missing(t.Context(), []objects.ID{blob.ID()}); err != nil || len(missing) != 1 {
			t.Errorf("%s: its blob is in the store: %v", tt.what, err)
		}
	}
}

// dial opens a connection on which nobody makes sure that HTTP is spoken.
func dial(t *testing.T, s *servertest.Server, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// wantEnd wants the server to end the connection soon, and returns what it said.
func wantEnd(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * patience))
	said, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server waits on; it said %q", said)
	}
	return string(said)
}

func head(s *servertest.Server, operation, token string, length int, more string) string {
	return fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n%s\r\n", operation, s.Addr, wire.ContentType, token, length, more)
}

// TestSlow: clients that are slow, or never come to an end, are not waited for.
func TestSlow(t *testing.T) {
	s := servertest.Start(t, server.Options{Patience: patience})
	admin := s.Admin()
	drip := func(c net.Conn) { // a byte at a time, to look alive
		for range 200 {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(patience / 10)
		}
	}
	var clients sync.WaitGroup
	for _, tt := range []struct {
		what, text string
		drip       bool
		want       string
	}{
		{"nothing at all", "", false, ""},
		{"half a head", "POST /v1/refs HTTP/1.1\r\nHost: x\r\n", false, ""},
		{"a head that drips", "POST /v1/refs HTTP/1.1\r\nX-Long: ", true, ""},
		{"a head without end", "POST /v1/refs HTTP/1.1\r\nX-Long: " + strings.Repeat("x", 32<<10), true, "431"},
		{"no body", head(s, "upload", admin, 100, ""), false, "408"},
		{"half a body", head(s, "upload", admin, 100, "") + "xxx", false, "408"},
		{"a body that drips", head(s, "upload", admin, 1<<20, ""), true, "408"},
		{"a list that drips", head(s, "missing", admin, 1<<20, "Expect: 100-continue\r\n"), true, "408"},
		{"a stranger's body", head(s, "upload", "x", 1<<30, ""), true, "401"},
		{"a body that is too long", head(s, "upload", admin, 1<<40, ""), true, "413"},
	} {
		c := dial(t, s, tt.text)
		clients.Go(func() {
			if tt.drip {
				go drip(c)
			}
			if said := wantEnd(t, c); !strings.Contains(said, tt.want) {
				t.Errorf("%s: the server said %q", tt.what, said)
			}
		})
	}
	clients.Wait()
	if _, body := get(t, s, "/metrics", admin); !strings.Contains(body, "in_flight 1\n") {
		t.Errorf("something is still going on:\n%s", body)
	}
}

// TestSlowHTTP2: one stream that stalls ends, and others on its connection do not.
func TestSlowHTTP2(t *testing.T) {
	s := servertest.StartTLS(t, server.Options{Patience: patience}, nil)
	admin := s.Admin()
	stalled, never := io.Pipe()
	defer never.Close()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.TLS(), ForceAttemptHTTP2: true}}
	post := func(operation string, body io.Reader, length int64) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+wire.Path(operation), body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		req.Header.Set("Content-Type", wire.ContentType)
		req.Header.Set("Authorization", "Bearer "+admin)
		return client.Do(req)
	}
	begun := time.Now()
	resp, err := post(wire.Upload, stalled, 1000)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 408 || resp.ProtoMajor != 2 || time.Since(begun) > 20*patience {
		t.Errorf("%s after %v", resp.Status, time.Since(begun))
	}
	if resp, err = post(wire.Refs, nil, 0); err != nil || resp.StatusCode != 200 {
		t.Errorf("%v, %v", resp, err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
}

// TestSlowReader: somebody asks for much, and does not read it.
func TestSlowReader(t *testing.T) {
	s := servertest.Start(t, server.Options{Patience: patience})
	admin := s.Admin()
	var items []remotetest.Item
	var want []objects.ID
	for i := range 40 {
		blob := remotetest.Item{Type: pack.Blob, Body: noise(i, 1<<20)}
		items, want = append(items, blob), append(want, blob.ID())
	}
	remotetest.Upload(t, s.Store, items...)
	q := wire.EncodeRequest(remote.Request{Want: want})
	dial(t, s, head(s, "fetch", admin, len(q), "")+string(q))
	deadline := time.Now().Add(20 * patience)
	for !strings.Contains(s.Log(), "op=fetch") {
		if time.Now().After(deadline) {
			t.Fatal("the server still sends")
		}
		time.Sleep(patience / 10)
	}
	if log := s.Log(); !strings.Contains(log, "level=ERROR") && !strings.Contains(log, "level=WARN") {
		t.Errorf("the log takes it for a success:\n%s", log)
	}
}

// TestLongDownload: a client that takes its time, and goes on, gets all of it.
func TestLongDownload(t *testing.T) {
	s := servertest.Start(t, server.Options{Patience: 5 * time.Second, Work: time.Second})
	var items []remotetest.Item
	var want []objects.ID
	for i := range 40 {
		blob := remotetest.Item{Type: pack.Blob, Body: noise(i, 1<<20)}
		items, want = append(items, blob), append(want, blob.ID())
	}
	remotetest.Upload(t, s.Store, items...)
	body, err := s.Client(s.Admin(), once).Fetch(t.Context(), remote.Request{Want: want})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	begun := time.Now()
	for n := 0; ; n++ {
		if _, err := io.CopyN(io.Discard, body, 1<<20); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("after %d MB and %v: %v", n, time.Since(begun), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if took := time.Since(begun); took < 1500*time.Millisecond {
		t.Errorf("it took only %v", took)
	}
}

// noise is n bytes that do not compress.
func noise(seed, n int) []byte {
	p := make([]byte, n)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x >> 32)
	}
	return p
}

// A stuck store works on a question until it is released.
type stuck struct {
	server.Store
	asked   chan struct{}
	release chan struct{}
}

func (s stuck) Missing(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	s.asked <- struct{}{}
	select {
	case <-s.release:
		return ids, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func newStuck(t *testing.T) stuck {
	return stuck{servertest.NewStore(t), make(chan struct{}, 100), make(chan struct{})}
}

// TestCrowd: one client cannot take all places, and all together not more than
// there are.
func TestCrowd(t *testing.T) {
	store := newStuck(t)
	s := servertest.Start(t, server.Options{MaxRequests: 8, Patience: patience, Open: func() server.Store { return store }})
	tokens := []string{s.Admin(), s.Admin(), s.Admin(), s.Admin(), s.Admin()}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if missing, err := s.Client(tokens[i%4], once).Missing(t.Context(), []objects.ID{{1}}); err != nil || len(missing) != 1 {
				t.Errorf("%v, %v", missing, err)
			}
		})
	}
	for range 8 {
		<-store.asked
	}
	question := message(wire.EncodeIDs([]objects.ID{{1}}))
	for _, tt := range []struct {
		token  string
		status int
		code   wire.Code
	}{{tokens[0], 429, wire.TooMany}, {tokens[4], 503, wire.Busy}} {
		status, code, header := raw{path: "/v1/missing", token: tt.token, body: question}.send(t, s)
		if status != tt.status || code != tt.code || header.Get("Retry-After") == "" {
			t.Errorf("%d %s, want %d %s; %v", status, code, tt.status, tt.code, header)
		}
	}
	// A client of ours waits until there is room.
	time.AfterFunc(patience, func() { close(store.release) })
	if _, err := s.Client(tokens[4], httpremote.Options{}).Missing(t.Context(), []objects.ID{{1}}); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// TestPatientWork: a client that would give up after a while hears that the
// server is at work.
func TestPatientWork(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			store := newStuck(t)
			o := server.Options{Patience: patience, Open: func() server.Store { return store }}
			s := servertest.Start(t, o)
			if version == "HTTP/2.0" {
				s = servertest.StartTLS(t, o, nil)
			}
			time.AfterFunc(6*patience, func() { close(store.release) })
			r := s.Client(s.Admin(), httpremote.Options{Patience: 2 * patience, Tries: 1})
			if missing, err := r.Missing(t.Context(), []objects.ID{{1}}); err != nil || len(missing) != 1 {
				t.Errorf("%v, %v", missing, err)
			}
			if !strings.Contains(s.Log(), "proto="+version) {
				t.Errorf("it was not %s:\n%s", version, s.Log())
			}
		})
	}
}

// TestTooMuchWork: what takes too long is ended.
func TestTooMuchWork(t *testing.T) {
	store := newStuck(t)
	s := servertest.Start(t, server.Options{Work: patience, Open: func() server.Store { return store }})
	status, code, _ := raw{path: "/v1/missing", token: s.Admin(), body: message(wire.EncodeIDs(nil))}.send(t, s)
	if status != 413 || code != wire.TooLarge {
		t.Errorf("%d %s", status, code)
	}
}

// A broken store panics, and fails in ways that tell much.
type broken struct{ server.Store }

func (broken) Missing(context.Context, []objects.ID) ([]objects.ID, error) { panic("secret") }

func (broken) MissingBases(context.Context, []objects.ID) ([]objects.ID, error) {
	return nil, errors.New("open /secret: permission denied")
}

func (broken) Fetch(context.Context, remote.Request) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("half a pack"), brokenReader{})), nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) {
	return 0, fmt.Errorf("blob x: %w", objects.ErrNotFound)
}

func TestBrokenStore(t *testing.T) {
	store := broken{servertest.NewStore(t)}
	s := servertest.Start(t, server.Options{Open: func() server.Store { return store }})
	r := s.Client(s.Admin(), once)
	_, missing := r.Missing(t.Context(), someID)
	_, bases := r.MissingBases(t.Context(), someID)
	for _, err := range []error{missing, bases} {
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "the server's log has it under ") {
			t.Errorf("%v", err)
		}
	}
	body, err := r.Fetch(t.Context(), remote.Request{Want: someID})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); string(got) != "half a pack" || !errors.Is(err, objects.ErrNotFound) || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("%q, %v", got, err)
	}
	if log := s.Log(); strings.Count(log, "secret") < 2 {
		t.Errorf("the log does not say what happened:\n%s", log)
	}
}

var someID = []objects.ID{{1}}

// TestStop: what runs may end, for a while, and nothing new begins.
func TestStop(t *testing.T) {
	for _, ends := range []bool{true, false} {
		store := newStuck(t)
		s := servertest.Start(t, server.Options{Grace: 2 * patience, Open: func() server.Store { return store }})
		answer := make(chan error, 1)
		r := s.Client(s.Admin(), once)
		go func() {
			_, err := r.Missing(t.Context(), []objects.ID{{1}})
			answer <- err
		}()
		<-store.asked
		if ends {
			time.AfterFunc(patience, func() { close(store.release) })
		}
		begun := time.Now()
		s.Stop()
		if took := time.Since(begun); took > 20*patience {
			t.Errorf("it took %v to stop", took)
		}
		if err := <-answer; (err == nil) != ends {
			t.Errorf("the request that was running: %v", err)
		}
		if c, err := net.Dial("tcp", s.Addr); err == nil {
			c.Close()
			t.Error("it still listens")
		}
	}
}

func TestHealthAndMetrics(t *testing.T) {
	s := servertest.Start(t, server.Options{})
	if status, body := get(t, s, "/healthz", ""); status != 200 || body != "ok\n" {
		t.Errorf("%d %q", status, body)
	}
	names(t, s.Client(s.Admin(), once))
	if status, _ := get(t, s, "/metrics", ""); status != 401 {
		t.Errorf("metrics for everybody: %d", status)
	}
	status, body := get(t, s, "/metrics", s.Admin())
	for _, want := range []string{
		`cache_tool_requests_total{operation="refs",code="200"} 1`,
		`cache_tool_requests_total{operation="metrics",code="401"} 1`,
		"# TYPE cache_tool_request_seconds histogram",
		`cache_tool_request_seconds_bucket{operation="refs",le="+Inf"} 1`,
		"cache_tool_requests_in_flight 1",
	} {
		if status != 200 || !strings.Contains(body, want+"\n") {
			t.Errorf("%d, want %q in\n%s", status, want, body)
		}
	}
}

// get returns the answer to a GET, by somebody who has a place for passwords only.
func get(t *testing.T, s *servertest.Server, path, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.SetBasicAuth("anybody", token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}
