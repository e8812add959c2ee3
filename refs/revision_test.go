package refs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/refs/refstest"
)

// store is objects in memory, for a Resolver.
type store map[objects.ID]stored

type stored struct {
	kind objects.Kind
	body []byte
}

func (s store) Open(_ context.Context, id objects.ID) (objects.Object, error) {
	o, ok := s[id]
	if !ok {
		return objects.Object{}, objects.ErrNotFound
	}
	return objects.Object{Kind: o.kind, Size: int64(len(o.body)), Body: io.NopCloser(bytes.NewReader(o.body))}, nil
}

func (s store) Expand(_ context.Context, prefix string) (ids []objects.ID, err error) {
	for id := range s {
		if strings.HasPrefix(id.String(), prefix) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, objects.ID.Compare)
	return ids, nil
}

func (s store) put(k objects.Kind, body []byte) objects.ID {
	id := objects.Sum(k, body)
	s[id] = stored{k, body}
	return id
}

func (s store) commit(message string, parents ...objects.ID) objects.ID {
	c := objects.CommitBody{Tree: s.put(objects.Tree, nil), Parents: parents, Author: someone, Committer: someone, Message: message + "\n"}
	return s.put(objects.Commit, c.Encode())
}

// A gitRepo is made by Git; we read its refs, logs and objects.
type gitRepo struct {
	git, dir string
	when     int64
}

const start = 1769000000

func (g *gitRepo) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(g.git, append([]string{"-C", g.dir, "-c", "core.logAllRefUpdates=always", "-c", "user.name=A U Thor", "-c", "user.email=a@example.com"}, args...)...)
	date := fmt.Sprintf("%d +0100", g.when)
	cmd.Env = append(os.Environ(), "TZ=XXX-1", "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date, fmt.Sprintf("GIT_TEST_DATE_NOW=%d", start+100*86400), "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

func (g *gitRepo) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := g.run(t, args...)
	if err != nil {
		t.Fatalf("git %q: %v", args, err)
	}
	return out
}

// commit makes a commit on the current branch, ten days after the one before.
func (g *gitRepo) commit(t *testing.T, message string) {
	g.when += 10 * 86400
	os.WriteFile(filepath.Join(g.dir, "file"), []byte(message), 0o666)
	g.must(t, "add", "file")
	g.must(t, "commit", "-q", "-m", message)
}

func newGitRepo(t *testing.T) *gitRepo {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("no git: apt-get install git")
	}
	g := &gitRepo{git: git, dir: t.TempDir(), when: start}
	g.must(t, "init", "-q", "--object-format=sha256", "-b", "main")
	for i := range 4 {
		g.commit(t, fmt.Sprintf("main %d", i))
	}
	g.must(t, "tag", "light", "HEAD~1")
	g.must(t, "tag", "-a", "-m", "a tag", "v1", "HEAD~2")
	g.must(t, "tag", "-a", "-m", "a tag of a tag", "v1-signed", "v1")
	g.must(t, "tag", "-a", "-m", "a tag of a tree", "tree-tag", "HEAD^{tree}")
	g.must(t, "tag", "-a", "-m", "a tag of a blob", "blob-tag", "HEAD:file")
	g.must(t, "checkout", "-q", "-b", "side/deep", "HEAD~2")
	g.commit(t, "side 0")
	g.commit(t, "side 1")
	g.must(t, "checkout", "-q", "main")
	g.when += 10 * 86400
	g.must(t, "merge", "-q", "-s", "ours", "-m", "merge", "side/deep")
	g.must(t, "reset", "-q", "--soft", "HEAD~3")
	g.must(t, "reset", "-q", "--soft", "main@{1}")
	g.must(t, "update-ref", "refs/remotes/origin/main", "HEAD~1")
	g.must(t, "update-ref", "refs/remotes/origin/feature", "HEAD~3")
	g.must(t, "branch", "both", "HEAD~1")
	g.must(t, "tag", "both", "HEAD~2")
	g.must(t, "branch", "abcd1", "HEAD~1")
	return g
}

