package action

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// A bench is a project directory and a repository to run commands with.
type bench struct {
	t     *testing.T
	dir   string
	repo  string
	store *memory

	stdout, stderr bytes.Buffer
	warnings       []string
	edit           func(*Options)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	root, err := physical(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: filepath.Join(root, "project"), repo: filepath.Join(root, "repo"), store: newMemory()}
	for _, dir := range []string{b.dir, b.repo} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) read(name string) string {
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (b *bench) remove(names ...string) {
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(b.dir, name)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// run runs spec, as a process of its own would.
func (b *bench) run(spec Spec) Result {
	b.t.Helper()
	if spec.Dir == "" {
		spec.Dir = b.dir
	}
	if spec.Base == "" {
		spec.Base = b.dir
	}
	b.stdout.Reset()
	b.stderr.Reset()
	b.warnings = nil
	o := Options{
		Stdout: &b.stdout, Stderr: &b.stderr, Dir: b.repo,
		Cache: statcache.Open(filepath.Join(b.repo, "stat")),
		Warn:  func(message string) { b.warnings = append(b.warnings, message) },
	}
	if b.edit != nil {
		b.edit(&o)
	}
	var store Store
	if b.store != nil {
		store = b.store
	}
	result, err := Run(b.t.Context(), store, spec, o)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// want runs spec and checks what becomes of it.
func (b *bench) want(outcome Outcome, spec Spec) Result {
	b.t.Helper()
	r := b.run(spec)
	if r.Outcome != outcome {
		b.t.Errorf("%q: %s (%s), want %s; warnings %q", spec.Args, r.Outcome, r.Reason, outcome, b.warnings)
	}
	return r
}

func sh(script string, spec Spec) Spec {
	spec.Args = []string{"sh", "-c", script}
	return spec
}

func TestRunPrintsAgain(t *testing.T) {
	b := newBench(t)
	spec := sh("echo one; sleep 0.02; echo two >&2; echo x >> ran", Spec{})
	for _, outcome := range []Outcome{Miss, Hit} {
		b.want(outcome, spec)
		if b.stdout.String() != "one\n" || b.stderr.String() != "two\n" {
			t.Errorf("%s: printed %q and %q", outcome, b.stdout.String(), b.stderr.String())
		}
	}
	if got := b.read("ran"); got != "x\n" {
		t.Errorf("it ran more than once: %q", got)
	}
}

func TestRunRestoresOutputs(t *testing.T) {
	b := newBench(t)
	b.write("in.txt", "in")
	spec := sh(`mkdir -p d/sub d/empty; cp in.txt d/sub/x; chmod 600 d/sub/x; echo file > f; echo '#!' > exe; chmod 755 exe; ln -sf nowhere link`,
		Spec{In: []string{"in.txt"}, Out: []string{"d", "f", "exe", "link", "d/sub"}})
	b.want(Miss, spec)
	b.remove("d", "f", "exe", "link")
	b.want(Hit, spec)
	if got := b.read("d/sub/x") + b.read("f") + b.read("exe"); got != "infile\n#!\n" {
		t.Errorf("restored %q", got)
	}
	for name, want := range map[string]os.FileMode{"d/sub/x": 0o600, "f": 0o644, "exe": 0o755} {
		if fi, err := os.Stat(filepath.Join(b.dir, name)); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, fi, err, want)
		}
	}
	if fi, err := os.Stat(filepath.Join(b.dir, "d/empty")); err != nil || !fi.IsDir() {
		t.Errorf("empty directory: %v", err)
	}
	if target, err := os.Readlink(filepath.Join(b.dir, "link")); err != nil || target != "nowhere" {
		t.Errorf("link to %q, %v", target, err)
	}
	b.leftNothing()
}

// leftNothing looks for pending files.
func (b *bench) leftNothing() {
	b.t.Helper()
	filepath.WalkDir(b.dir, func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(path, pendingPrefix) {
			b.t.Errorf("left behind: %s", path)
		}
		return err
	})
}

