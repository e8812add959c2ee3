package action_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/action"
)

// runIn runs spec as a process of its own would, with a repository that is opened
// for it in dir.
func runIn(ctx context.Context, dir string, spec action.Spec, stdout io.Writer) (action.Result, error) {
	r, err := repo.OpenOrInit(ctx, dir, repo.Options{})
	if err != nil {
		return action.Result{}, err
	}
	defer r.Close()
	branch, err := r.Branch(ctx, "")
	if err != nil {
		return action.Result{}, err
	}
	store, err := r.Runs(ctx, branch)
	if err != nil {
		return action.Result{}, err
	}
	return action.Run(ctx, store, spec, action.Options{Stdout: stdout, Dir: r.Dir, Cache: r.Stat()})
}

// numbered is a command that prints a number, writes it to a file, and leaves a
// trace of each time that it runs.
func numbered(dir string, i int) action.Spec {
	script := fmt.Sprintf("echo x >> ran-%d; echo %d | tee out-%d", i, i, i)
	return action.Spec{Args: []string{"sh", "-c", script}, Dir: dir, Base: dir, Out: []string{fmt.Sprintf("out-%d", i)}}
}

const processEnv = "CACHE_TOOL_RUN_TEST" // "DIR:NUMBER" in a started process

// Many processes at once lose no result, and run what is identical once.
func TestManyProcesses(t *testing.T) {
	if dir, number, ok := strings.Cut(os.Getenv(processEnv), ":"); ok {
		i, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		var stdout strings.Builder
		r, err := runIn(t.Context(), filepath.Join(dir, "repo"), numbered(dir, i), &stdout)
		if err != nil || r.Exit != 0 || r.Outcome == action.Uncached || stdout.String() != number+"\n" {
			t.Fatalf("%s (%s), exit %d, %v, printed %q", r.Outcome, r.Reason, r.Exit, err, stdout.String())
		}
		return
	}
	const processes, alike = 64, 4
	dir := test.Dir(t)
	var group sync.WaitGroup
	for p := range processes {
		cmd := test.Again(t)
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s:%d", processEnv, dir, p/alike))
		group.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("process %d: %v\n%s", p, err, out)
			}
		})
	}
	group.Wait()
	for i := range processes / alike {
		if ran, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("ran-%d", i))); err != nil || string(ran) != "x\n" {
			t.Errorf("command %d ran %q times, %v", i, ran, err)
		}
		out := filepath.Join(dir, fmt.Sprintf("out-%d", i))
		os.Remove(out)
		r, err := runIn(t.Context(), filepath.Join(dir, "repo"), numbered(dir, i), io.Discard)
		if err != nil || r.Outcome != action.Hit {
			t.Errorf("command %d afterwards: %s (%s), %v", i, r.Outcome, r.Reason, err)
		}
		if got, err := os.ReadFile(out); err != nil || string(got) != fmt.Sprintf("%d\n", i) {
			t.Errorf("output %d is %q, %v", i, got, err)
		}
	}
	runs, err := action.Log(filepath.Join(dir, "repo"))
	if want := processes + processes/alike; err != nil || len(runs) != want {
		t.Errorf("%d runs in the log, %v, want %d", len(runs), err, want)
	}
}

// interrupted is a run in which something happens: the first of its kind, after
// another one was kept.
func interrupted(t *testing.T) test.Case {
	return test.Case{
		Setup: func(dir string) error {
			_, err := runIn(t.Context(), filepath.Join(dir, "repo"), numbered(dir, 1), io.Discard)
			return err
		},
		Act: func(dir string) error {
			var stdout strings.Builder
			r, err := runIn(t.Context(), filepath.Join(dir, "repo"), numbered(dir, 2), &stdout)
			if err == nil && (r.Exit != 0 || stdout.String() != "2\n") {
				err = fmt.Errorf("exit %d, printed %q", r.Exit, stdout.String())
			}
			if err == nil && r.Outcome == action.Uncached {
				err = errors.New(r.Reason)
			}
			return err
		},
		Check: func(t *testing.T, dir string, err error) {
			for i := 1; i <= 2; i++ {
				os.Remove(filepath.Join(dir, fmt.Sprintf("out-%d", i)))
				var stdout strings.Builder
				r, failed := runIn(t.Context(), filepath.Join(dir, "repo"), numbered(dir, i), &stdout)
				out, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("out-%d", i)))
				if want := fmt.Sprintf("%d\n", i); failed != nil || stdout.String() != want || string(out) != want {
					t.Errorf("after %v: run %d: %v, printed %q, made %q", err, i, failed, stdout.String(), out)
				}
				if (i == 1 || err == nil) && r.Outcome != action.Hit {
					t.Errorf("after %v: run %d: %s (%s), want a hit", err, i, r.Outcome, r.Reason)
				}
			}
		},
	}
}

func TestRunKilledAnywhere(t *testing.T) {
	c := interrupted(t)
	c.Max = test.Count(t, 100)
	c.Kill(t)
}

