package worktree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/trees"
)

// paths lists what is in a snapshot.
func (s *store) paths(snap Snapshot) []string {
	s.tb.Helper()
	var paths []string
	for _, e := range snap.Payload {
		if !e.Mode.IsDir() {
			paths = append(paths, e.Name)
			continue
		}
		err := trees.WalkAt(ctx, s.db, e.Name, e.ID, func(path string, e objects.Entry) (trees.Step, error) {
			if !e.Mode.IsDir() || e.ID == objects.EmptyTree {
				paths = append(paths, path)
			}
			return trees.Continue, nil
		})
		must(s.tb, err)
	}
	return paths
}

func TestUnchangedIsNotRead(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	test.Tree(t, dir, 1, 300)
	settle()
	first := s.take(dir, SnapshotOptions{})
	if first.Read != first.Count {
		t.Errorf("first: %d of %d files read", first.Read, first.Count)
	}
	again := s.take(dir, SnapshotOptions{Prev: first.Payload})
	if again.Read != 0 || again.ReadBytes != 0 {
		t.Errorf("again: %d files read", again.Read)
	}
	if diff := cmp.Diff(first.Payload, again.Payload); diff != "" {
		t.Errorf("the tree is another one:\n%s", diff)
	}
	if diff := cmp.Diff(first.Files, again.Files); diff != "" {
		t.Errorf("modes or times are others:\n%s", diff)
	}
	// Without the earlier payload the store is asked, and says the same.
	if again := s.take(dir, SnapshotOptions{}); again.Read != 0 {
		t.Errorf("without the earlier snapshot: %d files read", again.Read)
	}
}

// TestOnlyWhatChanged changes, adds and removes a few, and writes no other objects.
func TestOnlyWhatChanged(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{"a/1": "one", "a/2": "two", "b/c/3": "three", "b/4": "four", "d/5": "five", "x": "six"})
	settle()
	first := s.take(dir, SnapshotOptions{})
	files(t, dir, map[string]string{"b/c/3": "drei", "b/new": "new"})
	must(t, os.Remove(filepath.Join(dir, "x")))
	must(t, os.Chmod(filepath.Join(dir, "a/1"), 0o755))
	settle()
	w := &countingWriter{}
	second := s.takeWith(dir, first.Payload, w)
	// a/1 is read: its ctime is another.
	if second.Read != 3 {
		t.Errorf("%d files read, want 3", second.Read)
	}
	if w.trees != 4 { // base, a, b, b/c
		t.Errorf("%d trees written, want 4", w.trees)
	}
	want := []string{"base/a/1", "base/a/2", "base/b/4", "base/b/c/3", "base/b/new", "base/d/5"}
	if diff := cmp.Diff(want, s.paths(second)); diff != "" {
		t.Errorf("paths:\n%s", diff)
	}
	to := filepath.Join(t.TempDir(), "to")
	s.restore(second, to, RestoreOptions{})
	mustBe(t, to, dir)

	w = &countingWriter{}
	s.takeWith(dir, second.Payload, w)
	if w.trees != 0 || w.lanes != 0 {
		t.Errorf("unchanged: %d trees, %d lanes", w.trees, w.lanes)
	}
}

// A countingWriter counts what is asked of it.
type countingWriter struct {
	batch
	trees, lanes int
	before       func() // a blob is taken
}

func (w *countingWriter) PutTree(body []byte, base objects.ID) (objects.ID, error) {
	w.trees++
	return w.Batch.PutTree(body, base)
}

func (w *countingWriter) Lane() Lane {
	w.lanes++
	return &countingLane{w.batch.Lane(), w}
}

type countingLane struct {
	Lane
	w *countingWriter
}

func (l *countingLane) Space(n int) ([]byte, error) {
	if l.w.before != nil {
		l.w.before()
	}
	return l.Lane.Space(n)
}

func (l *countingLane) PutReader(ctx context.Context, size int64, r io.Reader) (objects.ID, error) {
	if l.w.before != nil {
		l.w.before()
	}
	return l.Lane.PutReader(ctx, size, r)
}

func (s *store) takeWith(dir string, prev objects.Entries, w *countingWriter) Snapshot {
	s.tb.Helper()
	snap, err := s.tryWith(dir, prev, w)
	must(s.tb, err)
	return snap
}

func (s *store) tryWith(dir string, prev objects.Entries, w *countingWriter) (Snapshot, error) {
	s.tb.Helper()
	b, err := s.db.NewBatch(ctx, odb.BatchOptions{})
	must(s.tb, err)
	defer b.Close()
	w.batch = batch{b}
	snap, err := Take(ctx, w, s.db, []Place{{Name: "base", Path: dir}}, SnapshotOptions{Prev: prev, Cache: s.cache, Parallel: 1})
	if err != nil {
		s.cache.Forget()
		return snap, err
	}
	must(s.tb, b.Commit(ctx, odb.Staged))
	s.reopen()
	return snap, nil
}

