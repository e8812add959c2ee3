package worktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
)

// TestOverTheSame restores over what was restored: nothing is written, and with
// the stat cache nothing is read.
func TestOverTheSame(t *testing.T) {
	s := newStore(t)
	dir := filepath.Join(t.TempDir(), "from")
	must(t, os.Mkdir(dir, 0o755))
	test.Tree(t, dir, 4, 300)
	odd(t, dir)
	snap := s.take(dir, SnapshotOptions{})
	to := filepath.Join(t.TempDir(), "to")
	s.restore(snap, to, RestoreOptions{})
	before := inodes(t, to)
	for name, forget := range map[string]bool{"with the stat cache": false, "without": true} {
		if forget {
			s.cache = nil
		}
		report := s.restore(snap, to, RestoreOptions{Delete: true})
		if report.Kept != snap.Count || report.Written != 0 || report.Adjusted != 0 || report.Deleted != 0 {
			t.Errorf("%s: %+v", name, report)
		}
		mustBe(t, to, dir)
		if diff := cmp.Diff(before, inodes(t, to)); diff != "" {
			t.Errorf("%s: files were made anew:\n%s", name, diff)
		}
	}
}

func inodes(tb testing.TB, dir string) map[string]uint64 {
	found := map[string]uint64{}
	for _, line := range describe(tb, dir) {
		var name string
		fmt.Sscanf(line, "%q", &name)
		var st unix.Stat_t
		must(tb, unix.Lstat(filepath.Join(dir, name), &st))
		found[name] = st.Ino
	}
	return found
}

// TestOverAnother turns every kind of thing into every other.
func TestOverAnother(t *testing.T) {
	kinds := map[string]func(path string) error{
		"nothing":    func(string) error { return nil },
		"file":       func(path string) error { return os.WriteFile(path, []byte("x"), 0o644) },
		"other":      func(path string) error { return os.WriteFile(path, []byte("y"), 0o644) },
		"executable": func(path string) error { return os.WriteFile(path, []byte("x"), 0o755) },
		"readonly":   func(path string) error { return os.WriteFile(path, []byte("z"), 0o400) },
		"link":       func(path string) error { return os.Symlink("x", path) },
		"dirlink":    func(path string) error { return os.Symlink("../outside", path) },
		"empty":      func(path string) error { return os.Mkdir(path, 0o755) },
		"directory": func(path string) error {
			return errors.Join(os.MkdirAll(path+"/sub", 0o755), os.WriteFile(path+"/sub/f", []byte("x"), 0o644))
		},
		"closed": func(path string) error {
			return errors.Join(os.MkdirAll(path+"/sub", 0o755), os.WriteFile(path+"/sub/g", []byte("x"), 0o644),
				os.Chmod(path+"/sub", 0o500), os.Chmod(path, 0o500))
		},
	}
	build := func(t *testing.T, dir string, kind func(from, to string) string) {
		must(t, os.MkdirAll(dir, 0o755))
		for from := range kinds {
			for to := range kinds {
				must(t, kinds[kind(from, to)](filepath.Join(dir, from+"-"+to)))
			}
		}
	}
	run := func(t *testing.T) {
		for _, old := range []bool{false, true} {
			oldKernel = old
			s := newStore(t)
			root := t.TempDir()
			files(t, root, map[string]string{"outside/sub/f": "precious", "outside/keep": "precious"})
			outside := describe(t, filepath.Join(root, "outside"))
			want, dir := filepath.Join(root, "want"), filepath.Join(root, "dir")
			build(t, want, func(_, to string) string { return to })
			build(t, dir, func(from, _ string) string { return from })
			snap := s.take(want, SnapshotOptions{})
			report := s.restore(snap, dir, RestoreOptions{Delete: true})
			mustBe(t, dir, want)
			leftovers(t, dir)
			if report.Deleted == 0 || report.Written == 0 || report.Kept == 0 {
				t.Errorf("report %+v", report)
			}
			if diff := cmp.Diff(outside, describe(t, filepath.Join(root, "outside"))); diff != "" {
				t.Errorf("a link was followed:\n%s", diff)
			}
			oldKernel = false
			openAll(dir)
			openAll(want)
		}
	}
	if os.Geteuid() == 0 {
		t.Run("root", run)
	}
	asNobody(t, run)
}

