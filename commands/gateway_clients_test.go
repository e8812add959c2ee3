package commands

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
)

// bazelProgram returns Bazel: that of the path, or in a soak npm's, which needs no Java.
func bazelProgram(t *testing.T, h *host) string {
	t.Helper()
	if !test.Soak() {
		return need(t, "bazel", "a soak installs @bazel/bazel-linux_x64 with npm")
	}
	npm := need(t, "npm", "apt-get install npm")
	dir := t.TempDir()
	h.run(dir, nil, npm, "install", "--no-audit", "--no-fund", "@bazel/bazel-linux_x64@2.1.0")
	found, err := filepath.Glob(filepath.Join(dir, "node_modules/@bazel/bazel-linux_x64/bazel-*-linux-x86_64"))
	if err != nil || len(found) != 1 {
		t.Skipf("npm has installed no Bazel: %v, %v", found, err)
	}
	return found[0]
}

// Bazel takes from the cache what another machine has built, and notices what in it is
// not what its name says.
func TestGatewayBazel(t *testing.T) {
	h := newHost(t)
	bazel := bazelProgram(t, h)
	src := filepath.Join(h.dir, "src")
	write(t, filepath.Join(src, "WORKSPACE"), "")
	write(t, filepath.Join(src, "BUILD"), `
genrule(name = "a", outs = ["a.txt"], cmd = "echo hello > $@")
genrule(name = "b", srcs = [":a"], outs = ["b.txt"], cmd = "cat $(SRCS) $(SRCS) > $@")
`)
	machine := func(bazelrc string) string {
		root := t.TempDir()
		t.Cleanup(func() { exec.Command("chmod", "-R", "u+w", root).Run() })
		out := h.run(src, nil, bazel, "--batch", "--bazelrc="+bazelrc, "--output_user_root="+root, "build", "--color=no", "//:b")
		if content, err := os.ReadFile(filepath.Join(src, "bazel-bin", "b.txt")); err != nil || string(content) != "hello\nhello\n" {
			t.Errorf("built %q, %v", content, err)
		}
		return out
	}
	g := h.gateway("main")
	machine(g.env("CACHE_TOOL_BAZELRC"))
	if cold := h.end(g, "main"); cold.Clients["bazel"].Puts < 4 || cold.Hits > 0 {
		t.Errorf("cold: %+v", cold)
	}
	g = h.gateway("pr/1")
	if out := machine(g.env("CACHE_TOOL_BAZELRC")); !strings.Contains(out, "2 remote cache hit") {
		t.Errorf("on a second machine:\n%s", out)
	}
	settings, err := os.ReadFile(g.env("CACHE_TOOL_BAZELRC"))
	if err != nil {
		t.Fatal(err)
	}
	if warm := h.end(g, "pr/1"); warm.Misses > 0 || warm.Puts > 0 {
		t.Errorf("warm: %+v", warm)
	}
	old := filepath.Join(h.dir, "bazelrc")
	write(t, old, string(settings))
	if out := machine(old); !strings.Contains(out, "Connection refused") { // the gateway has gone
		t.Errorf("without a gateway:\n%s", out)
	}
}

// Gradle takes from the cache what another machine has built.
func TestGatewayGradle(t *testing.T) {
	gradle := need(t, "gradle", "apt-get install gradle")
	h := newHost(t)
	src := filepath.Join(h.dir, "src")
	write(t, filepath.Join(src, "settings.gradle"), "")
	write(t, filepath.Join(src, "build.gradle"), "apply plugin: 'java'\n")
	write(t, filepath.Join(src, "src/main/java/A.java"), "class A {}\n")
	machine := func(script string) string {
		for _, dir := range []string{"build", ".gradle"} {
			os.RemoveAll(filepath.Join(src, dir))
		}
		return h.run(src, nil, gradle, "--no-daemon", "--console=plain", "--build-cache", "-g", t.TempDir(), "-I", script, "compileJava")
	}
	g := h.gateway("main")
	machine(g.env("CACHE_TOOL_GRADLE"))
	if cold := h.end(g, "main"); cold.Puts != 1 || cold.Misses != 1 {
		t.Errorf("cold: %+v", cold)
	}
	g = h.gateway("main")
	if out := machine(g.env("CACHE_TOOL_GRADLE")); !strings.Contains(out, "FROM-CACHE") {
		t.Errorf("on a second machine:\n%s", out)
	}
	settings, err := os.ReadFile(g.env("CACHE_TOOL_GRADLE"))
	if err != nil {
		t.Fatal(err)
	}
	if warm := h.end(g, "main"); warm.Hits != 1 || warm.Puts > 0 {
		t.Errorf("warm: %+v", warm)
	}
	if test.Soak() { // the gateway has gone
		old := filepath.Join(h.dir, "init.gradle")
		write(t, old, string(settings))
		machine(old)
	}
}