// objects returns all that Git has stored.
func (g *gitRepo) objects(t *testing.T) store {
	t.Helper()
	s := store{}
	list := g.must(t, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
	for line := range strings.SplitSeq(list, "\n") {
		name, kind, _ := strings.Cut(line, " ")
		body, err := exec.Command(g.git, "-C", g.dir, "cat-file", kind, name).Output()
		if err != nil {
			t.Fatal(err)
		}
		k, err := objects.ParseKind(kind)
		if err != nil {
			t.Fatal(err)
		}
		if id := s.put(k, body); id.String() != name {
			t.Fatalf("%s is %s", name, id)
		}
	}
	return s
}

func TestResolveAsGit(t *testing.T) {
	g := newGitRepo(t)
	now := time.Unix(start+100*86400, 0).In(time.FixedZone("", 3600))
	objs := g.objects(t)
	r := refs.Resolver{
		Refs: refs.Open(filepath.Join(g.dir, ".git"), refs.Options{}), Objects: objs, IDs: objs,
		Head: "refs/heads/main", Now: now,
	}
	bases := []string{
		"HEAD", "@", "main", "heads/main", "refs/heads/main", "side/deep", "light", "v1", "tags/v1", "refs/tags/v1", "v1-signed", "tree-tag", "blob-tag",
		"origin/main", "remotes/origin/main", "refs/remotes/origin/feature", "both", "heads/both", "abcd1", "nothing", "side", "refs/heads", "", "main..", "a b",
		g.must(t, "rev-parse", "main"), g.must(t, "rev-parse", "main")[:12], g.must(t, "rev-parse", "v1")[:10], g.must(t, "rev-parse", "HEAD^{tree}")[:8],
		strings.ToUpper(g.must(t, "rev-parse", "main~1"))[:12], "ffffffffff", "abc",
		"@{0}", "@{1}", "@{3}", "@{99}", "main@{0}", "main@{1}", "main@{2}", "main@{3}", "main@{4}", "main@{5}", "main@{6}", "main@{7}", "main@{8}",
		"side/deep@{1}", "side/deep@{2}", "side/deep@{3}", "origin/main@{0}", "origin/main@{1}", "light@{0}", "nothing@{1}",
		"main@{now}", "main@{yesterday}", "main@{2 days ago}", "main@{60.days.ago}", "main@{61 days ago}", "main@{70 days ago}", "main@{80 days ago}",
		"main@{2026-01-31}", "main@{2026-02-11 12:00}", "main@{2026-02-21}", "main@{2020-01-01}", "side/deep@{2026-03-12}", "main@{1771000000}",
		"@{yesterday}", "@{70 days ago}", "main@{garbage}", "main@{1}@{1}", "main@{}", "main@{-1}",
	}
	suffixes := []string{
		"", "~", "~0", "~1", "~2", "~3", "~4", "~99", "~99999999999999999999", "^", "^0", "^1", "^2", "^3", "^^", "^2^", "^2~1", "~1^1", "^2^2", "~1~1",
		"^{commit}", "^{}", "^{tree}", "^{tag}", "^{blob}", "^{object}", "^{nonsense}", "^{commit}~1", "^{}^{tree}", "^{tree}^{commit}", "~1^{tree}", "^{tag}^{}",
	}
	every := len(suffixes) / test.Count(t, len(suffixes))
	for i, base := range bases {
		for j, suffix := range suffixes {
			if suffix != "" && (i+j)%every != 0 {
				continue
			}
			rev := base + suffix
			want, err := g.run(t, "rev-parse", "-q", "--verify", rev, "--")
			if err != nil || strings.Contains(want, "\n") {
				want = ""
			}
			got, err := r.Resolve(t.Context(), rev)
			if err != nil {
				checkRevisionError(t, rev, err)
			}
			if err != nil && strings.Contains(base, "@{") && strings.Contains(suffix, "^{") {
				continue // Git goes on to take "0}^{tag" of "@{0}^{tag}" for a date
			}
			if err == nil && got.String() != want || err != nil && want != "" {
				t.Errorf("%s is %s, %v\nGit says %q", rev, got, err, want)
			}
		}
	}
}

// checkRevisionError wants the revision to be named, as it was given.
func checkRevisionError(t *testing.T, rev string, err error) {
	t.Helper()
	var wrong *refs.RevisionError
	if errors.As(err, &wrong) && wrong.Rev != rev || !strings.Contains(err.Error(), fmt.Sprintf("revision %q", rev)) {
		t.Errorf("the error for %q does not name it: %v", rev, err)
	}
}

func TestRevisionErrors(t *testing.T) {
	ctx := t.Context()
	objs, mem := store{}, &refstest.Memory{Who: someone}
	one := objs.commit("one")
	two := objs.commit("two", one)
	for name, id := range map[refs.Name]objects.ID{mainBranch: two, "refs/heads/feature/cache": one, "refs/tags/v1": objs.put(objects.Blob, []byte("blob"))} {
		if err := mem.Apply(ctx, refs.Update{Name: name, New: id}); err != nil {
			t.Fatal(err)
		}
	}
	var twins []objects.ID // two objects that begin alike
	for i := 0; len(twins) == 0; i++ {
		id := objs.put(objects.Blob, fmt.Appendf(nil, "%d", i))
		if same, _ := objs.Expand(ctx, id.String()[:4]); len(same) > 1 {
			twins = same
		}
	}
	r := refs.Resolver{Refs: mem, Objects: objs, IDs: objs, Head: "refs/heads/new"}
	for _, tt := range []struct {
		rev     string
		unknown bool
		want    string
	}{
		{"mian", true, `revision "mian": no branch, tag or commit is called so; did you mean main?`},
		{"Main~3", true, `did you mean main?`},
		{"cache", true, `did you mean feature/cache?`},
		{"nothing-like-it", true, `revision "nothing-like-it": no branch, tag or commit is called so`},
		{"HEAD", true, `branch new has no commit yet`},
		{"@~1", true, `branch new has no commit yet`},
		{"main~2", false, `revision "main~2": history goes back only 1 commits from there, to ` + one.Short()},
		{"main^2", false, `revision "main^2": commit ` + two.Short() + ` has 1 parents, not 2`},
		{"main@{5}", false, `revision "main@{5}": the reflog of refs/heads/main knows only 1 values`},
		{"main@{tomorow}", false, `"tomorow" is neither a number nor a date`},
		{"v1", false, `leads to a blob, not a commit`},
		{"v1^{x}", false, `^{x} is not known`},
		{twins[0].String()[:4], false, twins[0].Short() + " (blob), " + twins[1].Short() + " (blob)"},
		{strings.Repeat("~", 5000), true, "too long"},
		{refstest.ID(77).String(), true, objects.ErrNotFound.Error()},
	} {
		_, err := r.ResolveCommit(ctx, tt.rev)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.20s: %v\nwant %s", tt.rev, err, tt.want)
		}
		if tt.unknown != (errors.Is(err, refs.ErrNotFound) || errors.Is(err, objects.ErrNotFound)) {
			t.Errorf("%.20s: %v: as unknown: %v", tt.rev, err, !tt.unknown)
		}
	}
}