// openAll gives the owner back his permissions, so that the test can clean up.
func openAll(dir string) {
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if e.IsDir() {
			os.Chmod(path, 0o755)
		}
		return nil
	})
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if e.IsDir() {
			os.Chmod(path, 0o755)
		}
		return nil
	})
}

func TestDeleteAndKeep(t *testing.T) {
	s := newStore(t)
	from, to := t.TempDir(), t.TempDir()
	files(t, from, map[string]string{"a": "1", "d/b": "2"})
	snap := s.take(from, SnapshotOptions{})
	extra := map[string]string{
		".git/HEAD": "mine", "x": "", "d/y/z": "", "store/p": "", "d/store": "", "emptied/": "", "sub/.git/HEAD": "", "l": "-> a",
	}
	files(t, to, extra)
	keep := []string{filepath.Join(to, "store"), filepath.Join(to, "d/store")}
	report := s.restore(snap, to, RestoreOptions{Keep: keep})
	if report.Deleted != 0 {
		t.Errorf("deleted unasked: %+v", report)
	}
	for name := range extra {
		if _, err := os.Lstat(filepath.Join(to, name)); err != nil {
			t.Error(err)
		}
	}
	var told []Change
	o := RestoreOptions{Delete: true, Keep: keep, DryRun: true, Note: func(c Change) { told = append(told, c) }}
	before := describe(t, to)
	dry := s.restore(snap, to, o)
	if diff := cmp.Diff(before, describe(t, to)); diff != "" {
		t.Errorf("a dry run changed:\n%s", diff)
	}
	o.DryRun, o.Note = false, nil
	report = s.restore(snap, to, o)
	if report.Deleted != 5 || dry.Deleted != 5 {
		t.Errorf("deleted %d, dry run %d, want 5", report.Deleted, dry.Deleted)
	}
	var paths []string
	for _, c := range told {
		if c.What == Delete {
			rel, _ := filepath.Rel(to, c.Path)
			paths = append(paths, rel)
		}
	}
	if want := []string{"d/y", "emptied", "l", "sub", "x"}; !slices.Equal(paths, want) {
		t.Errorf("would delete %q, want %q", paths, want)
	}
	left, _ := os.ReadDir(to)
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if want := []string{".git", "a", "d", "store"}; !slices.Equal(names, want) {
		t.Errorf("left %q, want %q", names, want)
	}
}

// TestDryRun says the same as the restore that follows.
func TestDryRun(t *testing.T) {
	s := newStore(t)
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "up", "to")
	files(t, from, map[string]string{"a": "1", "d/b": "22", "d/e/c": "333", "x": "1", "s": "4"})
	must(t, os.Chmod(filepath.Join(from, "s"), 0o600))
	snap := s.take(from, SnapshotOptions{})
	say := func(c Change) string {
		rel, _ := filepath.Rel(to, c.Path)
		return fmt.Sprintf("%s %s %d %d", c.What, rel, c.Files, c.Bytes)
	}
	both := func(want ...string) {
		t.Helper()
		var told, done []string
		dry := s.restore(snap, to, RestoreOptions{DryRun: true, Delete: true, Note: func(c Change) { told = append(told, say(c)) }})
		report := s.restore(snap, to, RestoreOptions{Delete: true, Note: func(c Change) { done = append(done, say(c)) }})
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("dry run:\n%s", diff)
		}
		if diff := cmp.Diff(told, done); diff != "" {
			t.Errorf("what was done is not what was announced:\n%s", diff)
		}
		if diff := cmp.Diff(dry, report); diff != "" {
			t.Errorf("reports differ:\n%s", diff)
		}
	}
	both("add . 5 8")
	if _, err := os.Stat(to); err != nil {
		t.Fatal(err)
	}
	both()
	must(t, os.RemoveAll(filepath.Join(to, "d")))
	must(t, os.WriteFile(filepath.Join(to, "a"), []byte("other"), 0o644))
	must(t, os.Chmod(filepath.Join(to, "s"), 0o644))
	files(t, to, map[string]string{"new/x": ""})
	want := []string{"delete new 0 0", "replace a 1 1", "add d 2 5", "adjust s 0 0", "adjust . 0 0"}
	both(want...)
	mustBe(t, to, from)
}

