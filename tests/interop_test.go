package tests

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
)

// git runs real git, without anybody's settings, and returns what it prints.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(dir, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, tail(out))
	}
	return out
}

func tryGit(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// needGit skips the test where git is not there or too old for SHA-256.
func needGit(t *testing.T) {
	t.Helper()
	if out, err := tryGit(test.Dir(t), "init", "-q", "--object-format=sha256", "."); err != nil {
		t.Skipf("needs a git with --object-format=sha256: %v %s", err, out)
	}
}

// gitSound fails the test unless git finds nothing to say about an export.
func gitSound(t *testing.T, dir string) {
	t.Helper()
	if out, err := tryGit(dir, "fsck", "--strict", "--full", "--no-progress"); err != nil || out != "" {
		t.Fatalf("git fsck: %v\n%s", err, tail(out))
	}
}

// files describes the files and links below dir, without empty directories,
// which Git does not keep. With escape the names are those that a tree has.
func files(t *testing.T, dir string, escape bool) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, what := "", ""
		for p := path; p != dir; p = filepath.Dir(p) {
			part, mode := filepath.Base(p), objects.ModeDir
			if p == path && e.Type() == fs.ModeSymlink {
				mode = objects.ModeSymlink
			} else if p == path {
				mode = objects.ModeFile
			}
			if escape {
				part = entry.EscapeName(part, mode)
			}
			name = filepath.Join(part, name)
		}
		if e.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			all[name] = "link " + target
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		if what = "file "; fi.Mode()&0o100 != 0 {
			what = "executable "
		}
		all[name] = what + objects.Sum(objects.Blob, []byte(read(t, path))).String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// oddNames are those of files that Git, Windows, a Mac or a shell would rather
// not have.
var oddNames = []string{
	".gitmodules", ".gitattributes", ".gitignore", ".mailmap", ".GIT", ".Git ", ".git.", "git~1", "GIT~1", "gitmod~1", "gi7eba~1",
	".g\u200cit", ".git%", ".git%%", ".git::$INDEX_ALLOCATION", `a\b`, `..\x`, `.git\config`, "-", "--help", " ", "a ", ".hidden", "~",
	"new\nline", "tab\t", "quote\"'", "\xff\xfe", "ünï", "日本", "CON", "aux.c", "a:b", "a*b?", "%", "%41", strings.Repeat("n", 255),
}

// oddTree fills dir with a random tree and with what is odd.
func oddTree(t *testing.T, dir string, seed uint64) {
	t.Helper()
	test.Tree(t, dir, seed, 150)
	for i, name := range oddNames {
		write(t, filepath.Join(dir, "odd", name), fmt.Sprintln("odd", i, seed))
		if i%3 == 0 {
			write(t, filepath.Join(dir, "dirs", name, name), fmt.Sprintln("deeper", i))
		}
		if i%4 == 0 {
			link := filepath.Join(dir, "links", name)
			os.MkdirAll(filepath.Dir(link), 0o777)
			if err := os.Symlink([]string{".git", "/etc/passwd", "../../..", "nowhere\n"}[i/4%4], link); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, filepath.Join(dir, "vendored", ".git", "config"), "[core]\n")
	write(t, filepath.Join(dir, "vendored", ".git", "hooks", "pre-commit"), "#!/bin/sh\nexit 1\n")
	write(t, filepath.Join(dir, ".gitattributes"), "* text eol=crlf ident filter=none working-tree-encoding=UTF-16\n")
	write(t, filepath.Join(dir, "crlf"), "one\r\ntwo\n$Id$\n")
	for i, mode := range []os.FileMode{0o600, 0o700, 0o444, 0o555, 0o644, 0o755, 0o4755} {
		name := write(t, filepath.Join(dir, "modes", fmt.Sprint(i)), fmt.Sprint(mode))
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
}

// oddKeys are keys that a path component cannot be.
var oddKeys = []string{
	"plain", "a/b/c", "../../etc/passwd", "/etc", ".", "..", ".git", "a:b", "sp ace ", "ünï", "\xff", "line\nbreak", "%", "%2F", "CON",
	strings.Repeat("long/", 100), "-x", "main:put/plain",
}

// TestGitReadsExport fills a repository with everything and lets real Git read
// its export: Git finds nothing wrong, has the same ids and the same history, and
// checks out the same files.
func TestGitReadsExport(t *testing.T) {
	alone(t)
	needGit(t)
	w := newWorld(t, act{})
	export := filepath.Join(w.dir, "export")

	saved := map[string]string{} // commit to the directory that was saved then
	save := func(seed uint64) {
		dir := filepath.Join(w.dir, fmt.Sprint("version", seed), "odd tree")
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		oddTree(t, dir, seed)
		r := must(t, w.repo(), "--json", "save", "--base", filepath.Dir(dir), "odd key", dir)
		var answer struct{ Commit string }
		if err := json.Unmarshal([]byte(r.out), &answer); err != nil {
			t.Fatal(err)
		}
		saved[answer.Commit] = dir
	}
	save(1)
	for i, key := range oddKeys {
		value := write(t, w.work("value"), fmt.Sprintln("value", i))
		must(t, w.repo(), "put", "--stage", "--", key, value)
	}
	must(t, w.repo(), "commit", "-m", "subject\n\nbody, with\nlines\n\nand: a trailer")
	must(t, w.repo(), "put", "big", "big")
	save(2)
	must(t, w.repo(), "run", "--out", "made", "--", "sh", "-c", "mkdir -p made/empty; echo x >made/.git; ln -s .git made/link; echo said; echo err >&2")
	must(t, w.repo(), "commit", "-m", "ünï: "+strings.Repeat("x", 300))
	must(t, w.repo(), "merge", "dev")
	must(t, w.repo(), "tag", "-m", "a tag\n\nof two paragraphs", "v9.9")
	must(t, w.repo(), "branch", "feature/x/y", "main~1")
	sound(t, w.repo())

	must(t, w.repo(), "export", "--git", export)
	gitSound(t, export)
	sameObjects(t, w, export)
	sameHistory(t, w, export)

	save(3)
	must(t, w.repo(), "rm", "one")
	must(t, w.repo(), "tag", "-d", "v1")
	must(t, w.repo(), "export", "--git", export)
	gitSound(t, export)
	sameHistory(t, w, export)

	for id, dir := range saved {
		git(t, export, "checkout", "-q", "--detach", id)
		got := files(t, filepath.Join(export, filepath.FromSlash(entry.Path(entry.Save, "odd key")), "base", "odd tree"), false)
		if diff := cmp.Diff(files(t, dir, true), got); diff != "" {
			t.Errorf("checked out %s, want what was saved:\n%s", id, tail(diff))
		}
		if out := git(t, export, "status", "--porcelain", "--ignored"); out != "" {
			t.Errorf("after git checkout, git status says\n%s", tail(out))
		}
	}
	git(t, export, "checkout", "-q", "main")
	for i, key := range oddKeys {
		got := git(t, export, "show", "main:"+entry.Path(entry.Put, key)+"/body")
		if want := fmt.Sprintln("value", i); got != want {
			t.Errorf("git show of key %q: %q, want %q", key, got, want)
		}
		if r := must(t, w.repo(), "get", "main:"+key); r.out != got {
			t.Errorf("%v", r)
		}
	}
	for _, args := range [][]string{
		{"show", "--stat", "main"}, {"diff", "--stat", "main~2", "main"}, {"log", "-p", "--all"}, {"blame", "main", "--", entry.Path(entry.Put, "plain") + "/body"},
		{"repack", "-adq"}, {"clone", "-q", export, filepath.Join(w.dir, "clone")},
	} {
		git(t, export, args...)
	}
	gitSound(t, export)
	gitSound(t, filepath.Join(w.dir, "clone"))
}

// sameObjects compares what refs lead to with all that Git has.
func sameObjects(t *testing.T, w world, export string) {
	t.Helper()
	r := open(t, w.repo())
	var tips []objects.ID
	for ref, err := range r.Refs.All(ctx, "refs/") {
		if err != nil {
			t.Fatal(err)
		}
		tips = append(tips, ref.ID)
		if got := strings.TrimSpace(git(t, export, "rev-parse", string(ref.Name))); got != ref.ID.String() {
			t.Errorf("git rev-parse %s: %s, want %s", ref.Name, got, ref.ID)
		}
	}
	var want []string
	err := reach.Walk(ctx, r.DB, tips, reach.Options{Visit: func(id objects.ID, _ objects.Kind) error {
		o, err := r.DB.Open(ctx, id)
		if err != nil {
			return err
		}
		o.Body.Close()
		want = append(want, fmt.Sprintf("%s %s %d", id, o.Kind, o.Size))
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	got := strings.Split(strings.TrimSpace(git(t, export, "cat-file", "--batch-all-objects", "--batch-check")), "\n")
	empty := fmt.Sprintf("%s tree 0", objects.EmptyTree) // which need not be stored
	drop := func(all []string) []string { return slices.DeleteFunc(all, func(s string) bool { return s == empty }) }
	if diff := cmp.Diff(drop(want), drop(got)); diff != "" {
		t.Errorf("Git has other objects:\n%s", tail(diff))
	}
}

// sameHistory compares commits and refs with what git log says.
func sameHistory(t *testing.T, w world, export string) {
	t.Helper()
	r := open(t, w.repo())
	heads := ""
	for ref, err := range r.Refs.All(ctx, "refs/") {
		if err != nil {
			t.Fatal(err)
		}
		heads += fmt.Sprintf("%s %s\n", ref.ID, ref.Name)
	}
	if got := git(t, export, "for-each-ref", "--format=%(objectname) %(refname)"); got != heads {
		t.Errorf("git has refs\n%s\nwant\n%s", got, heads)
	}
	tip, _, err := r.Tip(ctx, refs.Branch("main"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for c, err := range r.Log(ctx, tip) {
		if err != nil {
			t.Fatal(err)
		}
		parents := make([]string, len(c.Parents))
		for i, p := range c.Parents {
			parents[i] = p.String()
		}
		want = append(want, fmt.Sprintf("%s|%s|%s|%s|%s|%d|%s\x00", c.ID, strings.Join(parents, " "), c.Tree, c.Author.Name, c.Author.Email,
			c.Committer.When.Unix(), c.Message))
	}
	out := git(t, export, "log", "-z", "--format=%H|%P|%T|%an|%ae|%ct|%B", "main")
	got := strings.SplitAfter(strings.TrimSuffix(out, "\x00")+"\x00", "\x00")
	got = got[:len(got)-1]
	slices.Sort(want) // equal dates leave the order open
	slices.Sort(got)
	trim := func(all []string) []string {
		for i := range all {
			all[i] = strings.TrimRight(all[i], "\x00\n")
		}
		return all
	}
	if diff := cmp.Diff(trim(want), trim(got)); diff != "" {
		t.Errorf("git log differs:\n%s", tail(diff))
	}
}

// TestRealTrees saves, restores and exports the directories that
// CACHE_TOOL_TREES lists, parted by colons: the later ones as new versions of the
// first. Everything comes back identical, permissions and times, too.
func TestRealTrees(t *testing.T) {
	dirs := filepath.SplitList(os.Getenv("CACHE_TOOL_TREES"))
	if len(dirs) == 0 {
		dirs = []string{filepath.Join(test.Dir(t), "tree"), filepath.Join(test.Dir(t), "tree")}
		for i, dir := range dirs {
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			oddTree(t, dir, uint64(10+i))
		}
	}
	alone(t)
	needGit(t)
	repo := filepath.Join(t.TempDir(), "repo")
	t.Chdir(t.TempDir())
	for i, dir := range dirs {
		began := time.Now()
		must(t, repo, "save", "--base", dir, "tree", dir)
		t.Logf("save %s: %v", dir, time.Since(began).Round(time.Millisecond))
		must(t, repo, "tag", fmt.Sprint("version", i))
	}
	sound(t, repo)
	to := filepath.Join(t.TempDir(), "to")
	for i, dir := range dirs { // each over the one before
		began := time.Now()
		must(t, repo, "restore", fmt.Sprintf("version%d:tree", i), "--to", to, "--delete")
		t.Logf("restore %s: %v", dir, time.Since(began).Round(time.Millisecond))
		for _, cmd := range [][]string{
			{"diff", "-r", "--no-dereference", dir, to},
			{"sh", "-c", `find "$0" -printf '%P|%y|%m|%l|%T@\n' -type f -printf '%s\n' | sort >"$2.a"
				find "$1" -printf '%P|%y|%m|%l|%T@\n' -type f -printf '%s\n' | sort >"$2.b"; cmp "$2.a" "$2.b"`, dir, to, filepath.Join(t.TempDir(), "list")},
		} {
			if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
				t.Errorf("version %d came back different: %s: %v\n%s", i, cmd[0], err, tail(string(out)))
			}
		}
	}
	export := filepath.Join(t.TempDir(), "export")
	must(t, repo, "export", "--git", export)
	gitSound(t, export)
	for i, dir := range dirs {
		git(t, export, "checkout", "-q", "--detach", fmt.Sprint("version", i))
		got := files(t, filepath.Join(export, filepath.FromSlash(entry.Path(entry.Save, "tree")), "base"), false)
		if diff := cmp.Diff(files(t, dir, true), got); diff != "" {
			t.Errorf("git checked out another version %d:\n%s", i, tail(diff))
		}
	}
}
