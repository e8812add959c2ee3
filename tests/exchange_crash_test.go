package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
)

// An exchangeAct is a command that is interrupted between two repositories: the one
// of its world, and another beside it.
type exchangeAct struct {
	name  string
	args  []string
	here  [][]string // commands that come before it, in the first repository
	there [][]string // and then, in the other
	next  [][]string // what goes on with it, if that is not the same again

	noRepo, noOther bool // there is none yet
	lazy            bool
}

var exchangeActs = []exchangeAct{
	{name: "first push", args: []string{"push"}, noOther: true},
	{name: "push", args: []string{"push"}, here: [][]string{{"pull"}}},
	{name: "push that merges", args: []string{"push"}},
	{name: "push of what is staged", args: []string{"push"}, here: [][]string{{"put", "--stage", "staged", "big"}}},
	{name: "push of all branches and tags", args: []string{"push", "--all", "--tags"}},
	{name: "push that deletes", args: []string{"push", "origin", ":old", "main"}, next: [][]string{{"push", "origin", "main"}}},
	{name: "pull", args: []string{"pull"}},
	{name: "pull that only moves on", args: []string{"pull"}, here: [][]string{{"push"}}, there: [][]string{{"put", "later", "big"}}},
	{name: "pull of all", args: []string{"pull", "--all", "--tags"}},
	{name: "fetch", args: []string{"fetch", "--tags"}},
	{name: "fetch that prunes", args: []string{"fetch", "--prune"}, here: [][]string{{"fetch"}}, there: [][]string{{"branch", "-D", "old"}}},
	{name: "clone", args: []string{"clone", "../other", "../repo"}, next: [][]string{{"pull", "--all", "--tags"}}, noRepo: true},
	{name: "lazy pull", args: []string{"pull", "--lazy"}, lazy: true},
	{name: "look-up in a lazy repository", args: []string{"get", "theirs"}, here: [][]string{{"pull", "--lazy"}}, lazy: true},
}

func (w world) other() string { return filepath.Join(w.dir, "other") }

// newPair makes what an act begins with: two repositories that both know something
// that the other does not.
func newPair(t *testing.T, a exchangeAct) world {
	t.Helper()
	w := newWorld(t, act{empty: true})
	if !a.noOther {
		for _, args := range [][]string{
			{"put", "common", "a"}, {"save", "tree", "tree"}, {"tag", "v1"}, {"--branch", "old", "put", "old", "a"},
			{"put", "theirs", "big"}, {"tag", "-m", "said", "v2"}, {"--branch", "dev", "put", "dev", "b"},
		} {
			must(t, w.other(), args...)
		}
	}
	if a.noRepo {
		return w
	}
	write(t, w.work("tree", "1", "file1"), "changed\n")
	for _, args := range [][]string{
		{"put", "ours", "b"}, {"save", "tree", "tree"}, {"put", "big", "big"}, {"tag", "here"}, {"--branch", "mine", "put", "mine", "a"},
	} {
		must(t, w.repo(), args...)
	}
	// Not an absolute path, as commands would write it: the world is copied.
	config := filepath.Join(w.repo(), "config")
	write(t, config, read(t, config)+"[remote \"origin\"]\n\turl = ../other\n")
	for _, args := range a.here {
		must(t, w.repo(), args...)
	}
	for _, args := range a.there {
		must(t, w.other(), args...)
	}
	return w
}

