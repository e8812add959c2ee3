package repo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/repo"
)

// ReadSource must say what Git says, however the repository is laid out.
func TestReadSource(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	git := func(where string, args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", where, "-c", "user.name=A", "-c", "user.email=a@b"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	check := func(what, root, below, branch string) {
		t.Helper()
		want := repo.Source{Root: root, Branch: branch}
		if out, err := exec.Command("git", "-C", root, "rev-parse", "--verify", "-q", "HEAD").Output(); err == nil {
			want.Commit = strings.TrimSpace(string(out))
		}
		if got := repo.ReadSource(filepath.Join(root, below)); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	for _, format := range []string{"sha1", "sha256"} {
		root := filepath.Join(dir, format)
		git(dir, "init", "-q", "-b", "main", "--object-format="+format, root)
		check(format+": no commit yet", root, "", "main")
		if err := os.MkdirAll(filepath.Join(root, "a/b"), 0o755); err != nil {
			t.Fatal(err)
		}
		git(root, "commit", "-q", "--allow-empty", "-m", "one")
		check(format+": a loose ref", root, "a/b", "main")
		git(root, "pack-refs", "--all")
		check(format+": a packed ref", root, "", "main")
		git(root, "checkout", "-q", "-b", "feature/x")
		git(root, "commit", "-q", "--allow-empty", "-m", "two")
		check(format+": a branch with a slash", root, "", "feature/x")
		linked := filepath.Join(dir, format+"-linked")
		git(root, "worktree", "add", "-q", "-b", "linked", linked, "main")
		check(format+": a linked work tree", linked, "", "linked")
		git(root, "checkout", "-q", "--detach")
		check(format+": a detached HEAD", root, "", "")
	}
	clone := filepath.Join(dir, "clone")
	git(filepath.Join(dir, "sha1"), "branch", "-f", "trunk")
	git(filepath.Join(dir, "sha1"), "symbolic-ref", "HEAD", "refs/heads/trunk")
	git(dir, "clone", "-q", filepath.Join(dir, "sha1"), clone)
	git(clone, "checkout", "-q", "-b", "topic")
	for where, want := range map[string]string{clone: "trunk", filepath.Join(dir, "sha1"): "", dir: ""} {
		if got := repo.SourceDefault(where); got != want {
			t.Errorf("%s: the default branch is %q, want %q", where, got, want)
		}
	}
	if got := repo.ReadSource(dir); got != (repo.Source{}) {
		t.Errorf("outside of a work tree: %+v", got)
	}
}