// TestLostObjects has a stat cache that knows more than the store.
func TestLostObjects(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	test.Tree(t, dir, 2, 100)
	settle()
	first := s.take(dir, SnapshotOptions{})
	other := newStore(t)
	other.cache = s.cache
	for _, prev := range []objects.Entries{nil, first.Payload} {
		snap, err := other.tryWith(dir, prev, &countingWriter{})
		if prev != nil {
			// Whoever claims that it is there is believed.
			continue
		}
		must(t, err)
		to := filepath.Join(t.TempDir(), "to")
		other.restore(snap, to, RestoreOptions{})
		mustBe(t, to, dir)
	}
}

func TestPlaces(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{"p/a": "1", "p/q/b": "2", "p/q/c": "3", "r/d": "4", "l": "-> p", "e/": "", ".git/x": "5"})
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, tt := range []struct {
		name   string
		places []Place
		want   []string
	}{
		{"a file", []Place{{Name: "base/p/a", Path: at("p/a")}}, []string{"base/p/a"}},
		{"a link", []Place{{Name: "base/l", Path: at("l")}}, []string{"base/l"}},
		{"several, under several names", []Place{
			{Name: "home/r", Path: at("r")}, {Name: "base/p/q", Path: at("p/q")}, {Name: "base/p/a", Path: at("p/a")},
		}, []string{"base/p/a", "base/p/q/b", "base/p/q/c", "home/r/d"}},
		{"one in the other", []Place{
			{Name: "base/p/q", Path: at("p/q")}, {Name: "base/p", Path: at("p")}, {Name: "base/p/q/b", Path: at("p/q/b")},
		}, []string{"base/p/a", "base/p/q/b", "base/p/q/c"}},
		{"one twice", []Place{{Name: "base/r", Path: at("r")}, {Name: "base/r", Path: at("r")}}, []string{"base/r/d"}},
		{"an empty directory", []Place{{Name: "base/e", Path: at("e")}}, []string{"base/e"}},
		{"names that Git refuses", []Place{{Name: "base/.git", Path: at(".git")}}, []string{"base/.git%/x"}},
		{"nothing", nil, nil},
	} {
		snap, err := s.try(tt.places, SnapshotOptions{})
		must(t, err)
		if diff := cmp.Diff(tt.want, s.paths(snap)); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
		to := t.TempDir()
		found, err := targets(ctx, s.db, snap.Payload, snap.Files, map[string]string{"base": to, "home": to})
		must(t, err)
		_, err = Restore(ctx, s.db, found, RestoreOptions{})
		must(t, err)
		for _, p := range tt.places {
			_, rel, _ := strings.Cut(p.Name, "/")
			mustBe(t, filepath.Join(to, rel), p.Path)
		}
	}

	for _, tt := range []struct {
		places []Place
		want   string
	}{
		{[]Place{{Name: "base/x", Path: at("x")}}, "x: no such file"},
		{[]Place{{Name: "base/../x", Path: at("p")}}, `".."`},
		{[]Place{{Name: "", Path: at("p")}}, "empty name"},
		{[]Place{{Name: "base/l", Path: at("l")}, {Name: "base/l/a", Path: at("l/a")}}, `"l" is no directory`},
	} {
		if _, err := s.try(tt.places, SnapshotOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.places, err, tt.want)
		}
	}
}

func TestExclude(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{
		"a.o": "", "a.c": "", "src/b.o": "", "src/b.c": "", "out/x": "", "src/out/y": "", "src/out/z.c": "", "tmp/": "",
	})
	for _, tt := range []struct {
		exclude []string
		want    string
	}{
		{nil, "a.c a.o out/x src/b.c src/b.o src/out/y src/out/z.c tmp"},
		{[]string{"*.o"}, "a.c out/x src/b.c src/out/y src/out/z.c tmp"},
		{[]string{"out"}, "a.c a.o src/b.c src/b.o tmp"},
		{[]string{"out/"}, "a.c a.o src/b.c src/b.o tmp"},
		{[]string{"src/out"}, "a.c a.o out/x src/b.c src/b.o tmp"},
		{[]string{"./src/out/"}, "a.c a.o out/x src/b.c src/b.o tmp"},
		{[]string{"**/*.c", "tmp"}, "a.o out/x src/b.o src/out/y"},
		{[]string{"src/*.{c,o}"}, "a.c a.o out/x src/out/y src/out/z.c tmp"},
		{[]string{dir + "/src"}, "a.c a.o out/x tmp"},
		{[]string{dir + "/**/*.c"}, "a.o out/x src/b.o src/out/y tmp"},
	} {
		snap := s.take(dir, SnapshotOptions{Exclude: tt.exclude})
		got := strings.ReplaceAll(strings.Join(s.paths(snap), " "), "base/", "")
		if got != tt.want {
			t.Errorf("without %q: %s, want %s", tt.exclude, got, tt.want)
		}
	}
	for _, bad := range []string{"", "[", "{a"} {
		if _, err := s.try(nil, SnapshotOptions{Exclude: []string{bad}}); err == nil {
			t.Errorf("pattern %q: no error", bad)
		}
	}
}

