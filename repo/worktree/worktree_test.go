package worktree

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

var ctx = context.Background()

// A store is where tests save to and restore from.
type store struct {
	tb    testing.TB
	dir   string
	db    *odb.DB
	stat  string // where the cache is
	cache *statcache.Cache
}

func newStore(tb testing.TB) *store {
	tb.Helper()
	dir := tb.TempDir()
	db, err := odb.Open(filepath.Join(dir, "packs"), odb.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	stat := filepath.Join(dir, "stat")
	return &store{tb: tb, dir: dir, db: db, stat: stat, cache: statcache.Open(stat)}
}

// reopen forgets what is in memory.
func (s *store) reopen() {
	s.tb.Helper()
	if err := s.cache.Flush(ctx); err != nil {
		s.tb.Fatal(err)
	}
	s.cache = statcache.Open(s.stat)
}

type batch struct{ *odb.Batch }

func (b batch) Lane() Lane { return b.Batch.Lane() }

// try saves the places and commits them.
func (s *store) try(places []Place, o SnapshotOptions) (Snapshot, error) {
	s.tb.Helper()
	b, err := s.db.NewBatch(ctx, odb.BatchOptions{BlockSize: odb.BigBlock})
	if err != nil {
		s.tb.Fatal(err)
	}
	defer b.Close()
	o.Cache = s.cache
	snap, err := Take(ctx, batch{b}, s.db, places, o)
	if err != nil {
		s.cache.Forget()
		return snap, err
	}
	if err := b.Commit(ctx, odb.Staged); err != nil {
		s.tb.Fatal(err)
	}
	s.reopen()
	return snap, nil
}

func (s *store) take(dir string, o SnapshotOptions) Snapshot {
	s.tb.Helper()
	snap, err := s.try([]Place{{Name: "base", Path: dir}}, o)
	if err != nil {
		s.tb.Fatal(err)
	}
	return snap
}

func (s *store) tryRestore(snap Snapshot, dir string, o RestoreOptions) (Report, error) {
	s.tb.Helper()
	found, err := targets(ctx, s.db, snap.Payload, snap.Files, map[string]string{"base": dir})
	if err != nil {
		s.tb.Fatal(err)
	}
	o.Cache = s.cache
	report, err := Restore(ctx, s.db, found, o)
	s.reopen()
	return report, err
}

func (s *store) restore(snap Snapshot, dir string, o RestoreOptions) Report {
	s.tb.Helper()
	report, err := s.tryRestore(snap, dir, o)
	if err != nil {
		s.tb.Fatal(err)
	}
	return report
}

// mustBe complains unless b is what a is, to the bit.
func mustBe(tb testing.TB, b, a string) {
	tb.Helper()
	if diff := cmp.Diff(describe(tb, a), describe(tb, b)); diff != "" {
		tb.Errorf("%s is not like %s:\n%s", b, a, diff)
	}
}

// describe returns a line for each name in dir and for dir itself.
func describe(tb testing.TB, dir string) []string {
	tb.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		line := fmt.Sprintf("%q %o %d", rel, st.Mode, st.Mtim.Nano())
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %s", len(data), objects.Sum(objects.Blob, data))
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", to)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return lines
}

// files makes files: "name" holds "content"; a name that ends in a slash is a
// directory, a content that begins with "-> " a link.
func files(tb testing.TB, dir string, content map[string]string) {
	tb.Helper()
	for name, content := range content {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			must(tb, os.MkdirAll(path, 0o755))
			continue
		}
		must(tb, os.MkdirAll(filepath.Dir(path), 0o755))
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			must(tb, os.Symlink(to, path))
		} else {
			must(tb, os.WriteFile(path, []byte(content), 0o644))
		}
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// settle waits until what was just written is old enough for the stat cache.
func settle() { time.Sleep(2 * statcache.Racy) }

func TestRoundTrip(t *testing.T) {
	s := newStore(t)
	for seed := range uint64(test.Count(t, 30)) {
		dir := filepath.Join(t.TempDir(), "from")
		must(t, os.Mkdir(dir, 0o755))
		test.Tree(t, dir, seed, 200)
		snap := s.take(dir, SnapshotOptions{})
		to := filepath.Join(t.TempDir(), "to")
		report := s.restore(snap, to, RestoreOptions{})
		mustBe(t, to, dir)
		if report.Written != snap.Count || report.Kept != 0 || report.Bytes != snap.Bytes {
			t.Errorf("report %+v of a snapshot of %d files, %d bytes", report, snap.Count, snap.Bytes)
		}
		leftovers(t, filepath.Dir(to))
	}
}

// leftovers complains of stages that are still there.
func leftovers(tb testing.TB, dir string) {
	tb.Helper()
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if strings.HasPrefix(e.Name(), stagePrefix) {
			tb.Errorf("left behind: %s", path)
		}
		return err
	})
}

