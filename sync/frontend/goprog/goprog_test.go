package goprog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// A memory is a store.
type memory struct {
	mu     sync.Mutex
	values map[string]string
	output map[string]string
	broken error
}

func newMemory() *memory { return &memory{values: map[string]string{}, output: map[string]string{}} }

func (m *memory) Get(_ context.Context, _ entry.Kind, key string) (entry.Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[key]
	if !ok {
		return entry.Stored{}, objects.ErrNotFound
	}
	return entry.Stored{
		Meta: entry.Meta{Created: time.Unix(1e9, 0), Extra: map[string]string{extraOutput: m.output[key]}}, Size: int64(len(value)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(value)), nil },
	}, m.broken
}

func (m *memory) Put(_ context.Context, _ entry.Kind, key string, v entry.Value) error {
	body := v.Body
	if v.File != nil {
		defer v.File.Close()
		body = v.File
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key], m.output[key] = string(content), v.Extra[extraOutput]
	return m.broken
}

func (m *memory) Delete(context.Context, entry.Kind, string) error { return nil }

func sum(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

func put(id int, action, body string) string {
	r, _ := json.Marshal(request{ID: int64(id), Command: "put", ActionID: sum(action), OutputID: sum(body), BodySize: int64(len(body))})
	if body == "" {
		return string(r) + "\n"
	}
	return fmt.Sprintf("%s\n\n\"%s\"\n", r, base64.StdEncoding.EncodeToString([]byte(body)))
}

func getOf(id int, action string) string {
	r, _ := json.Marshal(request{ID: int64(id), Command: "get", ActionID: sum(action)})
	return string(r) + "\n"
}

// answers returns what is answered to requests, by ID.
func answers(t *testing.T, o Options, requests ...string) map[int64]response {
	t.Helper()
	var out bytes.Buffer
	if _, err := Serve(t.Context(), strings.NewReader(strings.Join(requests, "")), &out, o); err != nil {
		t.Error(err)
	}
	all := map[int64]response{}
	for d := json.NewDecoder(&out); ; {
		var r response
		if err := d.Decode(&r); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[r.ID] = r
	}
}

func TestServe(t *testing.T) {
	m, closed := newMemory(), 0
	big := strings.Repeat("big", 100_000)
	o := Options{Store: m, Dir: t.TempDir(), Close: func(context.Context) error { closed++; return nil }}
	got := answers(t, o, getOf(1, "none"), put(2, "a", "small"), put(3, "b", big), put(4, "empty", ""), `{"ID":5,"Command":"frob"}`+"\n", `{"ID":6,"Command":"close"}`+"\n")
	if len(got[0].KnownCommands) != 3 || !got[1].Miss || got[5].Err == "" || got[6].Err != "" || closed != 1 {
		t.Errorf("%+v, closed %d times", got, closed)
	}
	for _, local := range []bool{false, true} {
		for _, dir := range []string{o.Dir, t.TempDir()} { // this machine, another
			got := answers(t, Options{Store: m, Dir: dir, Local: local}, getOf(1, "a"), getOf(2, "b"), getOf(3, "empty"), getOf(4, "c"))
			for id, want := range map[int64]string{1: "small", 2: big, 3: ""} {
				content, err := os.ReadFile(got[id].DiskPath)
				if err != nil || string(content) != want || !bytes.Equal(got[id].OutputID, sum(want)) || got[id].Size != int64(len(want)) || got[id].Time.Unix() != 1e9 {
					t.Errorf("%+v: %.20q, %v", got[id], content, err)
				}
			}
			if !got[4].Miss {
				t.Errorf("%+v", got[4])
			}
		}
	}
}

// What is not what it is called is a miss, and is not taken.
func TestServeProves(t *testing.T) {
	m := newMemory()
	o := Options{Store: m, Dir: t.TempDir()}
	wrong := strings.Replace(put(1, "a", "right"), hex.EncodeToString(sum("right")), "", 1)
	wrong = strings.Replace(wrong, base64.StdEncoding.EncodeToString([]byte("right")), base64.StdEncoding.EncodeToString([]byte("wrong")), 1)
	got := answers(t, o, wrong, put(2, "b", "good"), getOf(3, "a"))
	if got[1].Err == "" || got[2].Err != "" || !got[3].Miss {
		t.Errorf("%+v", got)
	}
	key := hex.EncodeToString(sum("b"))
	for what, spoil := range map[string]func(){
		"other bytes":     func() { m.values[key] = "evil" },
		"fewer bytes":     func() { m.values[key] = "goo" },
		"another name":    func() { m.output[key] = hex.EncodeToString(sum("evil")) },
		"no name":         func() { m.output[key] = "" },
		"a path for name": func() { m.output[key] = "../../../etc/passwd" },
	} {
		m.values[key], m.output[key] = "good", hex.EncodeToString(sum("good"))
		spoil()
		if got := answers(t, Options{Store: m, Dir: t.TempDir()}, getOf(1, "b")); !got[1].Miss {
			t.Errorf("%s: %+v", what, got)
		}
	}
	// A store that fails, or none, fails no build.
	m.broken = errors.New("the disk is full")
	for _, o := range []Options{{Store: m, Dir: t.TempDir()}, {Dir: t.TempDir()}} {
		got := answers(t, o, put(1, "x", "value"), getOf(2, "x"))
		if content, err := os.ReadFile(got[1].DiskPath); err != nil || string(content) != "value" || !got[2].Miss {
			t.Errorf("%+v, %q, %v", got, content, err)
		}
	}
}

// Files that were written to are not believed, and the oldest go when there are too many.
func TestFiles(t *testing.T) {
	f := newFiles(t.TempDir())
	output := hex.EncodeToString(sum("content"))
	path, err := f.add(output, 7, strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := f.find(output, 8); ok {
		t.Error("a file of another size was found")
	}
	for _, tt := range []struct {
		content string
		ok      bool
	}{{"content", true}, {"CONTENT", false}} {
		os.Chmod(path, 0o666)
		if err := os.WriteFile(path, []byte(tt.content), 0o666); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a seal is made anew
			if _, ok := f.find(output, 7); ok != tt.ok {
				t.Errorf("%s: %v", tt.content, ok)
			}
		}
	}
	var paths []string
	for i := range 10 {
		body := strings.Repeat(fmt.Sprint(i), 1000)
		path, err := f.add(hex.EncodeToString(sum(body)), 1000, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
		used := time.Now().Add(time.Duration(i-20) * time.Hour)
		if i == 9 {
			used = time.Now()
		}
		if err := os.Chtimes(path, used, used); err != nil {
			t.Fatal(err)
		}
	}
	f.trim(5000)
	for i, path := range paths {
		if _, err := os.Stat(path); (err == nil) != (i >= 5) {
			t.Errorf("file %d: %v", i, err)
		}
	}
	f.trim(1) // not twice a day
	if _, err := os.Stat(filepath.Join(f.dir, trimmed)); err != nil {
		t.Error(err)
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(put(1, "a", "body") + getOf(2, "a") + `{"ID":3,"Command":"close"}` + "\n"))
	f.Add([]byte(put(1, "a", "") + "\n\n" + getOf(2, "a")))
	f.Add([]byte(`{"Command":"put","BodySize":10}` + "\n\"AAA"))
	f.Add([]byte(`{"Command":"put","BodySize":-1,"OutputID":"AA=="}` + "\n\"=\"\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		_, _ = Serve(context.Background(), bytes.NewReader(in), &out, Options{Store: newMemory(), Dir: t.TempDir()})
	})
}
