package tests

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
)

// parallel is how many processes work on one repository at once.
const parallel = 64

// atOnce runs n processes at once, all of which must succeed without a word on
// standard error, and returns what they print.
func atOnce(t *testing.T, n int, start func(i int) *exec.Cmd) []string {
	t.Helper()
	out := make([]string, n)
	var group errgroup.Group
	for i := range n {
		group.Go(func() error {
			var stdout, stderr strings.Builder
			cmd := start(i)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if code := exitCode(cmd.Run()); code != done || stderr.Len() > 0 {
				return fmt.Errorf("process %d: exit code %d: %s%s", i, code, tail(stdout.String()), tail(stderr.String()))
			}
			out[i] = stdout.String()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return out
}

// logged makes a command that leaves a line in a file each time that it is run
// for real.
func logged(log string, i int) []string {
	return []string{"sh", "-c", fmt.Sprintf("echo %d >>%s; echo out %d >made%d; echo said %d", i, log, i, i, i)}
}

func lines(t *testing.T, name string) int {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(data), "\n")
}

// TestParallelRuns starts 64 runs at once in a directory that has no repository
// yet: each command runs once, and no result is lost.
func TestParallelRuns(t *testing.T) {
	alone(t)
	w := world{test.Dir(t)}
	log := filepath.Join(w.dir, "log")
	write(t, w.work("in"), "in")
	t.Chdir(w.work())
	for round := range 3 {
		if round == 1 {
			must(t, w.repo(), "commit")
		}
		for i := range parallel {
			os.Remove(w.work(fmt.Sprint("made", i)))
		}
		out := atOnce(t, parallel, func(i int) *exec.Cmd {
			return process(w.repo(), append([]string{"run", "--in", "in", "--out", fmt.Sprint("made", i), "--"}, logged(log, i)...)...)
		})
		for i := range parallel {
			if want := fmt.Sprintf("said %d\n", i); out[i] != want {
				t.Errorf("round %d: run %d said %q", round, i, out[i])
			}
			if got, want := read(t, w.work(fmt.Sprint("made", i))), fmt.Sprintf("out %d\n", i); got != want {
				t.Errorf("round %d: run %d made %q", round, i, got)
			}
		}
		if n := lines(t, log); n != parallel {
			t.Fatalf("round %d: %d commands ran, want %d", round, n, parallel)
		}
		sound(t, w.repo())
	}
}

// TestIdenticalRuns starts the same run many times at once. It may happen more
// than once, but all are done with the same result, whole.
func TestIdenticalRuns(t *testing.T) {
	alone(t)
	w := newWorld(t, act{})
	log := filepath.Join(w.dir, "log")
	out := atOnce(t, parallel/2, func(int) *exec.Cmd {
		return process(w.repo(), "run", "--out", "dir", "--", "sh", "-c",
			"echo x >>"+log+"; mkdir -p dir; echo a >dir/a; echo b >dir/b; echo said; echo $$")
	})
	for i := range out {
		if out[i] != out[0] || !strings.HasPrefix(out[i], "said\n") {
			t.Errorf("run %d said %q, the first one %q", i, out[i], out[0])
		}
	}
	if n := lines(t, log); n != 1 {
		t.Errorf("the command ran %d times", n)
	}
	if got := test.Shape(t, w.work("dir")); got != "dir  \".\"\nfile \"a\" \"a\\n\"\nfile \"b\" \"b\\n\"\n" {
		t.Errorf("it made\n%s", got)
	}
	sound(t, w.repo())
}

// TestRunsBesideCommits stages entries while others commit, merge and consolidate:
// every entry is there afterwards, and every commit holds what those before did.
func TestRunsBesideCommits(t *testing.T) {
	alone(t)
	w := newWorld(t, act{})
	log := filepath.Join(w.dir, "log")
	var running atomic.Bool
	running.Store(true)
	var committers sync.WaitGroup
	for range 3 {
		committers.Go(func() {
			for running.Load() {
				if r := runProcess(w.repo(), "commit"); r.code != done {
					t.Errorf("%v", r)
				}
			}
		})
	}
	committers.Go(func() {
		for i := 0; running.Load(); i++ {
			// Who loses a race with a commit says so.
			if r := runProcess(w.repo(), "put", fmt.Sprint("beside", i%3), []string{"a", "b"}[i%2]); r.code != done && r.code != conflict {
				t.Errorf("%v", r)
			}
		}
	})
	runs := parallel + test.Count(t, 1000)
	var group errgroup.Group
	group.SetLimit(8)
	for i := range runs {
		group.Go(func() error {
			args := append([]string{"run", "--out", fmt.Sprint("made", i), "--"}, logged(log, i)...)
			if r := runProcess(w.repo(), args...); r.code != done || r.out != fmt.Sprintf("said %d\n", i) || r.err != "" {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	running.Store(false)
	committers.Wait()

	must(t, w.repo(), "commit")
	sound(t, w.repo())
	r := open(t, w.repo())
	tip, _, err := r.Tip(ctx, refs.Branch("main"))
	if err != nil {
		t.Fatal(err)
	}
	before := runs + 1
	commits := 0
	for c, err := range r.Log(ctx, tip) {
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range r.EntriesAt(ctx, c.Tree, entry.Run) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if commits++; commits == 1 && n != runs {
			t.Errorf("the branch has %d runs, want %d", n, runs)
		}
		if n > before {
			t.Errorf("commit %s has %d runs, the one after it %d", c.ID.Short(), n, before)
		}
		before = n
	}
	t.Logf("%d runs, %d commits", runs, commits)
	if n := lines(t, log); n != runs {
		t.Errorf("%d commands ran, want %d", n, runs)
	}
}

// TestParallelCommits lets many processes commit to one branch at once: none is
// lost, whoever says it is done.
func TestParallelCommits(t *testing.T) {
	alone(t)
	w := newWorld(t, act{})
	const n = parallel / 2
	atOnce(t, n, func(i int) *exec.Cmd {
		write(t, w.work(fmt.Sprint("value", i)), fmt.Sprintln("value", i))
		return process(w.repo(), "put", fmt.Sprint("key", i), fmt.Sprint("value", i))
	})
	for i := range n {
		if r := must(t, w.repo(), "get", fmt.Sprint("key", i)); r.out != fmt.Sprintln("value", i) {
			t.Errorf("%v", r)
		}
	}
	sound(t, w.repo())
}

// TestParallelInit makes one repository many times at once.
func TestParallelInit(t *testing.T) {
	alone(t)
	w := newWorld(t, act{empty: true})
	atOnce(t, parallel/2, func(i int) *exec.Cmd {
		if i%2 == 0 {
			return process(w.repo(), "init")
		}
		return process(w.repo(), "put", "--stage", fmt.Sprint("key", i), "a")
	})
	for i := 1; i < parallel/2; i += 2 {
		must(t, w.repo(), "get", fmt.Sprint("key", i))
	}
	sound(t, w.repo())
}

// maxPacks is how many packs there may be, whatever happens.
const maxPacks = 50

// TestManyMisses runs thousands of commands for the first time. The number of
// packs stays small all the while.
func TestManyMisses(t *testing.T) {
	alone(t)
	w := newWorld(t, act{})
	misses := test.Count(t, 5000)
	most := 0
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(4)
	for i := range misses {
		group.Go(func() error {
			var r result
			if i%10 == 0 {
				r = runProcess(w.repo(), "run", "--", "echo", fmt.Sprint("said ", i))
			} else {
				r = run(w.repo(), "run", "--", "echo", fmt.Sprint("said ", i))
			}
			if r.code != done || r.out != fmt.Sprintf("said %d\n", i) || r.err != "" {
				return fmt.Errorf("%v", r)
			}
			packs, err := filepath.Glob(filepath.Join(w.repo(), "packs", "*.pack"))
			mu.Lock()
			defer mu.Unlock()
			most = max(most, len(packs))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d misses, at most %d packs at a time", misses, most)
	if most >= maxPacks {
		t.Errorf("%d packs at a time, want fewer than %d", most, maxPacks)
	}
	must(t, w.repo(), "commit")
	sound(t, w.repo())
	r := open(t, w.repo())
	n := 0
	for _, err := range r.Entries(ctx, refs.Branch("main"), entry.Run) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != misses {
		t.Errorf("%d results are there, want %d", n, misses)
	}
}

// TestFileThatChanges saves, puts and runs with files that are written to all
// the while. What is kept is something that was in the file at one moment, or
// nothing is kept, and that is said.
func TestFileThatChanges(t *testing.T) {
	alone(t)
	w := newWorld(t, act{})
	const size = 2 << 20
	name := write(t, w.work("changing", "file"), strings.Repeat("a", size))
	write(t, w.work("changing", "still"), "still")
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := overwriteWith(name, 'a'+byte(i%26), size); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Duration(i%7) * time.Millisecond)
		}
	})
	saved, refused := 0, 0
	for i := range test.Count(t, 100) {
		for _, args := range [][]string{{"save", "changing", "changing"}, {"put", "changing", "changing/file"}} {
			r := run(w.repo(), args...)
			switch {
			case r.code == failed && strings.Contains(r.err, "chang") && strings.Contains(r.err, "hint: "):
				refused++
			case r.code != done:
				t.Errorf("%v", r)
			case args[0] == "put":
				saved++
				moment(t, i, must(t, w.repo(), "get", "changing").out, size)
			default:
				saved++
				to := test.Dir(t)
				must(t, w.repo(), "restore", "changing", "--to", to)
				moment(t, i, read(t, filepath.Join(to, "changing", "file")), size)
			}
		}
		// The result of a run is that of what it read, or it is not kept.
		r := run(w.repo(), "run", "--in", "changing/file", "--", "head", "-c", "1", "changing/file")
		if r.code != done || len(r.out) != 1 {
			t.Errorf("%v", r)
		}
	}
	close(stop)
	writer.Wait()
	t.Logf("%d kept, %d refused", saved, refused)
	// Now that it holds still, what was kept meanwhile must not stand in the way.
	for letter := 'a'; letter <= 'z'; letter++ {
		write(t, name, strings.Repeat(string(letter), size))
		if r := must(t, w.repo(), "run", "--in", "changing/file", "--", "head", "-c", "1", "changing/file"); r.out != string(letter) {
			t.Errorf("%c: %v", letter, r)
		}
	}
	write(t, name, "z at last")
	must(t, w.repo(), "save", "changing", "changing")
	to := test.Dir(t)
	must(t, w.repo(), "restore", "changing", "--to", to)
	if got := read(t, filepath.Join(to, "changing", "file")); got != "z at last" {
		t.Errorf("restored %.20q", got)
	}
	sound(t, w.repo())
}

// overwriteWith makes all bytes of a file the same letter, page by page: each
// write leaves its time. (Of one long write the file's time tells only when it
// began; who reads while it lasts cannot know.)
func overwriteWith(name string, letter byte, size int) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	page := bytes.Repeat([]byte{letter}, 4096)
	for at := 0; at < size; at += len(page) {
		if _, err := f.WriteAt(page, int64(at)); err != nil {
			return err
		}
	}
	return nil
}

// moment wants what was in the file at some moment: one letter all over, or the
// next one up to where its writer had come.
func moment(t *testing.T, i int, content string, size int) {
	t.Helper()
	if len(content) != size {
		t.Errorf("try %d: %d bytes", i, len(content))
		return
	}
	rest := strings.TrimLeft(content, content[:1])
	if rest != "" && (strings.Trim(rest, rest[:1]) != "" || content[0] != 'a'+(rest[0]-'a'+1)%26) {
		t.Errorf("try %d: a mixture of %q and %q was kept", i, content[:1], rest[:1])
	}
}
