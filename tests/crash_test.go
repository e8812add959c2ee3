package tests

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/commands"
	"github.com/cache-tool/cache-tool/internal/test"
)

// An act is a command that is interrupted. It works in the directory work of a
// world, beside which the repository is.
type act struct {
	name string
	args []string

	prepare [][]string // commands that come before it
	empty   bool       // there is no repository yet
	steps   bool       // it takes steps: parts of the new state can be seen beside all of the old one, or the reverse
	unseen  bool       // the state after it is the one before
}

var acts = []act{
	{name: "init", args: []string{"init"}, empty: true},
	{name: "first put", args: []string{"put", "new", "a"}, empty: true, steps: true},
	{name: "put", args: []string{"put", "new", "a"}},
	{name: "put another value", args: []string{"put", "one", "b"}},
	{name: "put a big value", args: []string{"put", "new", "big"}},
	{name: "put on a new branch", args: []string{"--branch", "fresh", "put", "new", "a"}},
	{name: "save", args: []string{"save", "new", "tree", "other"}},
	{name: "save a change", args: []string{"save", "tree", "tree"}},
	{name: "rm", args: []string{"rm", "one", "two"}},
	{name: "run", args: []string{"run", "--in", "a", "--out", "made", "--", "sh", "-c", "echo made >made; echo said"}},
	{name: "stage", args: []string{"put", "--stage", "new", "a"}},
	{name: "stage more", args: []string{"save", "--stage", "new", "tree"}, prepare: [][]string{{"put", "--stage", "one", "b"}}},
	{name: "stage a removal", args: []string{"rm", "--stage", "one"}, prepare: [][]string{{"put", "--stage", "one", "b"}}},
	{name: "commit", args: []string{"commit"}, unseen: true, prepare: [][]string{
		{"put", "--stage", "one", "b"}, {"put", "--stage", "new", "a"}, {"rm", "--stage", "two"},
	}},
	{name: "put over a stage", args: []string{"put", "new", "a"}, prepare: [][]string{{"put", "--stage", "one", "b"}}},
	{name: "merge", args: []string{"merge", "dev"}},
	{name: "fast-forward", args: []string{"--branch", "dev", "merge", "main"}, prepare: [][]string{{"merge", "dev"}}},
	{name: "revert", args: []string{"revert", "HEAD~1"}},
	{name: "reset", args: []string{"reset", "HEAD~1"}},
	{name: "tag", args: []string{"tag", "v2"}},
	{name: "annotated tag", args: []string{"tag", "-m", "why", "v2"}},
	{name: "replace a tag", args: []string{"tag", "-f", "v1"}},
	{name: "delete tags", args: []string{"tag", "-d", "v1", "v1.1"}},
	{name: "branch", args: []string{"branch", "new"}},
	{name: "branch over a base", args: []string{"branch", "--base", "main", "new"}},
	{name: "rename a branch", args: []string{"branch", "-m", "dev", "dev/new"}},
	{name: "rename the default branch", args: []string{"branch", "-m", "main", "trunk"}, steps: true, prepare: [][]string{{"branch", "--base", "dev", "main"}}},
	{name: "delete a branch", args: []string{"branch", "-D", "dev"}},
	{name: "another default branch", args: []string{"branch", "--default", "dev"}},
	{name: "config", args: []string{"config", "set", "user.name", "Ann"}},
	{name: "merge packs", args: []string{"put", "--stage", "new", "a"}, prepare: manyPacks("--stage")},
	{name: "merge durable packs", args: []string{"put", "new", "a"}, prepare: manyPacks()},
	{name: "gc", args: []string{"gc", "--grace", "0", "--keep-history", "0"}, unseen: true, prepare: waste},
	{name: "gc to a size", args: []string{"gc", "--grace", "0", "--max-size", "12kB"}, steps: true, prepare: waste},
	{name: "gc of an idle branch", args: []string{"gc", "--grace", "0", "--branch-ttl", "0"}, prepare: waste},
}

// waste makes something that nobody needs any more, among what is needed.
var waste = [][]string{
	{"put", "one", "big"}, {"put", "five", "b"}, {"put", "one", "b"}, {"save", "more", "tree", "other"}, {"rm", "two"},
	{"--branch", "gone", "put", "six", "big"}, {"branch", "-D", "gone"}, {"save", "more", "tree"},
}

// manyPacks makes as many packs as there may be before they are merged: the
// repository has some already.
func manyPacks(flags ...string) (prepare [][]string) {
	for i := range 12 {
		prepare = append(prepare, append([]string{"put", fmt.Sprint("pack", i), []string{"a", "b", "big"}[i%3]}, flags...))
	}
	return prepare
}

// A world is a directory with a repository, and one with files to work on.
type world struct{ dir string }

func (w world) repo() string { return filepath.Join(w.dir, "repo") }
func (w world) work(names ...string) string {
	return filepath.Join(append([]string{w.dir, "work"}, names...)...)
}

