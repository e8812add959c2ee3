package repo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

var main = refs.Branch("main")

func newRepo(t *testing.T) *repo.Repo {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // for the stat cache
	r, err := repo.Init(t.Context(), filepath.Join(t.TempDir(), "repo"), repo.Options{
		Warn: func(err error) { t.Logf("warning: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// put makes entries of one blob each, "key=body", and returns the tip.
func put(t *testing.T, r *repo.Repo, branch refs.Name, pairs ...string) objects.ID {
	t.Helper()
	c := change(t, r, branch, pairs...)
	defer c.Close()
	tip, _, err := c.Commit(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return tip
}

func stagePut(t *testing.T, r *repo.Repo, branch refs.Name, pairs ...string) {
	t.Helper()
	c := change(t, r, branch, pairs...)
	defer c.Close()
	if err := c.Stage(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, r *repo.Repo, branch refs.Name, pairs ...string) *repo.Change {
	t.Helper()
	c, err := r.Change(t.Context(), branch, odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range pairs {
		key, body, ok := strings.Cut(pair, "=")
		if !ok {
			c.Delete(entry.Put, key)
			continue
		}
		id, err := c.Batch.PutBytes(objects.Blob, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		payload := objects.Entries{{Mode: objects.ModeFile, Name: entry.BodyName, ID: id}}
		id, err = entry.Write(c.Batch, entry.Meta{Kind: entry.Put, Key: key}, payload, objects.ID{})
		if err != nil {
			t.Fatal(err)
		}
		c.Set(entry.Put, key, id)
	}
	return c
}

// get returns the body that a lookup from branch finds, or "" for a miss.
func get(t *testing.T, r *repo.Repo, branch refs.Name, key string) string {
	t.Helper()
	scope, err := r.Scope(t.Context(), branch)
	if err != nil {
		t.Fatal(err)
	}
	found, err := r.Lookup(t.Context(), scope, entry.Put, key)
	if errors.Is(err, objects.ErrNotFound) {
		return ""
	} else if err != nil {
		t.Fatal(err)
	}
	return body(t, r, found.ID)
}

func body(t *testing.T, r *repo.Repo, id objects.ID) string {
	t.Helper()
	payload, _, err := entry.Read(t.Context(), r.DB, id)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := payload.Find(entry.BodyName)
	data, err := objects.ReadKind(t.Context(), r.DB, e.ID, objects.Blob)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestInitIsIdempotentAndRefusesStrangers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	ids := make([]string, 8)
	var wait sync.WaitGroup
	for i := range ids {
		wait.Go(func() {
			r, err := repo.Init(context.Background(), dir, repo.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = r.ID()
		})
	}
	wait.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("eight racing Inits made repositories %q", ids)
			break
		}
	}
	strange := t.TempDir()
	if err := os.WriteFile(filepath.Join(strange, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Init(t.Context(), strange, repo.Options{}); !errors.Is(err, repo.ErrExists) {
		t.Errorf("Init among somebody's files = %v, want ErrExists", err)
	}
	if _, err := repo.Open(t.Context(), strange, repo.Options{}); !errors.Is(err, repo.ErrNotRepository) {
		t.Errorf("Open = %v, want ErrNotRepository", err)
	}
}

func TestOpenRefusesNewerVersion(t *testing.T) {
	r := newRepo(t)
	config := filepath.Join(r.Dir, "config")
	if err := os.WriteFile(config, []byte("[core]\n\trepositoryversion = 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := repo.Open(t.Context(), r.Dir, repo.Options{})
	if err == nil || !strings.Contains(err.Error(), "use a newer cache-tool") {
		t.Errorf("Open of version 99 = %v", err)
	}
}

func TestFindOrder(t *testing.T) {
	top := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(top, "xdg"))
	t.Setenv("CACHE_TOOL_REPO", "")
	inner := filepath.Join(top, "project", "src")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(inner)
	for _, step := range []struct {
		arrange func()
		flag    string
		want    string
	}{
		{func() {}, "", "xdg/cache-tool"},
		{func() {
			if _, err := repo.Init(t.Context(), filepath.Join(top, "project", repo.DirName), repo.Options{}); err != nil {
				t.Fatal(err)
			}
		}, "", "project/.cache-tool"},
		{func() { t.Setenv("CACHE_TOOL_REPO", filepath.Join(top, "env")) }, "", "env"},
		{func() {}, filepath.Join(top, "flag"), "flag"},
	} {
		step.arrange()
		got, err := repo.Find(step.flag)
		if want := filepath.Join(top, step.want); err != nil || got != want {
			t.Errorf("Find(%q) = %s, %v, want %s", step.flag, got, err, want)
		}
	}
}

func TestScopeIsOwnBaseDefault(t *testing.T) {
	r := newRepo(t)
	pr1, pr2 := refs.Branch("pr/1"), refs.Branch("pr/2")
	put(t, r, main, "shared=main", "only-main=main")
	put(t, r, refs.Branch("release"), "shared=release", "only-release=release")
	put(t, r, pr1, "shared=pr1")
	if err := r.Config.Set(t.Context(), "branch.pr/1.base", "release"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		branch    refs.Name
		key, want string
	}{
		{pr1, "shared", "pr1"},
		{pr1, "only-release", "release"},
		{pr1, "only-main", "main"},
		{pr2, "shared", "main"},
		{pr2, "only-release", ""},
		{main, "only-release", ""},
	} {
		if got := get(t, r, tt.branch, tt.key); got != tt.want {
			t.Errorf("%s from %s = %q, want %q", tt.key, tt.branch.Short(), got, tt.want)
		}
	}
}

func TestStageIsSeenOverTheBranchAndFoldsOnce(t *testing.T) {
	r := newRepo(t)
	first := put(t, r, main, "a=1", "b=1", "c=1")
	stagePut(t, r, main, "a=2", "b")
	for key, want := range map[string]string{"a": "2", "b": "", "c": "1"} {
		if got := get(t, r, main, key); got != want {
			t.Errorf("%s with a stage = %q, want %q", key, got, want)
		}
	}
	tip, changed, err := r.FoldStage(t.Context(), main, "")
	if err != nil || !changed {
		t.Fatalf("FoldStage = %v, %v", changed, err)
	}
	commit, err := objects.ReadCommit(t.Context(), r.DB, tip)
	if err != nil {
		t.Fatal(err)
	}
	if len(commit.Parents) != 1 || commit.Parents[0] != first {
		t.Errorf("parents %v, want %v", commit.Parents, first)
	}
	if _, ok := commit.Trailers()["Stage"]; !ok {
		t.Errorf("commit names no journal:\n%s", commit.Message)
	}
	for key, want := range map[string]string{"a": "2", "b": "", "c": "1"} {
		if got := get(t, r, main, key); got != want {
			t.Errorf("%s after the commit = %q, want %q", key, got, want)
		}
	}
	if again, changed, err := r.FoldStage(t.Context(), main, ""); again != tip || changed || err != nil {
		t.Errorf("second FoldStage = %s, %v, %v; want nothing new", again.Short(), changed, err)
	}
	if again := put(t, r, main, "a=2"); again != tip {
		t.Errorf("putting the same again made commit %s", again.Short())
	}
}

func TestConcurrentCommitsLoseNothing(t *testing.T) {
	r := newRepo(t)
	const writers, each = 8, 5
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			own, err := repo.Open(context.Background(), r.Dir, repo.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer own.Close()
			for i := range each {
				key := fmt.Sprintf("%d-%d", w, i)
				if i%2 == 0 {
					stagePut(t, own, main, key+"=x")
				} else {
					put(t, own, main, key+"=x")
				}
			}
		})
	}
	wait.Wait()
	if _, _, err := r.FoldStage(t.Context(), main, ""); err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		for i := range each {
			if key := fmt.Sprintf("%d-%d", w, i); get(t, r, main, key) != "x" {
				t.Errorf("%s is lost", key)
			}
		}
	}
	checkClean(t, r)
}

func checkClean(t *testing.T, r *repo.Repo) {
	t.Helper()
	if _, err := r.Check(t.Context(), repo.CheckOptions{}, func(p repo.Problem) { t.Errorf("fsck: %s: %s", p.Where, p.What) }); err != nil {
		t.Errorf("fsck: %v", err)
	}
}