// TestExcludeBelowPlace matches a pattern with what it would be called from the
// base directory.
func TestExcludeBelowPlace(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{"node/.cache/x": "", "node/y": ""})
	place := []Place{{Name: "base/node", Path: filepath.Join(dir, "node")}}
	for _, pattern := range []string{"node/.cache", ".cache", "*/.cache", "node/.cache/**"} {
		snap, err := s.try(place, SnapshotOptions{Exclude: []string{pattern}})
		must(t, err)
		if got := s.paths(snap); !slices.Equal(got, []string{"base/node/y"}) {
			t.Errorf("without %q: %q", pattern, got)
		}
	}
}

func TestWhatIsLeftOut(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{
		".git/HEAD": "", "sub/.git/HEAD": "", "sub/f": "", "store/packs/p": "", "store/f": "", stagePrefix + "x/0": "", "g": "",
	})
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	here, _ := os.Getwd()
	must(t, os.Chdir(dir)) // the name of a socket must be short
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: "socket"})
	must(t, os.Chdir(here))
	must(t, err)

	keep := []string{filepath.Join(dir, "store"), filepath.Join(dir, "absent"), filepath.Join(dir, "g")}
	snap := s.take(dir, SnapshotOptions{Keep: keep})
	want := []string{"base/sub/.git%/HEAD", "base/sub/f"}
	if diff := cmp.Diff(want, s.paths(snap)); diff != "" {
		t.Errorf("saved:\n%s", diff)
	}
	slices.SortFunc(snap.Skipped, func(a, b Skipped) int { return strings.Compare(a.Path, b.Path) })
	skipped := []Skipped{{filepath.Join(dir, "fifo"), "fifo"}, {filepath.Join(dir, "socket"), "socket"}}
	if diff := cmp.Diff(skipped, snap.Skipped); diff != "" {
		t.Errorf("skipped:\n%s", diff)
	}

	cloned, err := s.try([]Place{{Name: "base", Path: dir, WithGit: true}}, SnapshotOptions{Keep: keep})
	must(t, err)
	if got := s.paths(cloned); !slices.Contains(got, "base/.git%/HEAD") {
		t.Errorf("with .git: %q", got)
	}
}

func TestNoTimes(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{"a": "1"})
	old := time.Unix(1, 0)
	must(t, os.Chtimes(filepath.Join(dir, "a"), old, old))
	snap := s.take(dir, SnapshotOptions{NoTimes: true})
	if len(snap.Files) != 1 || snap.Files[0].Times != nil {
		t.Errorf("times: %+v", snap.Files)
	}
	to := filepath.Join(t.TempDir(), "to")
	s.restore(snap, to, RestoreOptions{})
	if fi, err := os.Stat(filepath.Join(to, "a")); err != nil || time.Since(fi.ModTime()) > time.Minute {
		t.Errorf("restored without times: %v %v", fi, err)
	}
}

