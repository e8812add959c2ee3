//go:build linux

package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root mounts a small file system")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=1m,nr_inodes=200"); err != nil {
		t.Skipf("skipped: cannot mount a small file system: %v", err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	s := newStore(t)
	to := filepath.Join(disk, "to")
	files(t, to, map[string]string{"f": "mine", "d/g": "mine"})
	before := describe(t, to)
	for _, tt := range []struct {
		name    string
		fill    func(dir string)
		refused bool // before anything is written
	}{
		{"one file that is too big", func(dir string) { files(t, dir, map[string]string{"f": strings.Repeat("x", 2<<20)}) }, true},
		{"too much in all", func(dir string) {
			for i := range 30 {
				files(t, dir, map[string]string{fmt.Sprint(i): strings.Repeat("x", 50_000+i)})
			}
		}, true},
		{"too many files", func(dir string) {
			for i := range 300 {
				files(t, dir, map[string]string{fmt.Sprint(i): ""})
			}
		}, true},
		// Each takes a page, and that is found out on the way.
		{"too many pages", func(dir string) {
			for i := range 150 {
				files(t, dir, map[string]string{fmt.Sprint(i): strings.Repeat("x", 4097)})
			}
		}, false},
	} {
		from := t.TempDir()
		tt.fill(from)
		snap := s.take(from, SnapshotOptions{})
		for _, dir := range []string{to, filepath.Join(disk, "fresh")} {
			wrote := false
			hook = func(op, path string) error { wrote = true; return nil }
			_, err := s.tryRestore(snap, dir, RestoreOptions{Delete: true})
			hook = nil
			var refused *NoRoomError
			if !errors.Is(err, unix.ENOSPC) || errors.As(err, &refused) != tt.refused || wrote == tt.refused {
				t.Errorf("%s: %v, wrote something: %v", tt.name, err, wrote)
			}
			sameButTimes(t, before, describe(t, to))
			if names, _ := os.ReadDir(disk); len(names) != 1 {
				t.Errorf("%s: left behind: %v", tt.name, names)
			}
		}
	}
	// And what has room is restored.
	from := t.TempDir()
	files(t, from, map[string]string{"f": "new"})
	s.restore(s.take(from, SnapshotOptions{}), to, RestoreOptions{Delete: true})
	mustBe(t, to, from)
}

// TestMountedInside has another file system in the middle of the target.
func TestMountedInside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root mounts file systems")
	}
	root := t.TempDir()
	inside := filepath.Join(root, "to/a/mnt")
	must(t, os.MkdirAll(inside, 0o755))
	if err := unix.Mount("tmpfs", inside, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("skipped: cannot mount a file system: %v", err)
	}
	defer unix.Unmount(inside, unix.MNT_DETACH)
	// The same file system once more: one device, two mounts.
	again := filepath.Join(root, "to/b")
	must(t, os.MkdirAll(again, 0o755))
	must(t, os.MkdirAll(filepath.Join(root, "other"), 0o755))
	must(t, unix.Mount(filepath.Join(root, "other"), again, "", unix.MS_BIND, ""))
	defer unix.Unmount(again, unix.MNT_DETACH)

	s := newStore(t)
	from := filepath.Join(root, "from")
	files(t, from, map[string]string{"a/mnt/d/f": "1", "a/mnt/x": "2", "a/g": "3", "b/h": "4", "b/d/i": "5"})
	snap := s.take(from, SnapshotOptions{})
	to := filepath.Join(root, "to")
	files(t, to, map[string]string{"a/mnt/x": "old", "b/h": "old", "b/gone/x": "old", "a/g": "old"})
	for range 2 {
		s.restore(snap, to, RestoreOptions{Delete: true})
		mustBe(t, to, from)
		leftovers(t, root)
	}
}