// What a lazy repository lacks comes when a build wants it. When its remote has gone
// the build goes on without, and is told once.
func TestGatewayLazy(t *testing.T) {
	ccache := need(t, "ccache", "apt-get install ccache")
	gcc := need(t, "gcc", "apt-get install gcc")
	h := newHost(t)
	src := filepath.Join(h.dir, "src")
	write(t, filepath.Join(src, "a.c"), "int a;\n")
	write(t, filepath.Join(src, "b.c"), "int b;\n")
	build := func(g *gateway) {
		env := append(g.Env, "CCACHE_DIR="+t.TempDir(), "CCACHE_CONFIGPATH=/dev/null")
		h.run(src, env, ccache, gcc, "-c", "a.c")
		h.run(src, env, ccache, gcc, "-c", "b.c")
	}
	g := h.gateway("main")
	build(g)
	h.end(g, "main")
	origin := filepath.Join(h.dir, "origin")
	if err := os.Rename(h.repo.Dir, origin); err != nil {
		t.Fatal(err)
	}
	for _, alive := range []bool{true, false} {
		var said strings.Builder
		local := filepath.Join(t.TempDir(), "local")
		streams := Streams{In: os.Stdin, Out: &said, Err: &said}
		if code := Main(context.Background(), []string{"clone", "--lazy", origin, local}, streams); code != 0 {
			t.Fatalf("clone: %d, %s", code, &said)
		}
		if !alive {
			if err := os.Rename(origin, origin+".gone"); err != nil {
				t.Fatal(err)
			}
		}
		lazy := &host{t: t, s: newSession(streams), dir: h.dir}
		lazy.s.repoFlag = local
		t.Cleanup(func() { lazy.s.close() })
		var err error
		if lazy.repo, err = lazy.s.openToWrite(t.Context()); err != nil {
			t.Fatal(err)
		}
		g := lazy.gateway("topic")
		began := time.Now()
		build(g)
		took := time.Since(began)
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		stats := g.Stats()
		if hits := stats.Hits == 4 && stats.Misses == 0; hits != alive || took > 30*time.Second {
			t.Errorf("the remote is there: %v: %+v in %v", alive, stats, took)
		}
		if warnings := strings.Count(said.String(), "warning"); alive && warnings > 0 || !alive && warnings != 1 {
			t.Errorf("the remote is there: %v: %s", alive, &said)
		}
	}
}

// A pull request that poisons an entry poisons nobody else; and a bad entry that main
// reverts is gone with the next pull, also for a gateway that runs.
func TestGatewayPoison(t *testing.T) {
	h := newHost(t)
	cache := func(dir string, args ...string) {
		t.Helper()
		var said strings.Builder
		streams := Streams{In: strings.NewReader(""), Out: &said, Err: &said}
		if code := Main(context.Background(), append([]string{"--repo", dir}, args...), streams); code != 0 {
			t.Fatalf("%q: %d, %s", args, code, &said)
		}
	}
	const key = "gradle/0123456789abcdef"
	ask := func(g *gateway, method, body string) string {
		t.Helper()
		r, err := http.NewRequest(method, g.url(key), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		content, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != 200 {
			return ""
		}
		return string(content)
	}
	local := h.repo.Dir
	origin := filepath.Join(h.dir, "origin")
	cache(origin, "init")
	cache(local, "remote", "add", "origin", origin)

	poisoned := h.gateway("pr/1")
	ask(poisoned, "PUT", "poison")
	if got := ask(poisoned, "GET", ""); got != "poison" {
		t.Errorf("pr/1 has %q", got)
	}
	h.end(poisoned, "pr/1")
	cache(local, "push", "origin", "pr/1")
	main, other := h.gateway("main"), h.gateway("pr/2")
	if a, b := ask(main, "GET", ""), ask(other, "GET", ""); a != "" || b != "" {
		t.Errorf("main has %q, pr/2 has %q", a, b)
	}
	ask(main, "PUT", "bad")
	h.end(main, "main")
	cache(local, "push", "origin", "main")
	time.Sleep(100 * time.Millisecond)
	if got := ask(other, "GET", ""); got != "bad" {
		t.Errorf("pr/2 has %q of main", got)
	}
	cache(origin, "revert", "main", "-m", "a bad entry")
	cache(local, "pull", "origin", "main")
	time.Sleep(100 * time.Millisecond)
	if got := ask(other, "GET", ""); got != "" {
		t.Errorf("pr/2 has %q after the revert", got)
	}
	h.end(other, "pr/2")
}