// newWorld makes what an act begins with.
func newWorld(t *testing.T, a act) world {
	t.Helper()
	w := world{test.Dir(t)}
	write(t, w.work("a"), "a\n")
	write(t, w.work("b"), "b\n")
	write(t, w.work("big"), noise(1, 1<<20)+noise(2, 1<<19))
	write(t, w.work("other", "file"), "another file\n")
	for i := range 20 {
		write(t, w.work("tree", fmt.Sprint(i%3), fmt.Sprint("file", i)), strings.Repeat(fmt.Sprintln("line", i), i))
	}
	t.Chdir(w.work())
	if !a.empty {
		for _, args := range [][]string{
			{"put", "one", "a"}, {"put", "two", "b"}, {"tag", "v1"}, {"tag", "-m", "said", "v1.1"},
			{"save", "tree", "tree"}, {"branch", "dev"}, {"--branch", "dev", "put", "three", "a"}, {"--branch", "dev", "rm", "two"},
			{"put", "four", "b"},
		} {
			must(t, w.repo(), args...)
		}
		write(t, w.work("tree", "1", "file1"), "changed\n")
		write(t, w.work("tree", "new", "file"), noise(3, 5000))
	}
	for _, args := range a.prepare {
		must(t, w.repo(), args...)
	}
	return w
}

// A crash knows what an act does where nothing interrupts it.
type crash struct {
	act
	from     world
	old, new string // states
}

func newCrash(t *testing.T, a act) crash {
	t.Helper()
	c := crash{act: a, from: newWorld(t, a)}
	c.old = mustStateOrNone(t, c.from)
	w := c.copy(t)
	t.Chdir(w.work())
	must(t, w.repo(), a.args...)
	c.new = mustState(t, w.repo())
	sound(t, w.repo())
	if (c.old == c.new) != a.unseen {
		t.Fatalf("state before:\n%s\n\nand after:\n%s", c.old, c.new)
	}
	return c
}

func mustStateOrNone(t *testing.T, w world) string {
	t.Helper()
	s, err := state(w.repo())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (c crash) copy(t *testing.T) world {
	t.Helper()
	w := world{test.Dir(t)}
	copyDir(t, c.from.dir, w.dir)
	return w
}

// TestKilledAnywhere kills the command with SIGKILL before and in the middle of
// every change that it makes to the disk.
func TestKilledAnywhere(t *testing.T) {
	alone(t)
	stride := 10 / test.Count(t, 10) // so that make test makes a tenth of the cuts
	cuts := 0
	for i, a := range acts {
		t.Run(a.name, func(t *testing.T) {
			c := newCrash(t, a)
			for round, halfway := range []bool{false, true} {
				for at := 1 + (3*i+5*round)%stride; c.kill(t, at, halfway); at += stride {
					cuts++
				}
			}
		})
	}
	t.Logf("%d cuts", cuts)
	if test.Soak() && cuts < 500 {
		t.Errorf("%d cuts, want 500", cuts)
	}
}

// kill lets the act die before step at or in the middle of it, and checks what
// is left. It reports whether there was such a step.
func (c crash) kill(t *testing.T, at int, halfway bool) (reached bool) {
	t.Helper()
	t.Run(fmt.Sprintf("step-%d-halfway-%v", at, halfway), func(t *testing.T) {
		w := c.copy(t)
		t.Chdir(w.work())
		cmd := process(w.repo(), c.args...)
		cmd.Env = append(cmd.Env, test.KillEnv(at, halfway))
		out, err := cmd.CombinedOutput()
		switch code := exitCode(err); code {
		case killed:
			reached = true
		case done:
			c.check(t, w, c.new)
			return
		default:
			t.Fatalf("exit code %d: %s", code, out)
		}
		c.check(t, w, c.old, c.new)
	})
	return reached && !t.Failed()
}

// check wants one of states, a repository without a fault, and that the act can
// be done now, or done again.
func (c crash) check(t *testing.T, w world, states ...string) {
	t.Helper()
	left, err := os.ReadDir(w.work())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if e.Name() == "made" && read(t, w.work("made")) != "made\n" {
			t.Errorf("the output holds %q", read(t, w.work("made")))
		}
	}
	got := mustStateOrNone(t, w)
	if got == "" && c.old != "" {
		t.Fatal("there is no repository any more")
	}
	if !c.oneOf(got, states) {
		t.Fatalf("state:\n%s\n\nwant one of:\n%s", got, strings.Join(states, "\n\n"))
	}
	if got != "" {
		sound(t, w.repo())
	}
	next := c.args
	isNew := got == c.new || c.steps && containsLines(got, c.new)
	if isNew && !c.unseen {
		next = []string{"put", "next", "b"}
	}
	r := must(t, w.repo(), next...)
	if c.name == "run" && !isNew && r.out != "said\n" {
		t.Errorf("the command said %q", r.out)
	}
	if now := mustState(t, w.repo()); !isNew && now != c.new {
		t.Fatalf("state after %q again:\n%s\n\nwant:\n%s", c.args, now, c.new)
	}
	for _, p := range problems(t, w.repo()) {
		// The piece of a record, with records behind it by now: the next commit
		// leaves it behind.
		if !strings.Contains(p.What, "passed over") {
			t.Errorf("fsck: %q", p)
		}
	}
	must(t, w.repo(), "commit")
	sound(t, w.repo())
}