// states are those of both repositories. Of a lazy one it is what it answers.
func (a exchangeAct) states(t *testing.T, w world) (here, there string) {
	t.Helper()
	there, err := state(w.other())
	switch {
	case err == nil && a.lazy:
		here = must(t, w.repo(), "ls", "-R").out
	case err == nil:
		here, err = state(w.repo())
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(here, w.dir, "WORLD"), there
}

// TestExchangeKilledAnywhere kills a push, pull, fetch or clone with SIGKILL before
// and in the middle of every change that it makes to the disk, in either
// repository. Both are sound, and hold the old state or the new one; and the command
// can be run again, and comes to what it would have come to.
func TestExchangeKilledAnywhere(t *testing.T) {
	alone(t)
	stride := 1
	if !test.Soak() {
		stride = 20 // each of the two rounds makes half of a tenth
	}
	cuts := 0
	for i, a := range exchangeActs {
		t.Run(a.name, func(t *testing.T) {
			c := newExchangeCrash(t, a)
			for round, halfway := range []bool{false, true} {
				for at := 1 + (3*i+10*round)%stride; c.kill(t, at, halfway); at += stride {
					cuts++
				}
			}
		})
	}
	t.Logf("%d cuts", cuts)
	if test.Soak() && cuts < 300 {
		t.Errorf("%d cuts, want 300", cuts)
	}
}

type exchangeCrash struct {
	exchangeAct
	from             world
	oldHere, newHere string
	oldThere         string
	newThere         string
}

func newExchangeCrash(t *testing.T, a exchangeAct) exchangeCrash {
	t.Helper()
	c := exchangeCrash{exchangeAct: a, from: newPair(t, a)}
	c.oldHere, c.oldThere = c.states(t, c.from)
	w := c.copy(t)
	c.done(t, w, a.args)
	c.newHere, c.newThere = c.states(t, w)
	if c.oldHere == c.newHere && c.oldThere == c.newThere && !c.lazy {
		t.Fatalf("nothing changes:\n%s", c.newHere)
	}
	return c
}

func (c exchangeCrash) copy(t *testing.T) world {
	t.Helper()
	w := world{test.Dir(t)}
	copyDir(t, c.from.dir, w.dir)
	t.Chdir(w.work())
	return w
}

// done runs the act, or what goes on with it.
func (c exchangeCrash) done(t *testing.T, w world, commands ...[]string) {
	t.Helper()
	for _, args := range commands {
		if args[0] != "clone" {
			must(t, w.repo(), args...)
		} else if r := runProcess("", args...); r.code != done {
			t.Fatal(r)
		}
	}
}

func (c exchangeCrash) kill(t *testing.T, at int, halfway bool) (reached bool) {
	t.Helper()
	t.Run(fmt.Sprintf("step-%d-halfway-%v", at, halfway), func(t *testing.T) {
		w := c.copy(t)
		cmd := process(w.repo(), c.args...)
		if c.noRepo {
			cmd = process("", c.args...)
		}
		cmd.Env = append(cmd.Env, test.KillEnv(at, halfway))
		out, err := cmd.CombinedOutput()
		switch code := exitCode(err); code {
		case killed:
			reached = true
		case done:
		default:
			t.Fatalf("exit code %d: %s", code, out)
		}
		c.check(t, w)
	})
	return reached && !t.Failed()
}

// check wants both repositories to be sound, and to lead to what they would have come
// to without the interruption.
func (c exchangeCrash) check(t *testing.T, w world) {
	t.Helper()
	for _, dir := range []string{w.repo(), w.other()} {
		if _, err := os.Stat(filepath.Join(dir, "config")); err == nil {
			sound(t, dir)
		}
	}
	here, there := c.states(t, w)
	if there != c.oldThere && there != c.newThere && !(c.noOther && strings.Count(there, "\n") < 2) {
		t.Errorf("there:\n%s\n\nwant\n%s\n\nor\n%s", there, c.oldThere, c.newThere)
	}
	if lost := lostLines(here, c.oldHere, c.newHere); len(lost) > 0 {
		t.Errorf("lost here: %q", lost)
	}
	next := [][]string{c.args}
	if c.next != nil && (there != c.oldThere || c.noRepo && strings.Contains(here, "ref refs/")) {
		next = c.next
	}
	c.done(t, w, next...)
	here, there = c.states(t, w)
	if here != c.newHere {
		t.Errorf("here, after another try:\n%s\n\nwant\n%s", here, c.newHere)
	}
	if there != c.newThere {
		t.Errorf("there, after another try:\n%s\n\nwant\n%s", there, c.newThere)
	}
	sound(t, w.repo())
	sound(t, w.other())
}

// lostLines are those that both the old and the new state have, and this one not.
func lostLines(is, before, after string) (lost []string) {
	if before == "" {
		return nil
	}
	now, then := strings.Split(is, "\n"), strings.Split(after, "\n")
	for _, line := range strings.Split(before, "\n") {
		if slices.Contains(then, line) && !slices.Contains(now, line) {
			lost = append(lost, line)
		}
	}
	return lost
}