// TestChangingFile writes to files just when they are read.
func TestChangingFile(t *testing.T) {
	big := make([]byte, odb.MaxSpace+1)
	for _, tt := range []struct {
		name    string
		content []byte
		change  func(path string, round int) error
		rounds  int
		want    error
	}{
		{"grows once", []byte("a"), grow, 1, nil},
		{"grows twice", []byte("a"), grow, 2, nil},
		{"shrinks once", []byte("abc"), func(path string, _ int) error { return os.Truncate(path, 1) }, 1, nil},
		{"changes once, the size stays", []byte("abc"), func(path string, _ int) error { return os.WriteFile(path, []byte("xyz"), 0) }, 1, nil},
		{"is replaced by a file", []byte("abc"), replace, 1, nil},
		{"never holds still", []byte("a"), grow, 1000, &ChangedError{}},
		{"goes away", []byte("a"), func(path string, _ int) error { return os.Remove(path) }, 1, &ChangedError{}},
		{"becomes a link", []byte("a"), func(path string, _ int) error {
			return errors.Join(os.Remove(path), os.Symlink("nowhere", path))
		}, 1, &ChangedError{}},
		{"becomes a directory", []byte("a"), func(path string, _ int) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o755))
		}, 1, &ChangedError{}},
		{"becomes a fifo", []byte("a"), func(path string, _ int) error {
			return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o644))
		}, 1, &ChangedError{}},
		{"is big and shrinks", big, func(path string, _ int) error { return os.Truncate(path, 1<<20) }, 1, nil},
		{"is big and becomes small", big, func(path string, _ int) error { return os.Truncate(path, 10) }, 1, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t)
			dir := t.TempDir()
			path := filepath.Join(dir, "z") // after the one that gives the chance
			must(t, os.WriteFile(path, tt.content, 0o644))
			must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("first"), 0o644))
			settle()
			round := 0
			w := &countingWriter{}
			w.before = func() {
				if round < tt.rounds {
					round++
					must(t, tt.change(path, round))
				}
			}
			snap, err := s.tryWith(dir, nil, w)
			if tt.want != nil {
				var changed *ChangedError
				if !errors.As(err, &changed) || changed.Path != path {
					t.Fatalf("error %v, want one that names %s", err, path)
				}
				return
			}
			must(t, err)
			to := filepath.Join(t.TempDir(), "to")
			s.restore(snap, to, RestoreOptions{})
			if got, want := content(t, filepath.Join(to, "z")), content(t, path); got != want {
				t.Errorf("saved %.20q, want %.20q", got, want)
			}
			// And the stat cache has learned nothing wrong.
			snap = s.take(dir, SnapshotOptions{Prev: snap.Payload})
			s.restore(snap, to, RestoreOptions{})
			mustBe(t, to, dir)
		})
	}
}

func grow(path string, _ int) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("more")
	return err
}

func replace(path string, round int) error {
	return errors.Join(os.WriteFile(path+".new", fmt.Appendf(nil, "%03d", round), 0o644), os.Rename(path+".new", path))
}

func content(tb testing.TB, path string) string {
	tb.Helper()
	data, err := os.ReadFile(path)
	must(tb, err)
	return string(data)
}

func TestUnreadable(t *testing.T) {
	asNobody(t, func(t *testing.T) {
		for _, name := range []string{"sub/secret", "sub"} {
			s := newStore(t)
			dir := t.TempDir()
			files(t, dir, map[string]string{"a": "1", "sub/secret": "2", "z": "3"})
			path := filepath.Join(dir, name)
			must(t, os.Chmod(path, 0))
			_, err := s.try([]Place{{Name: "base", Path: dir}}, SnapshotOptions{})
			var at *fs.PathError
			if !errors.As(err, &at) || at.Path != path || !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", name, err)
			}
			must(t, os.Chmod(path, 0o700))
		}
	})
}

func TestCancelledSnapshot(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	test.Tree(t, dir, 3, 100)
	b, err := s.db.NewBatch(ctx, odb.BatchOptions{})
	must(t, err)
	defer b.Close()
	cancelled, cancel := context.WithCancel(ctx)
	w := &countingWriter{batch: batch{b}, before: cancel}
	_, err = Take(cancelled, w, s.db, []Place{{Name: "base", Path: dir}}, SnapshotOptions{Parallel: 1})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it reads: %v", err)
	}
	if _, err = Take(cancelled, w, s.db, []Place{{Name: "base", Path: dir}}, SnapshotOptions{Parallel: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

func TestLooksHashed(t *testing.T) {
	for name, want := range map[string]bool{
		"": false, "a": false, "index.js": false, "1234567890123456789012345": true, "internationalizationmodule.js": false,
		"b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c-d": true, "libfoo-0123456789abcdef.rlib": false,
		"2e9jq4n8cbp3mfh5p0tkvgj1r6v4a9R": true, "b5bb9d8014a0f9b1": false, "20240131-000000.log": false,
	} {
		if got := looksHashed(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// TestManyFilePlaces saves and restores more files, one by one, than a process
// may have open.
func TestManyFilePlaces(t *testing.T) {
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	few := limit
	few.Cur = 100
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	s := newStore(t)
	from, to := t.TempDir(), t.TempDir()
	var places []Place
	for i := range 200 {
		name := fmt.Sprintf("d%d/f%d", i%3, i)
		files(t, from, map[string]string{name: name})
		places = append(places, Place{Name: "base/" + name, Path: filepath.Join(from, name)})
	}
	snap, err := s.try(places, SnapshotOptions{})
	must(t, err)
	s.restore(snap, to, RestoreOptions{})
	sameButTimes(t, describe(t, from), describe(t, to))
}