// TestCollision plays a file system that folds case: no such one may be at hand.
func TestCollision(t *testing.T) {
	defer func() { hook = nil }()
	s := newStore(t)
	for _, tt := range []struct{ first, second, op string }{
		{"README", "readme", "create"}, {"Src/f", "src/f", "mkdir"}, {"A/Link", "A/link", "symlink"},
	} {
		from := t.TempDir()
		content := "x"
		if tt.op == "symlink" {
			content = "-> x"
		}
		files(t, from, map[string]string{tt.first: content, tt.second: content})
		snap := s.take(from, SnapshotOptions{})
		root := t.TempDir()
		to := filepath.Join(root, "to")
		// When the second name is made, the first one leads to the same file.
		hook = func(op, path string) error {
			rel, _ := filepath.Rel(to, path)
			name := strings.TrimSuffix(tt.second, "/f")
			if op != tt.op || rel != name {
				return nil
			}
			stages, _ := filepath.Glob(filepath.Join(root, stagePrefix+"*", "0"))
			if len(stages) != 1 {
				t.Fatalf("stages %q", stages)
			}
			first := filepath.Join(stages[0], strings.TrimSuffix(tt.first, "/f"))
			return os.Rename(first, filepath.Join(stages[0], name))
		}
		_, err := s.tryRestore(snap, to, RestoreOptions{})
		hook = nil
		var collision *CollisionError
		if !errors.As(err, &collision) {
			t.Errorf("%s and %s: %v", tt.first, tt.second, err)
		}
		if names, _ := os.ReadDir(root); len(names) != 0 {
			t.Errorf("left behind: %v", names)
		}
	}
}

// TestKilled has the stage of a restore that was killed.
func TestKilled(t *testing.T) {
	s := newStore(t)
	root := t.TempDir()
	from, to := filepath.Join(root, "from"), filepath.Join(root, "to")
	files(t, from, map[string]string{"a/b": "1", "c": "2"})
	snap := s.take(from, SnapshotOptions{})
	dead := filepath.Join(root, stagePrefix+"dead")
	files(t, dead, map[string]string{"0/a/b": "1"})
	alive := filepath.Join(root, stagePrefix+"alive")
	files(t, alive, map[string]string{"0/a/b": "1"})
	fd, err := openDir(unix.AT_FDCWD, alive)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Flock(fd, unix.LOCK_EX))

	s.restore(snap, to, RestoreOptions{})
	if _, err := os.Stat(dead); err != nil {
		t.Errorf("a young stage is gone: %v", err)
	}
	staleAfter = 0
	defer func() { staleAfter = time.Minute }()
	s.restore(snap, filepath.Join(root, "to2"), RestoreOptions{})
	if _, err := os.Stat(dead); err == nil {
		t.Error("a dead stage is still there")
	}
	if _, err := os.Stat(alive); err != nil {
		t.Errorf("a stage in use is gone: %v", err)
	}
	must(t, os.RemoveAll(alive))
	mustBe(t, to, from)
}