// A command must not notice that the disk is full, or broken, where the cache is.
func TestRunWithFaultsAnywhere(t *testing.T) {
	c := interrupted(t)
	act := c.Act
	c.Faults = []test.Fault{test.Fail, test.DoneFail, test.Cut}
	c.Max = test.Count(t, 200)
	c.Act = func(dir string) error {
		err := act(dir)
		if out, _ := os.ReadFile(filepath.Join(dir, "out-2")); string(out) != "2\n" {
			return fmt.Errorf("%w; and the command made %q", err, out)
		}
		return err
	}
	c.EveryStep(t)
}

// What a run keeps is whole for everybody else: no damage, nothing missing.
func TestRunsPassTheCheck(t *testing.T) {
	dir := test.Dir(t)
	for i := range 3 {
		if _, err := runIn(t.Context(), filepath.Join(dir, "repo"), numbered(dir, i), io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	r, err := repo.Open(t.Context(), filepath.Join(dir, "repo"), repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	branch, err := r.Branch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.FoldStage(t.Context(), branch, ""); err != nil {
		t.Fatal(err)
	}
	_, err = r.Check(t.Context(), repo.CheckOptions{}, func(p repo.Problem) { t.Error(p) })
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range r.Entries(t.Context(), branch, entry.Run) {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != 3 {
		t.Errorf("%d entries in the branch, want 3", n)
	}
	if r, err := runIn(t.Context(), filepath.Join(dir, "repo"), numbered(dir, 0), io.Discard); err != nil || r.Outcome != action.Hit {
		t.Errorf("after the commit: %s, %v", r.Outcome, err)
	}
}

// Branches that found different headers for the same compile bring both together.
func TestMergeUnitesSets(t *testing.T) {
	dir := test.Dir(t)
	at := filepath.Join(dir, "repo")
	spec := action.Spec{
		Args: []string{"sh", "-c", `echo "x: in $(cat in)" > deps; cat $(cat in)`},
		Dir:  dir, Base: dir, Depfile: "deps",
	}
	run := func(branch, header string, want action.Outcome) {
		t.Helper()
		t.Setenv("CACHE_TOOL_BRANCH", branch)
		if err := os.WriteFile(filepath.Join(dir, "in"), []byte(header), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := runIn(t.Context(), at, spec, io.Discard)
		if err != nil || r.Outcome != want {
			t.Errorf("%s with %s: %s (%s), %v, want %s", branch, header, r.Outcome, r.Reason, err, want)
		}
	}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("one", "a", action.Miss)
	run("two", "b", action.Miss)
	r, err := repo.Open(t.Context(), at, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	theirs, _, err := r.FoldStage(t.Context(), "refs/heads/two", "")
	if err != nil {
		t.Fatal(err)
	}
	merged, err := r.Merge(t.Context(), "refs/heads/one", theirs, repo.Report, "both\n")
	if err != nil || len(merged.Conflicts) > 0 {
		t.Fatalf("merge: %v, conflicts %v", err, merged.Conflicts)
	}
	run("one", "b", action.Hit)
	run("one", "a", action.Hit)
	run("two", "a", action.Miss)
}

// A repository that one may only read is good for hits, without complaints.
func TestHitWithoutWriting(t *testing.T) {
	dir := test.Dir(t)
	at := filepath.Join(dir, "repo")
	if _, err := runIn(t.Context(), at, numbered(dir, 1), io.Discard); err != nil {
		t.Fatal(err)
	}
	restore := durable.SetHook(func(durable.Step, func(durable.Step) error) error { return syscall.EROFS })
	defer restore()
	r, err := repo.Open(t.Context(), at, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	store, err := r.Runs(t.Context(), "refs/heads/main")
	if err != nil {
		t.Fatal(err)
	}
	o := action.Options{Dir: at, Cache: r.Stat(), Warn: func(message string) { t.Errorf("warning: %s", message) }}
	result, err := action.Run(t.Context(), store, numbered(dir, 1), o)
	if err != nil || result.Outcome != action.Hit {
		t.Errorf("%s (%s), %v, want a hit", result.Outcome, result.Reason, err)
	}
}

// What gathers in the stage is committed before it makes lookups slow.
func TestRunsCommitAFullStage(t *testing.T) {
	dir := test.Dir(t)
	at := filepath.Join(dir, "repo")
	r, err := repo.Init(t.Context(), at, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Config.Set(t.Context(), "stage.limit", "3"); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		if _, err := runIn(t.Context(), at, numbered(dir, i), io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	staged, err := r.Staged(t.Context(), "refs/heads/main")
	if err != nil || len(staged) != 1 {
		t.Errorf("%d entries are staged, %v, want 1", len(staged), err)
	}
	for i := range 7 {
		if r, err := runIn(t.Context(), at, numbered(dir, i), io.Discard); err != nil || r.Outcome != action.Hit {
			t.Errorf("command %d: %s, %v", i, r.Outcome, err)
		}
	}
}
