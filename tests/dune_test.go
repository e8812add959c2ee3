package tests

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
)

// A machine has a home, a cache and a copy of the project of its own, at paths that
// no other has.
type machine struct {
	t            *testing.T
	dune         duneProgram
	home, source string
}

func newMachine(t *testing.T, dune duneProgram, dir ...string) machine {
	t.Helper()
	root := filepath.Join(append([]string{t.TempDir()}, dir...)...)
	m := machine{t, dune, filepath.Join(root, "home"), filepath.Join(root, "src")}
	if err := os.MkdirAll(m.home, 0o777); err != nil {
		t.Fatal(err)
	}
	plain := ""
	if dune.later {
		plain = "plain"
	}
	m.command("sh", "dune/project.sh", m.source, plain)
	// Dune's files are read-only, and so the directories of a sandbox may be.
	t.Cleanup(func() { exec.Command("chmod", "-R", "u+w", root).Run() })
	return m
}

func (m machine) cache() string { return filepath.Join(m.home, "cache") }

// command runs a command on the machine, which has to succeed.
func (m machine) command(args ...string) string {
	m.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "DUNE_") })
	cmd.Env = append(cmd.Env, "HOME="+m.home, "XDG_CACHE_HOME="+m.cache(), "LANG=C.UTF-8", "GORACE=atexit_sleep_ms=0", "DUNE_TRACE=cache,process",
		"PATH="+filepath.Dir(m.dune.path)+":"+os.Getenv("PATH"))
	if m.dune.later {
		cmd.Env = append(cmd.Env, "DUNE_CACHE_ROOT="+filepath.Join(m.home, "root"))
	}
	if args[0] != "sh" {
		cmd.Dir = m.source
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%q: %v\n%s", args, err, tail(string(out)))
	}
	return string(out)
}

// build builds the project with cache-tool around Dune, and returns what Dune has
// noted of it.
func (m machine) build(repo string) duneLog {
	m.t.Helper()
	m.command(append([]string{"cache-tool", "--repo", repo, "dune", "wrap", "--"}, m.buildCommand()...)...)
	return m.log()
}

func (m machine) buildCommand() []string {
	return []string{m.dune.path, "build", "--root", ".", "--display=quiet", "@all", "@runtest"}
}

// A duneLog counts what a build did. Of hits and misses only some versions speak.
type duneLog struct{ hits, misses, lacking, commands int }

var (
	hitLine     = regexp.MustCompile(`(?m)^# cache hit|"cat":"cache","name":"hit"`)
	missLine    = regexp.MustCompile(`(?m)^# cache miss|"cat":"cache","name":"miss"`)
	commandLine = regexp.MustCompile(`(?m)^\$ .*|"cat":"process","name":"start".*`)
	ownCommand  = regexp.MustCompile(`nproc|-config|dune\.ml`) // Dune asks about its surroundings in every build
)

func (m machine) log() (l duneLog) {
	m.t.Helper()
	body, err := os.ReadFile(filepath.Join(m.source, "_build", "log"))
	if errors.Is(err, os.ErrNotExist) {
		body = []byte(m.command(m.dune.path, "trace", "cat"))
	} else if err != nil {
		m.t.Fatal(err)
	}
	l.hits, l.misses = len(hitLine.FindAll(body, -1)), len(missLine.FindAll(body, -1))
	l.lacking = strings.Count(string(body), "missing data file")
	for _, line := range commandLine.FindAll(body, -1) {
		if !ownCommand.Match(line) {
			l.commands++
		}
	}
	return l
}

// A duneProgram is a Dune to test with.
type duneProgram struct {
	path    string
	version string
	later   bool // than Debian's
}

// systemDune returns Debian's Dune. It skips the test where there is none, or not
// all that the project is made of.
func systemDune(t *testing.T) duneProgram {
	t.Helper()
	path, err := exec.LookPath("dune")
	if err != nil {
		t.Skip("no Dune: apt-get install ocaml-dune")
	}
	version := duneVersion(path)
	if !strings.HasPrefix(version, "2.") {
		t.Skipf("Dune %s: its log does not say what was a hit", version)
	}
	if _, err := exec.LookPath("menhir"); err != nil {
		t.Skip("no menhir: apt-get install menhir")
	}
	if out, err := exec.Command("ocamlfind", "query", "base", "ppx_sexp_conv", "ppx_compare", "menhirLib").CombinedOutput(); err != nil {
		t.Skipf("a library is missing: apt-get install ocaml-findlib libmenhir-ocaml-dev libbase-ocaml-dev libppx-sexp-conv-ocaml-dev libppx-compare-ocaml-dev (%v: %s)", err, out)
	}
	return duneProgram{path: path, version: version}
}

func duneVersion(path string) string {
	out, _ := exec.Command(path, "--version").Output()
	return strings.TrimSpace(string(out))
}

// laterDunes are those that $CACHE_TOOL_DUNES names; tests/dune/later.sh makes some.
func laterDunes(t *testing.T) []duneProgram {
	t.Helper()
	var all []duneProgram
	for path := range strings.SplitSeq(os.Getenv("CACHE_TOOL_DUNES"), ":") {
		if path != "" {
			all = append(all, duneProgram{path, duneVersion(path), true})
		}
	}
	if all == nil {
		t.Skip("CACHE_TOOL_DUNES names no later versions of Dune: tests/dune/later.sh makes some")
	}
	return all
}

