package frontend_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/sync/frontend"
	"github.com/cache-tool/cache-tool/sync/frontend/bazel"
	"github.com/cache-tool/cache-tool/sync/frontend/ccache"
	"github.com/cache-tool/cache-tool/sync/frontend/gradle"
)

// A memory is a store. What it has can be spoiled, and it can be broken.
type memory struct {
	mu     sync.Mutex
	values map[string]string
	latest map[string]bool
	broken error
}

func (m *memory) Get(_ context.Context, kind entry.Kind, key string) (entry.Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[string(kind)+" "+key]
	if !ok {
		return entry.Stored{}, objects.ErrNotFound
	}
	return entry.Stored{Size: int64(len(value)), Open: func(context.Context) (io.ReadCloser, error) {
		if m.broken != nil { // in the middle
			return io.NopCloser(io.MultiReader(strings.NewReader(value[:len(value)/2]), failing{m.broken})), nil
		}
		return io.NopCloser(strings.NewReader(value)), nil
	}}, m.broken
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (m *memory) Put(_ context.Context, kind entry.Kind, key string, v entry.Value) error {
	body, err := io.ReadAll(v.Body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[string(kind)+" "+key] = string(body)
	m.latest[string(kind)+" "+key] = v.Latest
	return m.broken
}

func (m *memory) Delete(_ context.Context, kind entry.Kind, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, string(kind)+" "+key)
	return m.broken
}

func serve(t *testing.T, o frontend.Options) (*memory, *frontend.Server, string) {
	m := &memory{values: map[string]string{}, latest: map[string]bool{}}
	o.Store, o.Token, o.Spool = m, "secret", t.TempDir()
	o.Clients = []frontend.Client{ccache.Client, bazel.Client, gradle.Client}
	s := frontend.New(o)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	t.Cleanup(func() {
		if left, err := os.ReadDir(o.Spool); err != nil || len(left) > 0 {
			t.Errorf("in the spool: %v, %v", left, err)
		}
	})
	return m, s, h.URL + "/secret/"
}

func ask(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(content)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// What is got is what was put, small or big; what a name proves is proven both ways.
func TestProofs(t *testing.T) {
	m, s, url := serve(t, frontend.Options{})
	for _, value := range []string{"small", "", strings.Repeat("big", 1<<20)} {
		cas := url + "bazel/cas/" + digest(value)
		if code, _ := ask(t, "PUT", cas, value+"x"); code != 400 {
			t.Errorf("another value is answered by %d", code)
		}
		if code, _ := ask(t, "PUT", cas, value); code != 200 {
			t.Errorf("put: %d", code)
		}
		if code, got := ask(t, "GET", cas, ""); code != 200 || got != value {
			t.Errorf("got %d and %d bytes, want %d", code, len(got), len(value))
		}
		m.values["bazel cas/"+digest(value)] += "x"
		if code, got := ask(t, "GET", cas, ""); code != 404 || got != "" {
			t.Errorf("what was spoiled is answered by %d and %.10q", code, got)
		}
		if code, _ := ask(t, "PUT", url+"gradle/key", value); code != 200 {
			t.Errorf("put: %d", code)
		}
		if code, got := ask(t, "GET", url+"gradle/key", ""); code != 200 || got != value {
			t.Errorf("got %d and %d bytes, want %d", code, len(got), len(value))
		}
	}
	if got := s.Stats()["bazel"]; got.Hits != 3 || got.Misses != 3 || got.Puts != 3 || got.Dropped != 3 || got.Out != got.In || got.Out != 5+3<<20 || got.Time == 0 {
		t.Errorf("%+v", got)
	}
}

// A store that fails is a miss, and takes everything.
func TestBrokenStore(t *testing.T) {
	m, s, url := serve(t, frontend.Options{MaxValue: 1 << 20})
	key := url + "gradle/key"
	ask(t, "PUT", key, strings.Repeat("v", 1<<19))
	if code, _ := ask(t, "PUT", url+"gradle/huge", strings.Repeat("v", 1<<21)); code != 200 {
		t.Errorf("what is too much is answered by %d", code)
	}
	r, err := http.NewRequest("PUT", url+"gradle/huge", struct{ io.Reader }{strings.NewReader(strings.Repeat("v", 1<<21))})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := http.DefaultClient.Do(r); err != nil || answer.StatusCode != 200 {
		t.Errorf("what is too much, and does not say so: %v, %v", answer, err)
	}
	if code, _ := ask(t, "GET", url+"gradle/huge", ""); code != 404 {
		t.Errorf("what is too much was kept: %d", code)
	}
	m.broken = errors.New("the disk is full")
	for method, want := range map[string]int{"GET": 404, "HEAD": 404, "PUT": 200, "DELETE": 204} {
		if code, _ := ask(t, method, key, "value"); code != want {
			t.Errorf("%s: %d, want %d", method, code, want)
		}
	}
	if got := s.Stats()["gradle"]; got.Dropped != 4 {
		t.Errorf("%+v", got)
	}
}

func TestCcacheNames(t *testing.T) {
	m, _, url := serve(t, frontend.Options{})
	const flat, hexa = "ac82j9kmva7la6dogt7vtsoigogongcek", "ac829a696fa8f5519b8874ffef31286218bc18eaac829a696fa8f5519b8874ff"
	manifest := "\xcc\xac\x01\x01\x01\x01"
	for path, want := range map[string]string{
		flat: flat, flat[:2] + "/" + flat[2:]: flat, "ac/" + hexa: hexa,
		"ab/cd/" + flat: "", "abc/" + flat: "", "ab": "", "": "", "A" + flat: "", "ac/../" + flat: "",
	} {
		clear(m.values)
		code, _ := ask(t, "PUT", url+"ccache/"+path, manifest)
		_, kept := m.values["ccache "+want]
		if (code == 200) != (want != "") || kept != (want != "") || kept && !m.latest["ccache "+want] {
			t.Errorf("%s: %d, kept %v, latest %v", path, code, m.values, m.latest)
		}
	}
	for _, value := range []string{"", "\xcc\xac", "\xcc\xac\x01\x00\x01", "abcdefg", strings.Repeat("\x01", 200)} {
		ask(t, "PUT", url+"ccache/"+flat, value)
		if m.latest["ccache "+flat] {
			t.Errorf("%q counts as a manifest", value)
		}
	}
}

// Many clients at once get what is theirs.
func TestAtOnce(t *testing.T) {
	_, _, url := serve(t, frontend.Options{MaxRequests: 4})
	var clients sync.WaitGroup
	for i := range 32 {
		clients.Go(func() {
			value := string(bytes.Repeat([]byte{byte(i)}, 1+i*20_000))
			key := url + "gradle/" + digest(value)
			for range 5 {
				ask(t, "PUT", key, value)
				if code, got := ask(t, "GET", key, ""); code != 200 || got != value {
					t.Errorf("%d, %d bytes, want %d", code, len(got), len(value))
				}
			}
		})
	}
	clients.Wait()
}