func (c crash) oneOf(got string, states []string) bool {
	return slices.ContainsFunc(states, func(s string) bool {
		return got == s || c.steps && got != c.new && containsLines(got, s)
	})
}

// containsLines reports whether text has all lines that part has.
func containsLines(text, part string) bool {
	lines := strings.Split(text, "\n")
	for line := range strings.SplitSeq(part, "\n") {
		if line != "" && !slices.Contains(lines, line) {
			return false
		}
	}
	return true
}

// TestPowerCut cuts the power at every step of what promises to survive that:
// what was not synced is gone, all of it or some.
func TestPowerCut(t *testing.T) {
	alone(t)
	for _, a := range acts {
		if !promised(a) {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			c := newCrash(t, a)
			test.Case{
				Setup: func(dir string) error { return copyTree(c.from.dir, dir) },
				Act: func(dir string) error {
					if err := os.Chdir(filepath.Join(dir, "work")); err != nil {
						return err
					}
					var out bytes.Buffer
					args := append([]string{"--repo", filepath.Join(dir, "repo")}, a.args...)
					if code := commands.Main(ctx, args, commands.Streams{In: &bytes.Buffer{}, Out: &out, Err: &out}); code != done {
						return fmt.Errorf("exit code %d: %s", code, &out)
					}
					return nil
				},
				Check: func(t *testing.T, dir string, err error) {
					w := world{dir}
					w.reboot(t)
					t.Chdir(w.work())
					if err == nil {
						c.check(t, w, c.new)
					} else {
						c.check(t, w, c.old, c.new)
					}
				},
				Max: test.Count(t, 30),
			}.PowerCut(t)
		})
	}
}

// promised reports whether what an act does survives a power cut.
func promised(a act) bool {
	if a.name == "run" {
		return false
	}
	for _, args := range append([][]string{a.args}, a.prepare...) {
		for _, arg := range args {
			if arg == "--stage" {
				return false
			}
		}
	}
	return true
}

var stagedPack = regexp.MustCompile(`^new-[0-9a-f]{8}-`)

// reboot lets the system have started anew, as it has after a power cut: what
// was not synced then is recognized by the run that it was written in.
func (w world) reboot(t *testing.T) {
	t.Helper()
	reboot(t, w.repo())
}

func reboot(t *testing.T, repo string) {
	t.Helper()
	packs := filepath.Join(repo, "packs")
	files, err := os.ReadDir(packs)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, f := range files {
		name := stagedPack.ReplaceAllString(f.Name(), "new-00000000-")
		if err := os.Rename(filepath.Join(packs, f.Name()), filepath.Join(packs, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilledRestore kills a restore at random moments: each file is the old one
// or the new one, whole, and the next restore does the rest.
func TestKilledRestore(t *testing.T) {
	alone(t)
	w := newWorld(t, act{empty: true})
	var versions [2]map[string]string
	var shapes [2]string
	for v := range versions {
		for i := range 150 {
			write(t, w.work("files", fmt.Sprint(i%(5+v)), fmt.Sprint("file", i)), strings.Repeat(fmt.Sprintln(v, i), 1+i*i))
		}
		must(t, w.repo(), "save", fmt.Sprint("version", v), "files")
		versions[v], shapes[v] = files(t, w.work("files"), false), test.Shape(t, w.work("files"))
	}
	whole := time.Duration(0)
	cut := 0
	for i := range test.Count(t, 300) {
		to := test.Dir(t)
		must(t, w.repo(), "restore", "version0", "--to", to, "--delete")
		cmd := process(w.repo(), "restore", "version1", "--to", to, "--delete")
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			timer := time.AfterFunc(whole*time.Duration(i%16)/16, func() { cmd.Process.Kill() })
			defer timer.Stop()
		}
		switch code := exitCode(cmd.Wait()); {
		case code == killed:
			cut++
		case code != done:
			t.Fatalf("exit code %d", code)
		case i == 0:
			whole = time.Since(began)
		}
		for name, what := range files(t, filepath.Join(to, "files"), false) {
			if strings.Contains(name, ".cache-tool-restore-") {
				continue // what was not in its place yet
			}
			if what != versions[0][name] && what != versions[1][name] {
				t.Errorf("%s is %s, want %s or %s", name, what, versions[0][name], versions[1][name])
			}
		}
		must(t, w.repo(), "restore", "version1", "--to", to, "--delete")
		// A later restore removes them, once they are a minute old.
		left, err := filepath.Glob(filepath.Join(to, "files", ".cache-tool-restore-*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range left {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		if got := test.Shape(t, filepath.Join(to, "files")); got != shapes[1] {
			t.Fatalf("restored again:\n%s\nwant\n%s", got, shapes[1])
		}
		sound(t, w.repo())
	}
	t.Logf("%d kills", cut)
}