// TestFindAndDiff lets find and diff compare, which know nothing of this package.
func TestFindAndDiff(t *testing.T) {
	s := newStore(t)
	dir := filepath.Join(t.TempDir(), "from")
	must(t, os.Mkdir(dir, 0o755))
	test.Tree(t, dir, 42, 200)
	odd(t, dir)
	to := filepath.Join(t.TempDir(), "to")
	s.restore(s.take(dir, SnapshotOptions{}), to, RestoreOptions{})
	if out, err := exec.Command("diff", "-r", "--no-dereference", dir, to).CombinedOutput(); err != nil {
		t.Errorf("diff: %v\n%s", err, out)
	}
	find := func(dir string) string {
		out, err := exec.Command("sh", "-c", `cd "$1" && find . -printf '%P %y %m %s %T@ %l\n' | sed 's/^\(.*\) d \([0-9]*\) [0-9]* /\1 d \2 /' | sort`, "sh", dir).Output()
		must(t, err)
		return string(out)
	}
	if diff := cmp.Diff(find(dir), find(to)); diff != "" {
		t.Errorf("find differs:\n%s", diff)
	}
}

// odd adds what Git has no words for.
func odd(tb testing.TB, dir string) {
	tb.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	files(tb, dir, map[string]string{
		"secret": "0600", "readonly": "0444", "setuid": "4755", "none": "0200", "odd/x": "x", "odd/empty/": "",
		"odd/deep/er/": "", "group/": "", "sub/.git/config": "[core]", "sub/.git%": "x", "sub/.GIT/x": "y", "a": "1", "a.c": "2",
		"a-": "3", "d/f": "4", "d.c": "5", "d-": "6", "\xff\xfe": "no UTF-8", "new\nline": "7", " ": "8", "link": "-> nowhere",
		"dirlink": "-> odd", strings.Repeat("n", 255): "9", "old": "10", "future": "11", "linked": "12", "exec": "13", "before": "14",
	})
	for name, mode := range map[string]uint32{
		"secret": 0o600, "readonly": 0o444, "setuid": 0o4755, "odd/x": 0o710, "group": 0o2775, "odd/empty": 0o700, "exec": 0o755,
		"none": 0, "odd": 0o1777,
	} {
		must(tb, unix.Chmod(at(name), mode))
	}
	must(tb, os.Link(at("linked"), at("linked2")))
	for name, when := range map[string]time.Time{
		"old": time.Unix(1, 1), "future": time.Unix(1<<33, 999_999_999), "before": time.Unix(-86400, 5), "odd/deep": time.Unix(1_500_000_000, 0),
	} {
		must(tb, os.Chtimes(at(name), when, when))
	}
	must(tb, unix.UtimesNanoAt(unix.AT_FDCWD, at("link"), []unix.Timespec{{Sec: 7}, {Sec: 7, Nsec: 7}}, unix.AT_SYMLINK_NOFOLLOW))
}

func TestOddFiles(t *testing.T) {
	s := newStore(t)
	dir := filepath.Join(t.TempDir(), "from")
	odd(t, dir)
	snap := s.take(dir, SnapshotOptions{})
	to := filepath.Join(t.TempDir(), "to")
	s.restore(snap, to, RestoreOptions{})
	mustBe(t, to, dir)
	// What the entry says survives being written down.
	meta, err := entry.ParseMeta(entry.Meta{Kind: entry.Save, Files: snap.Files}.Encode())
	if diff := cmp.Diff(meta.Files, snap.Files); err != nil || diff != "" {
		t.Errorf("meta: %v\n%s", err, diff)
	}
}

// TestDeep has paths longer than a system call takes.
func TestDeep(t *testing.T) {
	s := newStore(t)
	from := filepath.Join(t.TempDir(), "from")
	must(t, os.Mkdir(from, 0o755))
	fd, err := openDir(unix.AT_FDCWD, from)
	must(t, err)
	name := strings.Repeat("d", 100)
	for range 120 {
		must(t, unix.Mkdirat(fd, name, 0o755))
		f, err := openAt(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
		must(t, err)
		unix.Close(f)
		must(t, symlinkAt("to", fd, "link"))
		next, err := openDir(fd, name)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	snap := s.take(from, SnapshotOptions{})
	if snap.Count != 240 {
		t.Errorf("%d files, want 240", snap.Count)
	}
	to := filepath.Join(t.TempDir(), "to")
	for range 2 {
		s.restore(snap, to, RestoreOptions{})
	}
	if again := s.take(to, SnapshotOptions{}); again.Payload[0].ID != snap.Payload[0].ID {
		t.Error("what was restored is not what was saved")
	}
	for _, dir := range []string{from, to} {
		must(t, removeAll(unix.AT_FDCWD, dir))
	}
}

// targets returns the targets that bring an entry back: for each of files what
// stands there in the payload, and goes into the directory that dirs has for the
// first part of its path. Files for whose first part dirs has nothing are left
// out.
func targets(ctx context.Context, r objects.Reader, payload objects.Entries, files []entry.Files, dirs map[string]string) ([]Target, error) {
	var found []Target
	for _, f := range files {
		first, rest, _ := strings.Cut(f.Path, "/")
		dir, ok := dirs[first]
		if !ok {
			continue
		}
		e, ok := payload.Find(first)
		if ok && rest != "" {
			var err error
			if e, err = trees.Lookup(ctx, r, e.ID, rest); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Path, err)
			}
		} else if !ok {
			return nil, fmt.Errorf("%s: %w", f.Path, objects.ErrNotFound)
		}
		names := strings.Split(rest, "/")
		for i, name := range names {
			names[i] = entry.UnescapeName(name)
		}
		found = append(found, Target{
			Dir: dir, Name: strings.Join(names, "/"), Mode: e.Mode, ID: e.ID, Modes: f.Modes, Times: f.Times,
		})
	}
	return found, nil
}