func TestCancelledRestore(t *testing.T) {
	defer func() { hook = nil }()
	s := newStore(t)
	from, root := t.TempDir(), t.TempDir()
	test.Tree(t, from, 6, 200)
	snap := s.take(from, SnapshotOptions{})
	for _, at := range []string{"mkdir", "create", "rename"} {
		cancelled, cancel := context.WithCancel(ctx)
		hook = func(op, path string) error {
			if op == at {
				cancel()
			}
			return nil
		}
		targets := []Target{
			{Dir: filepath.Join(root, "up"), Name: "a/to", Mode: objects.ModeDir, ID: snap.Payload[0].ID},
			{Dir: filepath.Join(root, "up"), Name: "b/to", Mode: objects.ModeDir, ID: snap.Payload[0].ID},
			{Dir: filepath.Join(root, "up/a/c"), Mode: objects.ModeDir, ID: snap.Payload[0].ID},
		}
		if _, err := Restore(cancelled, s.db, targets, RestoreOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %s: %v", at, err)
		}
		if names, _ := os.ReadDir(root); len(names) != 0 {
			t.Errorf("cancelled at %s: left behind: %v", at, names)
		}
		cancel()
	}
}

// TestAtOnce restores the same to the same place, several times at once.
func TestAtOnce(t *testing.T) {
	s := newStore(t)
	from, root := t.TempDir(), t.TempDir()
	test.Tree(t, from, 7, 100)
	snap := s.take(from, SnapshotOptions{})
	to := filepath.Join(root, "to")
	for round := range 5 {
		if round > 0 {
			must(t, os.WriteFile(filepath.Join(to, "f1"), []byte("other"), 0o644))
		}
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = Restore(ctx, s.db, []Target{{
					Dir: to, Mode: objects.ModeDir, ID: snap.Payload[0].ID, Modes: snap.Files[0].Modes, Times: snap.Files[0].Times,
				}}, RestoreOptions{})
			})
		}
		wg.Wait()
		must(t, errors.Join(errs...))
		s.restore(snap, to, RestoreOptions{})
		mustBe(t, to, from)
	}
	leftovers(t, root)
}

func TestMeter(t *testing.T) {
	s := newStore(t)
	from := t.TempDir()
	test.Tree(t, from, 8, 200)
	var m countingMeter
	snap := s.take(from, SnapshotOptions{Meter: &m})
	if want := (counts{snap.Read, snap.ReadBytes}); m.expected != want || m.done != want {
		t.Errorf("snapshot: expected %v, done %v, want %v", m.expected, m.done, want)
	}
	m = countingMeter{}
	report := s.restore(snap, filepath.Join(t.TempDir(), "to"), RestoreOptions{Meter: &m})
	if want := (counts{report.Written, report.Bytes}); m.expected != want || m.done != want {
		t.Errorf("restore: expected %v, done %v, want %v", m.expected, m.done, want)
	}
}

type counts struct {
	files int
	bytes int64
}

type countingMeter struct {
	mu             sync.Mutex
	expected, done counts
}

func (m *countingMeter) Expect(files int, bytes int64) { m.add(&m.expected, files, bytes) }
func (m *countingMeter) Done(files int, bytes int64)   { m.add(&m.done, files, bytes) }

func (m *countingMeter) add(c *counts, files int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.files += files
	c.bytes += bytes
}

// TestUntouchedTimes restores without times: only what changes gets a new one.
func TestUntouchedTimes(t *testing.T) {
	s := newStore(t)
	from, to := t.TempDir(), t.TempDir()
	files(t, from, map[string]string{"a": "1", "d/b": "2", "e/f": "3"})
	snap := s.take(from, SnapshotOptions{NoTimes: true})
	s.restore(snap, to, RestoreOptions{})
	must(t, os.Remove(filepath.Join(to, "d/b")))
	old := time.Unix(1_000_000_000, 0)
	for _, name := range []string{"a", "d", "e", "e/f", "."} {
		must(t, os.Chtimes(filepath.Join(to, name), old, old))
	}
	s.restore(snap, to, RestoreOptions{})
	for name, kept := range map[string]bool{"a": true, "d": false, "d/b": false, "e": true, "e/f": true, ".": true} {
		fi, err := os.Stat(filepath.Join(to, name))
		if err != nil || fi.ModTime().Equal(old) != kept {
			t.Errorf("%s: %v %v", name, fi.ModTime(), err)
		}
	}
}