func TestRunLeavesRightOutputsAlone(t *testing.T) {
	b := newBench(t)
	spec := sh("echo a > a; echo b > b; chmod +x b", Spec{Out: []string{"a", "b"}})
	b.want(Miss, spec)
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, name := range []string{"a", "b"} {
		os.Chtimes(filepath.Join(b.dir, name), old, old)
	}
	os.Chmod(filepath.Join(b.dir, "b"), 0o644)
	b.want(Hit, spec)
	for name, untouched := range map[string]bool{"a": true, "b": false} {
		fi, err := os.Stat(filepath.Join(b.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.ModTime().Equal(old) != untouched {
			t.Errorf("%s: modified %v, untouched should be %t", name, fi.ModTime(), untouched)
		}
	}
	b.write("a", "tampered with")
	b.want(Hit, spec)
	if got := b.read("a"); got != "a\n" {
		t.Errorf("restored %q", got)
	}
}

// What counts makes another key, and the old one is found again.
func TestRunMissesWhatChanged(t *testing.T) {
	t.Setenv("NAMED", "1")
	t.Setenv("OTHER", "1")
	b := newBench(t)
	b.write("src/a", "a")
	b.write("src/.git/config", "volatile")
	b.write("tool", "#!/bin/sh\necho tool\n")
	os.Chmod(filepath.Join(b.dir, "tool"), 0o755)
	spec := Spec{Args: []string{"./tool"}, In: []string{"src/**", "absent"}, Env: []string{"NAMED"}}
	b.want(Miss, spec)
	b.want(Hit, spec)
	for _, step := range []struct {
		name string
		do   func()
		want Outcome
	}{
		{"an input changes", func() { b.write("src/a", "b") }, Miss},
		{"and back", func() { b.write("src/a", "a") }, Hit},
		{"a file is new", func() { b.write("src/b", "b") }, Miss},
		{"and gone", func() { b.remove("src/b") }, Hit},
		{"an empty directory is new", func() { os.Mkdir(filepath.Join(b.dir, "src/d"), 0o755) }, Miss},
		{"and gone", func() { b.remove("src/d") }, Hit},
		{"an absent input appears", func() { b.write("absent", "") }, Miss},
		{"and is gone", func() { b.remove("absent") }, Hit},
		{"Git's own files", func() { b.write("src/.git/config", "other") }, Hit},
		{"the execute bit", func() { os.Chmod(filepath.Join(b.dir, "src/a"), 0o755) }, Miss},
		{"and back", func() { os.Chmod(filepath.Join(b.dir, "src/a"), 0o644) }, Hit},
		{"a link in place of a file", func() {
			b.write("a2", "a")
			b.remove("src/a")
			os.Symlink("../a2", filepath.Join(b.dir, "src/a"))
		}, Miss},
		{"what it leads to", func() { b.write("a2", "b") }, Miss},
		{"a file again", func() { b.remove("src/a"); b.write("src/a", "a") }, Hit},
		{"a variable", func() { t.Setenv("NAMED", "2") }, Miss},
		{"empty", func() { t.Setenv("NAMED", "") }, Miss},
		{"unset", func() { os.Unsetenv("NAMED") }, Miss},
		{"and back", func() { t.Setenv("NAMED", "1") }, Hit},
		{"one that is not named", func() { t.Setenv("OTHER", "2") }, Hit},
		{"the program", func() { b.write("tool", "#!/bin/sh\necho other\n") }, Miss},
		{"salt", func() { spec.Salt = "2" }, Miss},
		{"an argument", func() { spec.Args = append(spec.Args, "x") }, Miss},
		{"an output", func() { spec.Out = []string{"src"} }, Miss},
	} {
		step.do()
		if r := b.run(spec); r.Outcome != step.want {
			t.Errorf("%s: %s, want %s; warnings %q", step.name, r.Outcome, step.want, b.warnings)
		}
	}
}

// The same project elsewhere has the same keys.
func TestRunHitsInAnotherDirectory(t *testing.T) {
	b := newBench(t)
	b.write("src/a", "a")
	spec := Spec{In: []string{"a"}, Out: []string{"../out/b"}}
	spec.Dir = filepath.Join(b.dir, "src")
	b.want(Miss, sh("mkdir -p ../out; cp a ../out/b", spec))

	moved := filepath.Join(filepath.Dir(b.dir), "moved")
	if err := os.Rename(b.dir, moved); err != nil {
		t.Fatal(err)
	}
	b.dir = moved
	b.remove("out")
	spec.Dir = filepath.Join(moved, "src")
	b.want(Hit, sh("mkdir -p ../out; cp a ../out/b", spec))
	if got := b.read("out/b"); got != "a" {
		t.Errorf("restored %q", got)
	}
}

func TestRunDoesNotKeepFailures(t *testing.T) {
	b := newBench(t)
	spec := sh("echo x >> ran; echo problem >&2; exit 3", Spec{Out: []string{"out"}})
	for range 2 {
		if r := b.want(Uncached, spec); r.Exit != 3 || r.Reason != "exit code 3" {
			t.Errorf("exit %d, %s", r.Exit, r.Reason)
		}
	}
	b.edit = func(o *Options) { o.CacheFailures = true }
	b.want(Miss, spec)
	if r := b.want(Hit, spec); r.Exit != 3 || b.stderr.String() != "problem\n" {
		t.Errorf("exit %d, printed %q", r.Exit, b.stderr.String())
	}
	if got := b.read("ran"); got != "x\nx\nx\n" {
		t.Errorf("ran %q", got)
	}
	b.edit = nil
	b.want(Uncached, spec)
}

// Where it is not sure what a result depends on, or what it is, there is none.
func TestRunDoesNotKeepDoubtfulResults(t *testing.T) {
	for _, tt := range []struct {
		name, script, reason string
		spec                 Spec
	}{
		{"missing output", "true", "did not make its output out", Spec{Out: []string{"out"}}},
		{"special output", "mkfifo out 2>/dev/null; true", "out is neither a file nor a directory", Spec{Out: []string{"out"}}},
		{"changed input", "echo more >> in", "in changed while the command ran", Spec{In: []string{"in"}}},
		{"removed input", "rm in", "in changed while the command ran", Spec{In: []string{"in"}}},
		{"no depfile", "true", "did not make its output dep", Spec{Depfile: "dep"}},
		{"old depfile", "true", "did not write its depfile old", Spec{Depfile: "old"}},
		{"bad depfile", "echo nonsense > dep", "malformed depfile", Spec{Depfile: "dep"}},
		{"changed header", "echo 'x: in' > dep; echo more >> in", "in changed while the command ran", Spec{Depfile: "dep"}},
		{"interrupted", "kill -TERM $$", "interrupted", Spec{}},
	} {
		b := newBench(t)
		b.write("in", "in")
		b.write("old", "x: in")
		for range 2 {
			r := b.want(Uncached, sh(tt.script, tt.spec))
			if !strings.Contains(r.Reason, tt.reason) {
				t.Errorf("%s: not kept because %q, want %q", tt.name, r.Reason, tt.reason)
			}
			b.write("in", "in")
		}
	}
}

func TestRunWithStdin(t *testing.T) {
	b := newBench(t)
	spec := Spec{Args: []string{"cat"}}
	input := "input"
	b.edit = func(o *Options) { o.Stdin = strings.NewReader(input) }
	b.want(Miss, spec)
	if b.stdout.Len() > 0 {
		t.Errorf("standard input was not declared, and read: %q", b.stdout.String())
	}
	spec.Stdin = true
	for _, outcome := range []Outcome{Miss, Hit} {
		b.want(outcome, spec)
		if b.stdout.String() != input {
			t.Errorf("%s: printed %q", outcome, b.stdout.String())
		}
	}
	input = "other"
	b.want(Miss, spec)
	if b.stdout.String() != input {
		t.Errorf("printed %q", b.stdout.String())
	}
}

// An input that is an output is keyed by what it was before.
func TestRunInPlace(t *testing.T) {
	b := newBench(t)
	spec := sh("echo more >> f", Spec{In: []string{"f"}, Out: []string{"f"}})
	for _, outcome := range []Outcome{Miss, Hit} {
		b.write("f", "f\n")
		b.want(outcome, spec)
		if got := b.read("f"); got != "f\nmore\n" {
			t.Errorf("%s: made %q", outcome, got)
		}
	}
}

// Whatever is wrong with the cache, the command runs.
func TestRunWithABrokenCache(t *testing.T) {
	for _, tt := range []struct {
		name string
		hurt func(b *bench)
	}{
		{"no store", func(b *bench) { b.store = nil }},
		{"nothing can be written", func(b *bench) { clear(b.store.entries); b.store.refuse = errors.New("disk full") }},
		{"no repository", func(b *bench) { clear(b.store.entries); os.RemoveAll(b.repo) }},
		{"damaged objects", func(b *bench) {
			for id, o := range b.store.objects {
				o.body = append(o.body, 'x')
				b.store.objects[id] = o
			}
		}},
		{"lost objects", func(b *bench) { clear(b.store.objects) }},
	} {
		b := newBench(t)
		b.want(Miss, sh("echo before; echo x > out", Spec{Out: []string{"out"}}))
		tt.hurt(b)
		b.remove("out")
		r := b.run(sh("echo before; echo x > out", Spec{Out: []string{"out"}}))
		if r.Outcome == Hit || b.stdout.String() != "before\n" || b.read("out") != "x\n" {
			t.Errorf("%s: %s, printed %q, made %q", tt.name, r.Outcome, b.stdout.String(), b.read("out"))
		}
		if tt.name != "no store" && len(b.warnings) == 0 {
			t.Errorf("%s: no warning", tt.name)
		}
		if r := b.run(sh("exit 5", Spec{})); r.Exit != 5 {
			t.Errorf("%s: exit %d, want 5", tt.name, r.Exit)
		}
		b.leftNothing()
	}
}

// An entry may have been made by anybody.
func TestRunTakesOnlyWhatItDeclares(t *testing.T) {
	b := newBench(t)
	spec := sh("echo x > out", Spec{Out: []string{"out"}})
	r := b.want(Miss, spec)
	id, err := b.store.Lookup(t.Context(), entry.Run, r.Key.String())
	if err != nil {
		t.Fatal(err)
	}
	// Hang the outputs of this one under the key of another action.
	other := sh("true", Spec{Out: []string{"other"}})
	key := b.want(Uncached, other).Key
	b.store.entries[entry.Path(entry.Run, key.String())] = id
	b.remove("out")
	b.want(Uncached, other)
	if _, err := os.Stat(filepath.Join(b.dir, "out")); err == nil {
		t.Error("an output was written that was not declared")
	}
}

func TestRunRefusesBadSpecs(t *testing.T) {
	b := newBench(t)
	for _, spec := range []Spec{
		{}, {Args: []string{""}},
		{Args: []string{"true"}, Env: []string{"A=b"}},
		{Args: []string{"true"}, Out: []string{""}},
		{Args: []string{"true"}, Out: []string{"/"}},
		{Args: []string{"true"}, Base: filepath.Join(b.dir, "absent")},
		{Args: []string{"true"}, In: []string{"[z"}},
	} {
		var bad *SpecError
		if _, err := Run(t.Context(), b.store, spec, Options{Dir: b.repo}); !errors.As(err, &bad) {
			t.Errorf("%+v: %v, want a SpecError", spec, err)
		}
	}
}

func TestRunWhatCannotStart(t *testing.T) {
	b := newBench(t)
	b.write("plain", "")
	for _, tt := range []struct {
		program string
		exit    int
	}{{"no-such-program", 127}, {"./absent", 127}, {"./plain", 126}, {"/", 126}} {
		r := b.want(Uncached, Spec{Args: []string{tt.program}})
		if r.Exit != tt.exit || r.NotStarted == nil {
			t.Errorf("%s: exit %d, want %d; %v", tt.program, r.Exit, tt.exit, r.NotStarted)
		}
	}
}

func gcc(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc")
	}
}

func TestRunDiscoversHeaders(t *testing.T) {
	gcc(t)
	b := newBench(t)
	b.write("src/a.c", "#include <stdio.h>\n#include \"a.h\"\nint main(void) { return A; }\n")
	b.write("src/a.h", "#define A 1\n")
	b.write("include/b.h", "#define A 2\n")
	spec := Spec{Args: []string{"gcc", "-MD", "-MF", "a.d", "-Iinclude", "-c", "src/a.c", "-o", "a.o"}, Out: []string{"a.o"}, Depfile: "a.d"}
	first := b.want(Miss, spec)
	object, deps := b.read("a.o"), b.read("a.d")
	b.remove("a.o", "a.d")
	if r := b.want(Hit, spec); r.Key != first.Key {
		t.Errorf("hit %s, made was %s", r.Key, first.Key)
	}
	if b.read("a.o") != object || b.read("a.d") != deps {
		t.Error("restored something else")
	}
	b.write("src/a.h", "#define A 3\n")
	b.want(Miss, spec)
	b.want(Hit, spec)
	b.write("src/a.c", "#include \"b.h\"\nint main(void) { return A; }\n")
	b.want(Miss, spec) // another set of headers
	b.write("include/b.h", "#define A 4\n")
	b.want(Miss, spec)
	b.write("src/a.c", "#include <stdio.h>\n#include \"a.h\"\nint main(void) { return A; }\n")
	b.write("src/a.h", "#define A 1\n")
	if r := b.want(Hit, spec); r.Key != first.Key { // by the older set
		t.Errorf("hit %s, want %s", r.Key, first.Key)
	}
	if b.read("a.o") != object {
		t.Error("restored something else")
	}
	b.remove("src/a.h")
	b.want(Uncached, spec) // a compile error
}
