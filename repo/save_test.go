package repo_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// tree writes files and directories (names that end in a slash) below dir.
func tree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if name[len(name)-1] == '/' {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// same fails the test if the two directories differ in anything find(1) shows.
func same(t *testing.T, a, b string) {
	t.Helper()
	const list = `cd "$1" && find . -printf '%P %y %m %T@ %l\n' | sort && find . -type f -print0 | sort -z | xargs -0 -r sha256sum`
	out := make([]string, 2)
	for i, dir := range []string{a, b} {
		text, err := exec.Command("sh", "-c", list, "sh", dir).CombinedOutput()
		if err != nil {
			t.Fatalf("list %s: %v\n%s", dir, err, text)
		}
		out[i] = string(text)
	}
	if out[0] != out[1] {
		t.Errorf("%s and %s differ:\n--- %s\n--- %s", a, b, out[0], out[1])
	}
}

func TestSaveAndRestorePlaces(t *testing.T) {
	r := newRepo(t)
	top := t.TempDir()
	base, home, other := filepath.Join(top, "work"), filepath.Join(top, "home"), filepath.Join(top, "other")
	t.Setenv("HOME", home)
	tree(t, base, map[string]string{"deps/a": "1", "deps/sub/b": "2", "deps/empty/": "", "left/out": "3"})
	tree(t, home, map[string]string{".npm/x": "4", "private": "5"})
	tree(t, other, map[string]string{"dir/file": "6"})
	if err := os.Symlink("../sub/b", filepath.Join(base, "deps", "empty", "link")); err != nil {
		t.Fatal(err)
	}
	paths := []string{filepath.Join(base, "deps"), "~/.npm", filepath.Join(other, "dir")}
	saved, err := r.Save(t.Context(), main, "k", paths, repo.SaveOptions{Base: base})
	if err != nil || !saved.Changed {
		t.Fatalf("Save = %+v, %v", saved, err)
	}
	to := filepath.Join(top, "to")
	if _, err := r.Restore(t.Context(), saved.Entry, repo.RestoreOptions{Base: base, To: to}); err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(base, "deps"), filepath.Join(to, "deps"))
	same(t, filepath.Join(home, ".npm"), filepath.Join(to, "home", ".npm"))
	same(t, filepath.Join(other, "dir"), filepath.Join(to, "abs", other, "dir"))
	if _, err := os.Lstat(filepath.Join(to, "home", "private")); err == nil {
		t.Error("what was not saved was restored")
	}

	// On another machine, base and home lie elsewhere.
	elsewhere := filepath.Join(top, "elsewhere")
	t.Setenv("HOME", filepath.Join(top, "home2"))
	if _, err := r.Restore(t.Context(), saved.Entry, repo.RestoreOptions{Base: elsewhere}); err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(base, "deps"), filepath.Join(elsewhere, "deps"))
	same(t, filepath.Join(home, ".npm"), filepath.Join(top, "home2", ".npm"))
	checkClean(t, r)
}

func TestSaveUnchangedMakesNoCommit(t *testing.T) {
	r := newRepo(t)
	base := t.TempDir()
	tree(t, base, map[string]string{"d/a": "1", "d/b": "2"})
	save := func() repo.Saved {
		t.Helper()
		saved, err := r.Save(t.Context(), main, "k", []string{filepath.Join(base, "d")}, repo.SaveOptions{Base: base})
		if err != nil {
			t.Fatal(err)
		}
		return saved
	}
	first := save()
	if again := save(); again.Changed || again.Entry != first.Entry {
		t.Errorf("saving the same again = %+v", again)
	}
	tree(t, base, map[string]string{"d/a": "1"}) // another time, the same content
	if again := save(); again.Changed {
		t.Error("a new time alone made a commit")
	}
	if err := os.Chmod(filepath.Join(base, "d", "a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := save(); !again.Changed {
		t.Error("a new mode made no commit")
	}
	tree(t, base, map[string]string{"d/a": "new"})
	if again := save(); !again.Changed {
		t.Error("new content made no commit")
	}
}

func TestSaveNeverTakesTheWorkTreesGit(t *testing.T) {
	r := newRepo(t)
	base := t.TempDir()
	t.Chdir(base)
	for _, dir := range []string{".", "vendor/clone"} {
		tree(t, base, map[string]string{dir + "/file": "x"})
		if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
			t.Skipf("git init: %v %s", err, out)
		}
	}
	saved, err := r.Save(t.Context(), main, "k", []string{"."}, repo.SaveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "to")
	if _, err := r.Restore(t.Context(), saved.Entry, repo.RestoreOptions{To: to}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, ".git")); err == nil {
		t.Error("the work tree's own .git was saved")
	}
	same(t, filepath.Join(base, "vendor"), filepath.Join(to, "vendor"))
	if _, err := r.Restore(t.Context(), saved.Entry, repo.RestoreOptions{Delete: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(base, ".git")); err != nil {
		t.Errorf("restore --delete took .git away: %v", err)
	}
}

func TestRestoreOfDamageChangesNothing(t *testing.T) {
	r := newRepo(t)
	base := t.TempDir()
	tree(t, base, map[string]string{"d/a": "1"})
	saved, err := r.Save(t.Context(), main, "k", []string{filepath.Join(base, "d")}, repo.SaveOptions{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	packs, err := filepath.Glob(filepath.Join(r.Dir, "packs", "*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("packs: %v, %v", packs, err)
	}
	for _, name := range packs {
		if err := os.Truncate(name, 10); err != nil {
			t.Fatal(err)
		}
	}
	r, err = repo.Open(t.Context(), r.Dir, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	to := filepath.Join(base, "to")
	if _, err := r.Restore(t.Context(), saved.Entry, repo.RestoreOptions{To: to}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("Restore of a damaged entry = %v, want a miss", err)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("it left something behind")
	}
	problems := 0
	if _, err := r.Check(t.Context(), repo.CheckOptions{}, func(repo.Problem) { problems++ }); err != nil || problems == 0 {
		t.Errorf("Check found %d problems, %v", problems, err)
	}
}

func TestRestoreRefusesOtherKinds(t *testing.T) {
	r := newRepo(t)
	put(t, r, main, "k=1")
	found, err := r.Lookup(t.Context(), []refs.Name{main}, entry.Put, "k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Restore(t.Context(), found.ID, repo.RestoreOptions{}); err == nil {
		t.Error("Restore of a put entry succeeded")
	}
}
