package repo_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

const (
	branch   refs.Name = "refs/heads/main"
	tracking refs.Name = "refs/remotes/origin/main"
)

// seen says that the remote's branch is now at id.
func seen(t *testing.T, r *repo.Repo, ids ...objects.ID) {
	t.Helper()
	for _, id := range ids {
		old, err := r.Refs.Get(t.Context(), tracking)
		if err != nil && !errors.Is(err, refs.ErrNotFound) {
			t.Fatal(err)
		}
		if err := r.Refs.Apply(t.Context(), refs.Update{Name: tracking, Old: old, New: id, Reason: "fetch"}); err != nil {
			t.Fatal(err)
		}
	}
}

// cut cuts history off at commits.
func cut(t *testing.T, r *repo.Repo, ids ...objects.ID) {
	t.Helper()
	err := r.EditShallow(t.Context(), func(shallow map[objects.ID]bool) {
		for _, id := range ids {
			shallow[id] = true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// start makes a branch begin at another one.
func start(t *testing.T, r *repo.Repo, name refs.Name, at objects.ID) {
	t.Helper()
	if err := r.Refs.Apply(t.Context(), refs.Update{Name: name, New: at}); err != nil {
		t.Fatal(err)
	}
}

func merge(t *testing.T, r *repo.Repo, theirs objects.ID) repo.Merged {
	t.Helper()
	m, err := r.Merge(t.Context(), branch, theirs, repo.Theirs, "Merge main of origin")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The base is what was seen of the remote before it cut its history off, whatever was
// seen, or done here, in between.
func TestMergeTakesWhatWasSeenAsBase(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mine   bool // something was added here
		seen   func(first, second, evicted objects.ID) []objects.ID
		tip    int // of first and second, from which the branch begins
		want   []string
		length int
	}{
		{"behind", false, func(a, b, e objects.ID) []objects.ID { return []objects.ID{a, b, e} }, 2, []string{"b", "c"}, 1},
		{"ahead", true, func(a, b, e objects.ID) []objects.ID { return []objects.ID{a, b, e} }, 2, []string{"b", "c", "mine"}, 2},
		{"not merged for a while", true, func(a, b, e objects.ID) []objects.ID { return []objects.ID{a, b, e} }, 1, []string{"b", "c", "mine"}, 2},
		{"seen again", true, func(a, b, e objects.ID) []objects.ID { return []objects.ID{a, b, e, b, e} }, 2, []string{"b", "c", "mine"}, 2},
		{"seen later", true, func(a, b, e objects.ID) []objects.ID { return []objects.ID{e, b} }, 2, []string{"a", "b", "c", "mine"}, 0},
		{"never seen", true, func(a, b, e objects.ID) []objects.ID { return nil }, 2, []string{"a", "b", "c", "mine"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRepo(t)
			first := put(t, r, "refs/heads/remote", "a=1")
			second := put(t, r, "refs/heads/remote", "b=1")
			put(t, r, "refs/heads/remote", "a")
			evicted := put(t, r, "refs/heads/remote", "c=1")
			start(t, r, branch, []objects.ID{first, second}[tt.tip-1])
			if tt.mine {
				put(t, r, branch, "mine=1")
			}
			seen(t, r, tt.seen(first, second, evicted)...)
			cut(t, r, evicted)
			m := merge(t, r, evicted)
			for _, key := range []string{"a", "b", "c", "mine"} {
				want := ""
				for _, k := range tt.want {
					if k == key {
						want = "1"
					}
				}
				if got := get(t, r, branch, key); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if m.FastForward != (m.Tip == evicted) || m.FastForward == tt.mine {
				t.Errorf("%+v", m)
			}
			if m.Baseless != (tt.length == 0) {
				t.Errorf("Baseless is %v", m.Baseless)
			}
			if tt.length == 0 {
				return
			}
			var all []repo.Commit
			for c, err := range r.Log(t.Context(), m.Tip) {
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, c)
			}
			if len(all) != tt.length || !all[len(all)-1].Cut {
				t.Errorf("%d commits, want %d: %v", len(all), tt.length, all)
			}
			if tt.mine && (!strings.Contains(all[0].Message, "This stands for:\n\n    ") || len(all[0].Parents) != 1) {
				t.Errorf("the merge has parents %v and the message\n%s", all[0].Parents, all[0].Message)
			}
			if again := merge(t, r, evicted); again.Changed {
				t.Errorf("merged once more: %+v", again)
			}
		})
	}
}

// History can lead around the cut to an older commit than was seen: that would bring
// back what was there in between.
func TestMergeAroundCut(t *testing.T) {
	r := newRepo(t)
	const remote refs.Name = "refs/heads/remote"
	first := put(t, r, remote, "b=1")
	start(t, r, "refs/heads/side", first)
	side := put(t, r, "refs/heads/side", "c=1")
	second := put(t, r, remote, "a=1")
	start(t, r, branch, second)
	put(t, r, branch, "mine=1")
	evicted := put(t, r, remote, "a")
	merged, err := r.Merge(t.Context(), remote, side, repo.Theirs, "Merge side")
	if err != nil {
		t.Fatal(err)
	}
	seen(t, r, second, merged.Tip)
	cut(t, r, evicted)
	merge(t, r, merged.Tip)
	for key, want := range map[string]string{"a": "", "b": "1", "c": "1", "mine": "1"} {
		if got := get(t, r, branch, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// Somebody has deleted the branch at the remote, and somebody else begun it anew: what
// was there before was not taken out of it.
func TestMergeOfWhatWasBegunAnew(t *testing.T) {
	r := newRepo(t)
	first := put(t, r, branch, "a=1")
	put(t, r, branch, "mine=1")
	other := put(t, r, "refs/heads/other", "b=1")
	seen(t, r, first, other)
	if m := merge(t, r, other); m.Baseless {
		t.Errorf("%+v", m)
	}
	for _, key := range []string{"a", "b", "mine"} {
		if got := get(t, r, branch, key); got != "1" {
			t.Errorf("%s is %q", key, got)
		}
	}
}

func TestRevertOfCutCommit(t *testing.T) {
	r := newRepo(t)
	put(t, r, branch, "a=1")
	second := put(t, r, branch, "b=1")
	third := put(t, r, branch, "c=1")
	cut(t, r, second)
	if m, err := r.Revert(t.Context(), branch, second, repo.Report, ""); !errors.Is(err, repo.ErrCut) || m.Changed {
		t.Errorf("Revert of a cut commit: %+v, %v", m, err)
	}
	if _, err := r.Revert(t.Context(), branch, third, repo.Report, ""); err != nil {
		t.Error(err)
	}
	if get(t, r, branch, "a") != "1" || get(t, r, branch, "b") != "1" || get(t, r, branch, "c") != "" {
		t.Error("the wrong entry was taken back")
	}
}

// What the remote has cut off is known here: as the base, but not as a parent, or the
// next push would bring it there again.
func TestMergeCutThere(t *testing.T) {
	r := newRepo(t)
	old := put(t, r, main, "old=1")
	last := put(t, r, main, "kept=1")
	there := refs.Branch("there")
	start(t, r, there, last)
	evicted := put(t, r, there, "old")
	mine := put(t, r, main, "mine=1")
	m, err := r.MergeCut(t.Context(), main, evicted, map[objects.ID]bool{evicted: true}, repo.Theirs, "Merge main of origin")
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(t, r, main, "old", "kept", "mine"); got != "kept mine" {
		t.Errorf("there are %s", got)
	}
	c, err := r.Commit(t.Context(), m.Tip)
	if err != nil || len(c.Parents) != 1 || c.Parents[0] != evicted || !strings.Contains(c.Message, mine.Short()) {
		t.Errorf("%+v, %v: want one upon %s that stands for %s", c, err, evicted.Short(), mine.Short())
	}
	// Where it was cut off before what both come from, a merge is a merge.
	more := put(t, r, there, "more=1")
	put(t, r, main, "late=1")
	if m, err = r.MergeCut(t.Context(), main, more, map[objects.ID]bool{old: true}, repo.Theirs, "Merge main of origin"); err != nil {
		t.Fatal(err)
	}
	if c, err = r.Commit(t.Context(), m.Tip); err != nil || len(c.Parents) != 2 {
		t.Errorf("%+v, %v: want two parents", c, err)
	}
}