// Where history was cut off, revisions lead no further, even if something is there.
func TestRevisionsOfCutHistory(t *testing.T) {
	objs, mem := store{}, &refstest.Memory{Who: someone}
	one := objs.commit("one")
	two := objs.commit("two", one)
	three := objs.commit("three", two)
	if err := mem.Apply(t.Context(), refs.Update{Name: "refs/heads/main", New: three}); err != nil {
		t.Fatal(err)
	}
	r := refs.Resolver{Refs: mem, Objects: objs, Shallow: map[objects.ID]bool{two: true, one: true}}
	for rev, want := range map[string]string{
		"main~1": "", "main^": "", "main~1^0": "", one.String(): "",
		"main~2":           `revision "main~2": history was cut off at ` + two.Short() + ", 1 back from there",
		"main^^":           `revision "main^^": history was cut off at ` + two.Short() + ": its parents are gone",
		two.String() + "^": "history was cut off at " + two.Short(),
		one.String() + "~": "history goes back only 0 commits",
	} {
		_, err := r.ResolveCommit(t.Context(), rev)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", rev, err, want)
		}
	}
}

// Where only one of several is a commit, and a commit is wanted, it is that one.
func TestShortCommit(t *testing.T) {
	objs := store{}
	one := objs.commit("one")
	for i := 0; ; i++ {
		if id := objs.put(objects.Blob, fmt.Appendf(nil, "%d", i)); id.String()[:4] == one.String()[:4] {
			break
		}
	}
	r := refs.Resolver{Refs: &refstest.Memory{}, Objects: objs, IDs: objs}
	short := one.String()[:4]
	if _, err := r.Resolve(t.Context(), short); err == nil {
		t.Error("an ambiguous id was taken")
	}
	for _, rev := range []string{short + "^0", short + "~0", short + "^{commit}"} {
		if id, err := r.Resolve(t.Context(), rev); err != nil || id != one {
			t.Errorf("%s is %s, %v", rev, id.Short(), err)
		}
	}
	if id, err := r.ResolveCommit(t.Context(), short); err != nil || id != one {
		t.Errorf("ResolveCommit: %s, %v", id.Short(), err)
	}
}

func TestResolveWarns(t *testing.T) {
	objs, mem := store{}, &refstest.Memory{Who: someone}
	one := objs.commit("one")
	for _, name := range []refs.Name{"refs/heads/both", "refs/tags/both"} {
		if err := mem.Apply(t.Context(), refs.Update{Name: name, New: one}); err != nil {
			t.Fatal(err)
		}
	}
	var warned []string
	r := refs.Resolver{Refs: mem, Objects: objs, Warn: func(s string) { warned = append(warned, s) }}
	for _, rev := range []string{"both", "heads/both@{2001-01-01}"} {
		if _, err := r.Resolve(t.Context(), rev); err != nil {
			t.Error(err)
		}
	}
	if len(warned) != 2 || !strings.Contains(warned[0], "refs/tags/both or refs/heads/both") || !strings.Contains(warned[1], "goes back only to") {
		t.Errorf("warned: %q", warned)
	}
}

func FuzzResolve(f *testing.F) {
	objs, mem := store{}, &refstest.Memory{Who: someone}
	one := objs.commit("one")
	two := objs.commit("two", one)
	if err := mem.Apply(f.Context(), refs.Update{Name: mainBranch, New: two}); err != nil {
		f.Fatal(err)
	}
	r := refs.Resolver{Refs: mem, Objects: objs, IDs: objs, Head: mainBranch}
	for _, rev := range []string{"main~1", "@{0}^{tree}", "main^{commit}^2", "@{yesterday}~", two.String()[:6]} {
		f.Add(rev)
	}
	f.Fuzz(func(t *testing.T, rev string) {
		id, err := r.Resolve(t.Context(), rev)
		if err == nil && id.IsZero() && !strings.HasPrefix(rev, "00000") {
			t.Errorf("%q is nothing", rev)
		}
	})
}