// What machine a has built, machine b takes from the cache: no rule is run. Then b
// changes a source and runs programs that came from there, which shows that they
// can be executed.
func TestDuneOnASecondMachine(t *testing.T) { onASecondMachine(t, systemDune(t)) }

func TestLaterDuneOnASecondMachine(t *testing.T) {
	for _, dune := range laterDunes(t) {
		t.Run(dune.version, func(t *testing.T) { onASecondMachine(t, dune) })
	}
}

func onASecondMachine(t *testing.T, dune duneProgram) {
	alone(t)
	a, b := newMachine(t, dune, "a"), newMachine(t, dune, "b", "elsewhere")
	repo := filepath.Join(t.TempDir(), "repo")
	scratch := a.build(repo)
	if scratch.hits != 0 || scratch.commands < 40 {
		t.Fatalf("machine a, whose cache is empty: %+v", scratch)
	}

	warm := b.build(repo)
	t.Logf("machine a: %+v; machine b: %+v", scratch, warm)
	if warm.misses > 2 || warm.lacking > 0 || warm.commands > 0 || warm.hits+warm.misses < scratch.misses {
		t.Errorf("machine b: %+v; machine a: %+v", warm, scratch)
	}
	program := filepath.Join(b.source, "_build", "default", "bin", "main.exe")
	if got := b.command(program); got != "15 ((id 7) (name m19) (tags (a b)))\n" {
		t.Errorf("the program prints %q", got)
	}

	change(t, filepath.Join(b.source, "shapes", "m3.ml"), func(text string) string { return text + "let changed = 1\n" })
	change(t, filepath.Join(b.source, "bin", "dune"), func(text string) string { return strings.Replace(text, "(run ./tool.sh)", "(run ./tool.sh x)", 1) })
	edited := b.build(repo)
	if edited.commands == 0 || edited.commands >= scratch.commands {
		t.Errorf("after a change: %+v", edited)
	}

	// And a has it from b.
	for _, name := range []string{"shapes/m3.ml", "bin/dune"} {
		a.command("cp", filepath.Join(b.source, name), filepath.Join(a.source, name))
	}
	if back := a.build(repo); back.commands > 0 {
		t.Errorf("back on machine a: %+v", back)
	}
	if log := must(t, repo, "log", "--oneline").out; strings.Count(log, "\n") > 3 {
		t.Errorf("want one commit for a build that made something:\n%s", log)
	}
	must(t, repo, "fsck")
}

// With wrap alone Dune's cache travels, too: by way of a remote, of which the second
// machine brings what it needs.
func TestWrapCarriesDune(t *testing.T) {
	dune := systemDune(t)
	alone(t)
	remote := filepath.Join(t.TempDir(), "remote")
	build := func(m machine) duneLog {
		repo := filepath.Join(m.home, "repo")
		m.command("cache-tool", "--repo", repo, "init")
		m.command("cache-tool", "--repo", repo, "remote", "add", "origin", remote)
		m.command(append([]string{"cache-tool", "--repo", repo, "--branch", "main", "wrap", "--push", "--"}, m.buildCommand()...)...)
		return m.log()
	}
	a, b := newMachine(t, dune, "a"), newMachine(t, dune, "b", "elsewhere")
	if scratch := build(a); scratch.commands < 40 {
		t.Fatalf("machine a, whose cache is empty: %+v", scratch)
	}
	if warm := build(b); warm.commands > 0 || warm.lacking > 0 {
		t.Errorf("machine b: %+v", warm)
	}
}

func TestDuneWrapPassesSignalsOn(t *testing.T) { passesSignalsOn(t, "dune", "wrap", "--") }

func change(t *testing.T, name string, edit func(string) string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if edit(string(text)) == string(text) {
		t.Fatalf("%s stays as it is", name)
	}
	if err := os.WriteFile(name, []byte(edit(string(text))), 0o666); err != nil {
		t.Fatal(err)
	}
}

// Nothing that a killed delivery leaves behind spoils a build: Dune finds whole
// entries only, and runs the rules of the others.
func TestDuneAfterAKilledPull(t *testing.T) {
	dune := systemDune(t)
	alone(t)
	a := newMachine(t, dune, "a")
	repo := filepath.Join(t.TempDir(), "repo")
	scratch := a.build(repo)
	partial := false
	for _, after := range []int{300, 1600} { // among the files, and among the metadata
		b := newMachine(t, dune, "b")
		cmd := process(repo, "dune", "pull")
		cmd.Env = append(cmd.Env, "XDG_CACHE_HOME="+b.cache(), test.KillEnv(after, false))
		if code := exitCode(cmd.Run()); code != killed {
			t.Fatalf("killed after %d steps: exit code %d", after, code)
		}
		b.command(append([]string{"env", "DUNE_CACHE=enabled", "DUNE_CACHE_TRANSPORT=direct"}, b.buildCommand()...)...)
		log := b.log()
		t.Logf("pull killed after %d steps: %+v", after, log)
		if log.lacking > 0 || log.hits+log.misses < scratch.misses {
			t.Errorf("pull killed after %d steps: %+v", after, log)
		}
		if got := b.command(filepath.Join(b.source, "_build", "default", "bin", "main.exe")); !strings.HasPrefix(got, "15 ") {
			t.Errorf("the program prints %q", got)
		}
		partial = partial || log.hits > 0 && log.commands > 0
	}
	if !partial {
		t.Error("no pull was killed when some of the metadata was there")
	}
}
