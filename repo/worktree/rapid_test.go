package worktree

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// growTree fills a directory with a few names, mostly the same ones each time, so
// that one tree often has a file where another has a directory.
func growTree(r *rapid.T, dir string, depth int) error {
	names := []string{"a", "b", "a.c", "a-", ".git", "\xff", "x y"}
	for _, name := range names[:rapid.IntRange(0, len(names)).Draw(r, "names")] {
		path := filepath.Join(dir, name)
		perm := rapid.SampledFrom([]os.FileMode{0o644, 0o755, 0o600, 0o444, 0o640}).Draw(r, "perm")
		var err error
		switch kind := rapid.SampledFrom([]string{"none", "file", "file", "file", "link", "dir", "dir"}).Draw(r, "kind"); {
		case kind == "file":
			content := rapid.SampledFrom([]string{"", "x", "y", "xx", strings.Repeat("long", 9999)}).Draw(r, "content")
			err = os.WriteFile(path, []byte(content), 0o600)
			if err == nil {
				err = os.Chmod(path, perm)
			}
		case kind == "link":
			err = os.Symlink(rapid.SampledFrom([]string{"a", "..", "b/c", "/nowhere"}).Draw(r, "to"), path)
		case kind == "dir" && depth > 0:
			if err = os.Mkdir(path, 0o700); err == nil {
				err = growTree(r, path, depth-1)
			}
			if err == nil {
				err = os.Chmod(path, perm|0o700)
			}
		default:
			continue
		}
		if err != nil {
			return err
		}
		when := time.Unix(1_500_000_000+int64(rapid.IntRange(0, 3).Draw(r, "time")), 0)
		times := []unix.Timespec{unix.NsecToTimespec(when.UnixNano()), unix.NsecToTimespec(when.UnixNano())}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}

// TestAnythingOverAnything saves trees and restores each over the one before.
// The stat cache goes on through all of it, and is never wrong.
func TestAnythingOverAnything(t *testing.T) {
	must(t, flag.Set("rapid.checks", strconv.Itoa(test.Count(t, 200))))
	s := newStore(t)
	n := 0
	root := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint(n))
		to := filepath.Join(dir, "to")
		var before objects.Entries
		for step := range rapid.IntRange(2, 4).Draw(r, "trees") {
			from := filepath.Join(dir, fmt.Sprint("from", step))
			if err := os.MkdirAll(from, 0o755); err != nil {
				r.Fatal(err)
			}
			if err := growTree(r, from, 3); err != nil {
				r.Fatal(err)
			}
			places := []Place{{Name: "base", Path: from, WithGit: true}}
			snap, err := s.try(places, SnapshotOptions{Prev: before})
			if err != nil {
				r.Fatal(err)
			}
			before = snap.Payload
			if rapid.Bool().Draw(r, "forget") {
				s.stat = filepath.Join(s.dir, fmt.Sprint("stat", n, step))
				s.cache = statcache.Open(s.stat)
			}
			report, err := Restore(ctx, s.db, []Target{{
				Dir: dir, Name: "to", Mode: objects.ModeDir, ID: snap.Payload[0].ID,
				Modes: snap.Files[0].Modes, Times: snap.Files[0].Times, WithGit: true,
			}}, RestoreOptions{Delete: true, Cache: s.cache})
			if err != nil {
				r.Fatal(err)
			}
			s.reopen()
			if report.Written+report.Kept != snap.Count {
				r.Errorf("report %+v, want %d files in all", report, snap.Count)
			}
			if diff := cmp.Diff(describe(t, from), describe(t, to)); diff != "" {
				r.Errorf("step %d:\n%s", step, diff)
			}
			// What was restored, saved again, is the same, and all of it is known.
			places[0].Path = to
			again, err := s.try(places, SnapshotOptions{Prev: before})
			if err != nil {
				r.Fatal(err)
			}
			if again.Payload[0].ID != snap.Payload[0].ID {
				r.Errorf("step %d: saved again it is another tree", step)
			}
			if again.Read > 0 && step == 0 {
				r.Errorf("%d of %d restored files had to be read again", again.Read, again.Count)
			}
		}
		leftovers(t, dir)
		if err := removeAll(unix.AT_FDCWD, dir); err != nil {
			r.Fatal(err)
		}
	})
}
