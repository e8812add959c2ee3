package gitpack_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/gitpack"
)

func heads(id objects.ID) gitpack.Refs {
	return gitpack.Refs{Head: "refs/heads/main", All: []gitpack.Ref{{Name: "refs/heads/main", ID: id}}}
}

func mustExport(t testing.TB, r objects.Reader, refs gitpack.Refs, dir string) gitpack.Report {
	t.Helper()
	report, err := gitpack.Export(context.Background(), r, refs, dir, gitpack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// files is what a cache may hold: odd names, and files that tell Git to change
// what it checks out.
var files = dir{
	"plain":            "text\r\nof two lines\n",
	"program":          "#!/bin/sh\n",
	"link":             "-> program",
	"nowhere":          "-> ../../etc/passwd",
	"empty":            "",
	"-x":               "a name like a flag",
	"a\\b:c?\n\"é\xff": "an odd name",
	".gitattributes":   "* text eol=crlf ident\n*.u working-tree-encoding=UTF-16 filter=none\n",
	"id":               "$Id$\n",
	"wide.u":           "not UTF-16\n",
	"git~2":            "like a short name of Windows",
	"deep":             dir{"er": dir{"file": "x"}},
	"void":             dir{},
}

func TestExport(t *testing.T) {
	needGit(t)
	for name, r := range map[string]interface {
		objects.Reader
		commit(string, dir, ...objects.ID) objects.ID
		tag(string, objects.Kind, objects.ID) objects.ID
	}{"one by one": newStore(), "many at once": manyStore{newStore()}} {
		t.Run(name, func(t *testing.T) {
			first := r.commit("first", dir{"big": strings.Repeat("big ", 1<<20)})
			side := r.commit("side", dir{"side": "s"}, first)
			main := r.commit("merge", files, first, side)
			tag := r.tag("v1", objects.Commit, main)
			tagOfTag := r.tag("v1-again", objects.Tag, tag)
			blob := objects.Sum(objects.Blob, []byte("s"))
			out := t.TempDir()
			report := mustExport(t, r, gitpack.Refs{Head: "refs/heads/main", All: []gitpack.Ref{
				{Name: "refs/heads/main", ID: main},
				{Name: "refs/heads/team/side", ID: side},
				{Name: "refs/tags/v1", ID: tag},
				{Name: "refs/tags/v1-again", ID: tagOfTag},
				{Name: "refs/tags/blob", ID: blob},
			}}, out)
			if report.Refs != 5 || report.Packs != 1 || report.CheckedOut {
				t.Errorf("report %+v, want 5 refs and 1 pack, nothing checked out", report)
			}
			fsck(t, out)
			if got, want := git(t, out, "log", "--format=%s", "--topo-order", "main"), "merge\nside\nfirst\n"; got != want {
				t.Errorf("git log = %q, want %q", got, want)
			}
			if got := git(t, out, "show", "v1"); !strings.Contains(got, "Somebody") {
				t.Errorf("git show v1 = %q", got)
			}
			if got, want := git(t, out, "rev-parse", "v1-again^{commit}"), main.String()+"\n"; got != want {
				t.Errorf("git rev-parse = %q, want %q", got, want)
			}
			git(t, out, "checkout", "-q", "main")
			look(t, out, files)
			if got := git(t, out, "status", "--porcelain"); got != "" {
				t.Errorf("git status after checkout: %s", got)
			}
			clone := filepath.Join(t.TempDir(), "clone")
			git(t, out, "clone", "-q", "--no-local", "-b", "team/side", out, clone)
			look(t, clone, dir{"side": "s"})
		})
	}
}

func TestExportAgainAddsWhatIsNew(t *testing.T) {
	needGit(t)
	s, out := newStore(), t.TempDir()
	one := s.commit("one", dir{"a": "1", "same": dir{"x": "x"}})
	mustExport(t, s, heads(one), out)
	if report := mustExport(t, s, heads(one), out); report != (gitpack.Report{}) {
		t.Errorf("nothing new: %+v", report)
	}
	two := s.commit("two", dir{"a": "2", "same": dir{"x": "x"}}, one)
	refs := heads(two)
	refs.All = append(refs.All, gitpack.Ref{Name: "refs/tags/one", ID: one})
	// a commit, its tree and one blob
	if report := mustExport(t, s, refs, out); report.Objects != 3 || report.Packs != 1 || report.Refs != 2 {
		t.Errorf("report %+v, want 3 objects, 1 pack, 2 refs", report)
	}
	fsck(t, out)
	// A ref that is gone here goes there; git gc in between changes nothing.
	git(t, out, "gc", "-q")
	if report := mustExport(t, s, heads(two), out); report.Objects != 0 || report.Refs != 1 {
		t.Errorf("report %+v, want no object, 1 ref", report)
	}
	if got, want := git(t, out, "for-each-ref"), two.String()+" commit\trefs/heads/main\n"; got != want {
		t.Errorf("refs %q, want %q", got, want)
	}
	fsck(t, out)
}

func TestExportLeavesOthersAlone(t *testing.T) {
	needGit(t)
	ctx := context.Background()
	s := newStore()
	one := s.commit("one", dir{"a": "1"})
	two := s.commit("two", dir{"a": "2"}, one)

	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	foreign := t.TempDir()
	git(t, foreign, "init", "-q", "--object-format=sha256", ".")
	for _, d := range []string{full, foreign} {
		if _, err := gitpack.Export(ctx, s, heads(one), d, gitpack.Options{}); !errors.Is(err, gitpack.ErrNotExport) {
			t.Errorf("Export into %s = %v, want %v", d, err, gitpack.ErrNotExport)
		}
	}
	if entries, err := os.ReadDir(full); err != nil || len(entries) != 1 {
		t.Errorf("a directory that was refused holds %v, %v", entries, err)
	}

	out := t.TempDir()
	mustExport(t, s, heads(one), out)
	git(t, out, "checkout", "-q", "main")
	git(t, out, "branch", "own")
	if report := mustExport(t, s, heads(two), out); !report.CheckedOut {
		t.Error("an export under checked out files does not say so")
	}
	if got, want := git(t, out, "rev-parse", "own", "main"), fmt.Sprintf("%s\n%s\n", one, two); got != want {
		t.Errorf("own and main are at %q, want %q", got, want)
	}
	git(t, out, "reset", "-q", "--hard")
	git(t, out, "commit", "-q", "--allow-empty", "-m", "work of somebody")
	var moved *gitpack.MovedError
	if _, err := gitpack.Export(ctx, s, heads(one), out, gitpack.Options{}); !errors.As(err, &moved) {
		t.Errorf("Export over somebody's commit = %v, want a MovedError", err)
	}
	fsck(t, out)
}

func TestExportOfCutHistory(t *testing.T) {
	needGit(t)
	s := newStore()
	one := s.commit("one", dir{"a": "1"})
	two := s.commit("two", dir{"a": "2"}, one)
	three := s.commit("three", dir{"a": "3"}, two)
	cut := without{s, one}
	refs := heads(three)
	refs.Shallow = []objects.ID{two}
	out := t.TempDir()
	if _, err := gitpack.Export(context.Background(), cut, heads(three), out, gitpack.Options{}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("Export of history with a hole = %v, want %v", err, objects.ErrNotFound)
	}
	mustExport(t, cut, refs, out)
	fsck(t, out)
	if got, want := git(t, out, "log", "--format=%s"), "three\ntwo\n"; got != want {
		t.Errorf("git log = %q, want %q", got, want)
	}
	// The rest is there again.
	if report := mustExport(t, s, heads(three), out); report.Objects != 3 {
		t.Errorf("report %+v, want 3 objects", report)
	}
	fsck(t, out)
	if got, want := git(t, out, "log", "--format=%s"), "three\ntwo\none\n"; got != want {
		t.Errorf("git log = %q, want %q", got, want)
	}
	// What an export has, it keeps, whatever the cache forgets.
	mustExport(t, cut, refs, out)
	fsck(t, out)
	if got, want := git(t, out, "rev-list", "--count", "main"), "3\n"; got != want {
		t.Errorf("%s commits, want %s", got, want)
	}
	// Nor is it cut where the cache has forgotten the commit, too, at which it was.
	four := s.commit("four", dir{"a": "4"}, three)
	refs = heads(four)
	refs.Shallow = []objects.ID{two, four}
	mustExport(t, without{s, two}, refs, out)
	fsck(t, out)
	if got, want := git(t, out, "rev-list", "--count", "main"), "4\n"; got != want {
		t.Errorf("%s commits, want %s", got, want)
	}
}

func TestExportRefusesNames(t *testing.T) {
	s := newStore()
	id := s.commit("one", dir{})
	for _, name := range []string{"", "main", "refs/heads/", "refs/heads/a..b", "refs/heads/a b", "refs/../x", "refs/heads/x.lock", "refs/heads/a\nb"} {
		out := t.TempDir()
		refs := gitpack.Refs{Head: "refs/heads/main", All: []gitpack.Ref{{Name: name, ID: id}}}
		if _, err := gitpack.Export(context.Background(), s, refs, out, gitpack.Options{}); err == nil {
			t.Errorf("Export of a ref %q: no error", name)
		}
		if entries, _ := os.ReadDir(out); len(entries) > 0 {
			t.Errorf("ref %q was refused after something was written", name)
		}
	}
}

// cutCase is an export over an earlier one, in packs of few objects.
func cutCase() test.Case {
	s := newStore()
	one := s.commit("one", dir{"a": "1", "d": dir{"e": "f"}})
	two := s.commit("two", dir{"a": "2", "d": dir{"e": "g"}, "big": strings.Repeat("big ", 1<<19)}, one)
	refs := heads(two)
	refs.All = append(refs.All, gitpack.Ref{Name: "refs/tags/t", ID: one})
	steps := 3
	if test.Soak() {
		steps = 0 // all of them
	}
	return test.Case{
		Setup: func(out string) error {
			if _, err := gitpack.Export(context.Background(), s, heads(one), out, gitpack.Options{}); err != nil {
				return err
			}
			// As git itself would leave it, in a file of its own.
			heads := filepath.Join(out, ".git", "refs", "heads")
			if err := os.MkdirAll(heads, 0o777); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(heads, "main"), []byte(one.String()+"\n"), 0o666)
		},
		Act: func(out string) error {
			_, err := gitpack.Export(context.Background(), s, refs, out, gitpack.CutSmall)
			return err
		},
		Check: func(t *testing.T, out string, err error) {
			fsck(t, out)
			at := strings.TrimSpace(git(t, out, "rev-parse", "main"))
			if at != two.String() && (err == nil || at != one.String()) {
				t.Errorf("main is at %s", at)
			}
			mustExport(t, s, refs, out)
			fsck(t, out)
			if got, want := git(t, out, "rev-parse", "main", "t"), fmt.Sprintf("%s\n%s\n", two, one); got != want {
				t.Errorf("after one more export main and t are at %q, want %q", got, want)
			}
		},
		Max: steps,
	}
}

// Wherever an export is interrupted, what the repository showed before is there,
// whole, and the next export goes on from there.
func TestExportCutAnywhere(t *testing.T) {
	needGit(t)
	cutCase().EveryStep(t)
}

// The same for the first export, which must know its own beginnings.
func TestFirstExportCutAnywhere(t *testing.T) {
	needGit(t)
	c := cutCase()
	c.Setup = nil
	check := c.Check
	c.Check = func(t *testing.T, out string, err error) {
		if err != nil {
			err = c.Act(out)
		}
		check(t, out, err)
	}
	c.EveryStep(t)
}

func TestExportSurvivesPowerCut(t *testing.T) {
	needGit(t)
	cutCase().PowerCut(t)
}
