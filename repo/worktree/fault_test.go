package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

func TestClosedDirectories(t *testing.T) {
	asNobody(t, func(t *testing.T) {
		for _, old := range []bool{false, true} {
			oldKernel = old
			s := newStore(t)
			root := t.TempDir()
			one, two, to := filepath.Join(root, "one"), filepath.Join(root, "two"), filepath.Join(root, "to")
			files(t, one, map[string]string{"a/b/c": "1", "a/x": "2", "e/": "", "g/h/i": "3"})
			files(t, two, map[string]string{"a/b/d": "1", "a/x": "3", "e/f": "4", "k": "5"})
			closeAll := func(dir string) {
				for _, name := range []string{"a/b", "a", "e", "g/h", "g", "."} {
					os.Chmod(filepath.Join(dir, name), 0o555)
				}
			}
			closeAll(one)
			closeAll(two)
			first, second := s.take(one, SnapshotOptions{}), s.take(two, SnapshotOptions{})
			for i, snap := range []Snapshot{first, second, first, second} {
				s.restore(snap, to, RestoreOptions{Delete: true})
				mustBe(t, to, []string{one, two}[i%2])
				leftovers(t, root)
			}
			// A directory that cannot even be looked into.
			must(t, os.Chmod(filepath.Join(to, "a"), 0))
			s.restore(second, to, RestoreOptions{Delete: true})
			mustBe(t, to, two)
			// What fails leaves the permissions as they were, too.
			before := describe(t, to)
			hook = failAt("rename", 3)
			_, err := s.tryRestore(first, to, RestoreOptions{Delete: true})
			hook = nil
			if !errors.Is(err, unix.EIO) {
				t.Errorf("failed rename: %v", err)
			}
			sameButTimes(t, before, describe(t, to))
			oldKernel = false
			for _, dir := range []string{one, two, to} {
				openAll(dir)
			}
		}
	})
}

// failAt makes the nth step of a kind fail.
func failAt(op string, n int) func(op, path string) error {
	var mu sync.Mutex
	count := 0
	return func(got, path string) error {
		mu.Lock()
		defer mu.Unlock()
		if got == op || op == "" {
			if count++; count == n {
				return unix.EIO
			}
		}
		return nil
	}
}

// sameButTimes compares descriptions, but for the times of directories.
func sameButTimes(tb testing.TB, want, got []string) {
	tb.Helper()
	strip := func(lines []string) []string {
		lines = slices.Clone(lines)
		for i, line := range lines {
			if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[1], "4") {
				lines[i] = f[0] + " " + f[1]
			}
		}
		return lines
	}
	if diff := cmp.Diff(strip(want), strip(got)); diff != "" {
		tb.Errorf("not as it was:\n%s", diff)
	}
}

// TestAllOrNothing lets each step of a restore fail in turn: the destination is
// what it was, and the next restore does all.
func TestAllOrNothing(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprintf("fresh=%v old=%v", fresh, old), func(t *testing.T) { allOrNothing(t, fresh, old) })
		}
	}
}

func allOrNothing(t *testing.T, fresh, old bool) {
	defer func() { oldKernel, hook = false, nil }()
	oldKernel = old
	s := newStore(t)
	root := t.TempDir()
	one, two := filepath.Join(root, "one"), filepath.Join(root, "two")
	files(t, one, map[string]string{"a/b": "1", "a/c": "2", "d": "3", "e/f/g": "4", "l": "-> d", "same": "5", "h/": ""})
	files(t, two, map[string]string{"a/b": "1", "a/c": "zwei", "d/x": "3", "e": "4", "l": "-> e", "same": "5", "n/e/w": "6", "big": strings.Repeat("big", 1<<20)})
	snap, target := s.take(two, SnapshotOptions{}), s.take(one, SnapshotOptions{})
	stride := 4
	if test.Soak() {
		stride = 1
	}
	for n := 1; ; n += stride {
		parent := filepath.Join(root, fmt.Sprint("to", n))
		to := filepath.Join(parent, "up", "to")
		if !fresh {
			s.restore(target, to, RestoreOptions{})
		} else {
			must(t, os.Mkdir(parent, 0o755))
		}
		before := describe(t, parent)
		step := failAt("", n)
		failed := ""
		writes := 0
		hook = func(op, path string) error {
			if op == "write" && filepath.Base(path) == "big" {
				if writes++; writes > 2 {
					return nil // one like the other
				}
			}
			err := step(op, path)
			if err != nil {
				failed = op
			}
			return err
		}
		_, err := s.tryRestore(snap, to, RestoreOptions{Delete: true})
		hook = nil
		if failed == "" {
			must(t, err)
			mustBe(t, to, two)
			if n < 10 {
				t.Errorf("only %d steps", n-1)
			}
			return
		}
		if !errors.Is(err, unix.EIO) {
			t.Fatalf("step %d, %s, failed: %v", n, failed, err)
		}
		if failed != "chmod" && failed != "utimes" { // the last steps: content is there
			sameButTimes(t, before, describe(t, parent))
		}
		leftovers(t, root)
		s.restore(snap, to, RestoreOptions{Delete: true})
		mustBe(t, to, two)
		os.RemoveAll(parent)
	}
}

// TestDamage flips bits of what is stored: a restore brings everything or says
// what is damaged, and leaves the destination alone.
func TestDamage(t *testing.T) {
	s := newStore(t)
	root := t.TempDir()
	from, to := filepath.Join(root, "from"), filepath.Join(root, "to")
	must(t, os.Mkdir(from, 0o755))
	test.Tree(t, from, 5, 150)
	snap := s.take(from, SnapshotOptions{})
	files(t, to, map[string]string{"f1": "before", "x/y": "before"})
	before := describe(t, to)
	packs, _ := filepath.Glob(filepath.Join(s.dir, "packs", "*.pack"))
	if len(packs) == 0 {
		t.Fatal("no packs")
	}
	failed := 0
	for i := range test.Count(t, 400) {
		pack := packs[i%len(packs)]
		whole, err := os.ReadFile(pack)
		must(t, err)
		test.FlipBit(t, pack, int64(i*7919)%(8*int64(len(whole))))
		broken := &store{tb: t, dir: s.dir, cache: nil}
		broken.db, err = odb.Open(filepath.Join(s.dir, "packs"), odb.Options{})
		must(t, err)
		for _, dir := range []string{to, filepath.Join(root, "fresh")} {
			report, err := Restore(ctx, broken.db, []Target{{Dir: dir, Mode: objects.ModeDir, ID: snap.Payload[0].ID, Modes: snap.Files[0].Modes, Times: snap.Files[0].Times}}, RestoreOptions{Delete: true})
			switch {
			case err == nil:
				mustBe(t, dir, from)
				os.RemoveAll(to)
				files(t, to, map[string]string{"f1": "before", "x/y": "before"})
				before = describe(t, to)
			case !errors.Is(err, objects.ErrNotFound):
				t.Errorf("damaged store: %v", err)
			default:
				failed++
				if _, err := os.Stat(filepath.Join(root, "fresh")); err == nil {
					t.Error("a fresh destination is there")
				}
				sameButTimes(t, before, describe(t, to))
				leftovers(t, root)
				_ = report
			}
			os.RemoveAll(filepath.Join(root, "fresh"))
		}
		broken.db.Close()
		must(t, os.WriteFile(pack+".new", whole, 0o644))
		must(t, os.Rename(pack+".new", pack))
	}
	if failed == 0 {
		t.Error("nothing failed")
	}
}
