package commands

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// TestMain lets the go command start this program where it wants cache-tool.
func TestMain(m *testing.M) {
	if dir := os.Getenv(gatewayEnv); dir != "" {
		if err := beGateway(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if slices.Contains(os.Args, "goprog") {
		os.Exit(Main(context.Background(), os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// A host is a machine with a repository, and a home of its own.
type host struct {
	t    *testing.T
	s    *session
	dir  string
	repo *repo.Repo
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"CCACHE_REMOTE_STORAGE", "GOCACHEPROG", "CACHE_TOOL_BAZELRC", "CACHE_TOOL_GRADLE", "CACHE_TOOL_BASE", "CACHE_TOOL_BRANCH"} {
		t.Setenv(name, "")
	}
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	s := newSession(Streams{In: os.Stdin, Out: io.Discard, Err: testLog{t}})
	s.repoFlag = filepath.Join(dir, "repo")
	t.Cleanup(func() { s.close() })
	h := &host{t: t, s: s, dir: dir}
	var err error
	if h.repo, err = s.openToWrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// testLog shows what commands say.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (h *host) gateway(branch string) *gateway {
	h.t.Helper()
	g, err := h.s.startGateway(h.t.Context(), h.repo, refs.Branch(branch))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { os.RemoveAll(g.dir) })
	return g
}

// end closes a gateway, and commits what was staged.
func (h *host) end(g *gateway, branch string) gatewayStats {
	h.t.Helper()
	if err := g.Close(h.t.Context()); err != nil {
		h.t.Error(err)
	}
	if _, _, err := h.repo.FoldStage(h.t.Context(), refs.Branch(branch), ""); err != nil {
		h.t.Error(err)
	}
	return g.Stats()
}

// env returns the value of a variable that the gateway sets.
func (g *gateway) env(name string) string {
	for _, v := range g.Env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// url is where a client finds the gateway.
func (g *gateway) url(client string) string {
	storage, _, _ := strings.Cut(g.env("CCACHE_REMOTE_STORAGE"), "|")
	return strings.TrimSuffix(storage, "ccache") + client
}

// run runs a command in a directory, which has to succeed.
func (h *host) run(dir string, env []string, args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func need(t *testing.T, program, from string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("no %s: %s", program, from)
	}
	return path
}

// What another machine has compiled is not compiled again, whatever layout ccache uses;
// and a gateway that is gone fails nobody.
func TestGatewayCcache(t *testing.T) {
	ccache := need(t, "ccache", "apt-get install ccache")
	gcc := need(t, "gcc", "apt-get install gcc")
	h := newHost(t)
	src := filepath.Join(h.dir, "src")
	const files = 4
	for i := range files {
		write(t, fmt.Sprintf("%s/%d.c", src, i), fmt.Sprintf("#include \"x.h\"\nint f%d(void) { return X; }\n", i))
	}
	write(t, filepath.Join(src, "x.h"), "#define X 1\n")
	machine := 0
	build := func(env ...string) string {
		machine++
		env = append(env, "CCACHE_DIR="+filepath.Join(h.dir, fmt.Sprint("ccache", machine)), "CCACHE_CONFIGPATH=/dev/null")
		for i := range files {
			h.run(src, env, ccache, gcc, "-c", fmt.Sprintf("%d.c", i))
		}
		return h.run(src, env, ccache, "--print-stats")
	}
	for _, layout := range []string{"flat", "subdirs", "bazel"} {
		for round, want := range []string{"cache_miss\t4", "direct_cache_hit\t4"} {
			g := h.gateway("main")
			got := build("CCACHE_REMOTE_STORAGE=" + strings.Replace(g.env("CCACHE_REMOTE_STORAGE"), "flat", layout, 1))
			if layout == "subdirs" { // the keys are those of flat
				want = "direct_cache_hit\t4"
			}
			if !strings.Contains(got, want) {
				t.Errorf("%s, round %d: want %q:\n%s", layout, round, want, got)
			}
			stats := h.end(g, "main")
			if hits := strings.HasPrefix(want, "direct"); hits && (stats.Hits != 2*files || stats.Puts != 0) || !hits && stats.Puts != 2*files {
				t.Errorf("%s, round %d: %+v", layout, round, stats)
			}
		}
	}
	// A header changes: manifests are written again, and are marked for that.
	write(t, filepath.Join(src, "x.h"), "#define X 2\n")
	g := h.gateway("main")
	build(g.Env...)
	if stats := h.end(g, "main"); stats.Puts != 2*files {
		t.Errorf("after an edit: %+v", stats)
	}
	manifests := 0
	for found, err := range h.repo.Entries(t.Context(), refs.Branch("main"), "ccache") {
		if err != nil {
			t.Fatal(err)
		}
		if meta := h.meta(found); meta.Latest {
			manifests++
		}
	}
	if manifests != 2*files {
		t.Errorf("%d values are marked as manifests, want %d", manifests, 2*files)
	}
	// The gateway has gone, and its port is closed.
	if got := build(g.Env...); !strings.Contains(got, "cache_miss\t4") {
		t.Errorf("without a gateway:\n%s", got)
	}
}

// Nobody gets in without the token, nor by a path that means nothing.
func TestGatewayStrangers(t *testing.T) {
	h := newHost(t)
	g := h.gateway("main")
	defer h.end(g, "main")
	key := strings.Repeat("ab", 20)
	good := g.url("ccache") + "/" + key
	token := strings.Split(good, "/")[3]
	for _, tt := range []struct {
		method, url string
		want        int
	}{
		{"PUT", good, 200}, {"GET", good, 200}, {"HEAD", good, 200}, {"POST", good, 405}, {"GET", good + "00", 404},
		{"GET", strings.Replace(good, token, "", 1), 403},
		{"GET", strings.Replace(good, token+"/", "", 1), 403},
		{"PUT", strings.Replace(good, token, strings.ToLower(token), 1), 403},
		{"DELETE", strings.Replace(good, token, token[1:], 1), 403},
		{"GET", g.url("nosuch") + "/" + key, 404}, {"PUT", g.url("run") + "/" + key, 404},
		{"PUT", g.url("ccache") + "/../../x", 404}, {"PUT", g.url("ccache") + "/" + strings.Repeat("a", 5000), 404},
		{"PUT", g.url("bazel") + "/cas/" + strings.Repeat("ab", 32), 400}, {"PUT", g.url("bazel") + "/ac/x", 404},
		{"GET", g.url("bazel") + "/cas/" + strings.Repeat("ab", 32), 404},
		{"DELETE", good, 204}, {"GET", good, 404},
	} {
		r, err := http.NewRequest(tt.method, tt.url, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.url, answer.StatusCode, tt.want)
		}
	}
	for _, name := range []string{"CACHE_TOOL_BAZELRC", "CACHE_TOOL_GRADLE"} {
		fi, err := os.Stat(g.env(name))
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
}

func (h *host) meta(found repo.Found) entry.Meta {
	h.t.Helper()
	_, meta, err := entry.Read(h.t.Context(), h.repo.DB, found.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	return meta
}

// What another machine has compiled with the go command is not compiled again, an
// output that somebody has changed is not believed, and without a repository a build
// is as good as with one.
func TestGatewayGo(t *testing.T) {
	goTool := need(t, "go", "https://go.dev/dl")
	h := newHost(t)
	src := filepath.Join(h.dir, "src")
	write(t, filepath.Join(src, "go.mod"), "module example.invalid/hello\n")
	write(t, filepath.Join(src, "main.go"), "package main\n\nimport \"example.invalid/hello/word\"\n\nfunc main() { println(word.Word) }\n")
	write(t, filepath.Join(src, "word", "word.go"), "package word\n\nvar Word = \"hello\"\n")
	command := func(env []string, args ...string) {
		h.t.Helper()
		env = append(slices.Clone(env), "GOCACHE="+t.TempDir(), "GOFLAGS=", "GOPROXY=off", "GOTOOLCHAIN=local", "CGO_ENABLED=0")
		h.run(src, env, append([]string{goTool}, args...)...)
	}
	build := func(env ...string) {
		h.t.Helper()
		command(env, "build", "-o", "hello", ".")
		if got := h.run(src, nil, "./hello"); got != "hello\n" {
			t.Errorf("the program says %q", got)
		}
	}
	g := h.gateway("main")
	build(g.Env...)
	cold := h.end(g, "main")
	if c := cold.Clients["go"]; c.Puts < 10 || c.Dropped > 0 {
		t.Fatalf("cold: %+v", cold)
	}
	outputs := filepath.Join(h.repo.Dir, "files", "go")
	for _, tt := range []struct {
		what  string
		spoil func()
	}{
		{"a second machine", func() {}},
		{"no plain files", func() { os.RemoveAll(outputs) }},
		{"plain files that were changed", func() { changeFiles(t, outputs, true) }},
		{"plain files that were cut", func() { changeFiles(t, outputs, false) }},
	} {
		tt.spoil()
		g := h.gateway("topic")
		build(g.Env...)
		stats := h.end(g, "topic")
		if c := stats.Clients["go"]; c.Hits < cold.Puts/2 || c.Puts > 2 { // the link, and what it is called
			t.Errorf("%s: %+v; cold: %+v", tt.what, stats, cold)
		}
	}
	g = h.gateway("main")
	defer h.end(g, "main")
	file := filepath.Join(h.dir, "file")
	write(t, file, "")
	command([]string{"GOCACHEPROG=" + strings.Replace(g.env("GOCACHEPROG"), h.repo.Dir, filepath.Join(file, "repo"), 1)}, "build", "./word")
}

// changeFiles changes a bit of each file, or cuts it in half.
func changeFiles(t *testing.T, dir string, whole bool) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "??", "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(content) == 0 {
			continue
		}
		content[len(content)/2] ^= 1
		if !whole {
			content = content[:len(content)/2]
		}
		if err := os.Chmod(name, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// A gateway that has served many requests has nothing left of them.
func TestGatewayLeaksNothing(t *testing.T) {
	h := newHost(t)
	g := h.gateway("main")
	count := func() (goroutines, files int, heap uint64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		open, _ := os.ReadDir("/proc/self/fd")
		return runtime.NumGoroutine(), len(open), m.HeapAlloc
	}
	const clients, keys = 16, 200
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	requests := func(n int) {
		var working sync.WaitGroup
		for c := range clients {
			working.Go(func() {
				for i := range n / clients {
					k := (i*7 + c) % keys
					url := fmt.Sprintf("%s/%040x", g.url("ccache"), k)
					body := strings.NewReader("")
					method := http.MethodGet
					if i%10 == 0 {
						method, body = http.MethodPut, strings.NewReader(strings.Repeat(fmt.Sprint(k), 1+k*20))
					}
					if k == 0 && method == http.MethodPut { // and now and then a big one
						body = strings.NewReader(strings.Repeat("big", 100_000))
					}
					r, err := http.NewRequest(method, url, body)
					if err != nil {
						t.Error(err)
						return
					}
					answer, err := transport.RoundTrip(r)
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
				}
			})
		}
		working.Wait()
	}
	requests(2000)
	time.Sleep(300 * time.Millisecond) // all is staged
	goroutines, files, heap := count()
	requests(test.Count(t, 100_000))
	time.Sleep(300 * time.Millisecond)
	goroutines2, files2, heap2 := count()
	if goroutines2 > goroutines+clients || files2 > files+clients || heap2 > heap+16<<20 {
		t.Errorf("goroutines %d, then %d; files %d, then %d; heap %d, then %d", goroutines, goroutines2, files, files2, heap, heap2)
	}
	transport.CloseIdleConnections()
	h.end(g, "main")
	if _, err := os.Stat(g.dir); !os.IsNotExist(err) {
		t.Errorf("its directory: %v", err)
	}
	if goroutines, files, _ := count(); goroutines > 20 || files > files2 {
		t.Errorf("after the end: %d goroutines, %d files", goroutines, files)
	}
}
