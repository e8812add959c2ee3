package worktree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/objects"
)

// TestKeepDeepDown has a kept path inside of what would have to go.
func TestKeepDeepDown(t *testing.T) {
	s := newStore(t)
	root := t.TempDir()
	from, to := filepath.Join(root, "from"), filepath.Join(root, "to")
	files(t, from, map[string]string{"a": "1", "was/dir": "2", "f": "3"})
	snap := s.take(from, SnapshotOptions{})
	files(t, to, map[string]string{
		"extra/deep/store/packs/p": "precious", "extra/x": "", "f/store/p": "precious", "gone/x": "", "l": "-> extra/deep/store",
	})
	keep := []string{filepath.Join(to, "l"), filepath.Join(to, "f/store"), filepath.Join(to, "nothing")}
	report := s.restore(snap, to, RestoreOptions{Delete: true, Keep: keep})
	if content(t, filepath.Join(to, "extra/deep/store/packs/p")) != "precious" || content(t, filepath.Join(to, "f/store/p")) != "precious" {
		t.Error("a kept path has changed")
	}
	if diff := cmp.Diff([]string{filepath.Join(to, "f")}, report.Skipped); diff != "" {
		t.Errorf("skipped:\n%s", diff)
	}
	for name, want := range map[string]bool{"a": true, "was/dir": true, "gone": false, "l": true} {
		if _, err := os.Lstat(filepath.Join(to, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIntoKept(t *testing.T) {
	s := newStore(t)
	root := t.TempDir()
	from, store := filepath.Join(root, "from"), filepath.Join(root, "store")
	files(t, from, map[string]string{"a": "1"})
	files(t, store, map[string]string{"packs/p": "precious"})
	before := describe(t, store)
	snap := s.take(from, SnapshotOptions{})
	keep := []string{store}
	for _, target := range []Target{
		{Dir: store}, {Dir: root, Name: "store/x"}, {Dir: filepath.Join(store, "packs")}, {Dir: store, Name: "packs"},
		{Dir: filepath.Join(store, "new", "dir")}, {Dir: store, Name: "new/dir"},
	} {
		target.Mode, target.ID = objects.ModeDir, snap.Payload[0].ID
		_, err := Restore(ctx, s.db, []Target{target}, RestoreOptions{Delete: true, Keep: keep})
		if err == nil || !strings.Contains(err.Error(), "nothing there may be changed") {
			t.Errorf("%+v: %v", target, err)
		}
	}
	if diff := cmp.Diff(before, describe(t, store)); diff != "" {
		t.Error(diff)
	}
	if _, err := s.try([]Place{{Name: "base/store", Path: store}}, SnapshotOptions{Keep: keep}); err == nil {
		t.Error("saved what is never saved")
	}
}
