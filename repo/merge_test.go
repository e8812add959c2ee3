package repo_test

import (
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func TestMergeTakesEntriesWhole(t *testing.T) {
	r := newRepo(t)
	side := refs.Branch("side")
	start := put(t, r, main, "same=0", "ours=0", "theirs=0", "gone=0", "both=0")
	if _, err := r.Reset(t.Context(), side, start); err != nil {
		t.Fatal(err)
	}
	put(t, r, main, "ours=1", "both=1", "new-ours=1")
	theirs := put(t, r, side, "theirs=2", "gone", "both=2", "new-theirs=2")

	merged, err := r.Merge(t.Context(), main, theirs, repo.Report, "merge side")
	if err != nil || merged.Changed || len(merged.Conflicts) != 1 {
		t.Fatalf("Merge = %+v, %v; want one conflict and no change", merged, err)
	}
	for _, tt := range []struct {
		policy repo.Policy
		both   string
	}{{repo.Ours, "1"}, {repo.Theirs, "2"}} {
		before, err := r.Refs.Get(t.Context(), main)
		if err != nil {
			t.Fatal(err)
		}
		merged, err := r.Merge(t.Context(), main, theirs, tt.policy, "merge side")
		if err != nil || !merged.Changed {
			t.Fatalf("Merge = %+v, %v", merged, err)
		}
		for key, want := range map[string]string{
			"same": "0", "ours": "1", "theirs": "2", "gone": "", "both": tt.both, "new-ours": "1", "new-theirs": "2",
		} {
			if got := get(t, r, main, key); got != want {
				t.Errorf("policy %d: %s = %q, want %q", tt.policy, key, got, want)
			}
		}
		if again, err := r.Merge(t.Context(), main, theirs, repo.Report, ""); err != nil || again.Changed {
			t.Errorf("merging again = %+v, %v; want nothing", again, err)
		}
		if _, err := r.Reset(t.Context(), main, before); err != nil {
			t.Fatal(err)
		}
	}
	checkClean(t, r)
}

func TestMergeFastForwardAndUnrelated(t *testing.T) {
	r := newRepo(t)
	tip := put(t, r, refs.Branch("a"), "x=1")
	merged, err := r.Merge(t.Context(), main, tip, repo.Report, "")
	if err != nil || !merged.FastForward || merged.Tip != tip {
		t.Errorf("Merge into nothing = %+v, %v; want a fast-forward", merged, err)
	}
	other := put(t, r, refs.Branch("b"), "y=1", "x=1")
	if merged, err = r.Merge(t.Context(), main, other, repo.Report, "m"); err != nil || len(merged.Conflicts) > 0 {
		t.Fatalf("Merge of unrelated histories = %+v, %v", merged, err)
	}
	if get(t, r, main, "x") != "1" || get(t, r, main, "y") != "1" {
		t.Error("the merge of unrelated histories lacks an entry")
	}
}

func TestRevertStaysReverted(t *testing.T) {
	r := newRepo(t)
	put(t, r, main, "good=1", "other=1")
	stagePut(t, r, main, "bad=1", "other=2")
	bad, _, err := r.FoldStage(t.Context(), main, "")
	if err != nil {
		t.Fatal(err)
	}
	put(t, r, main, "later=1")
	if _, err := r.Revert(t.Context(), main, bad, repo.Report, ""); err != nil {
		t.Fatal(err)
	}
	put(t, r, main, "last=1") // folds whatever a stage would bring back
	for key, want := range map[string]string{"good": "1", "bad": "", "other": "1", "later": "1", "last": "1"} {
		if got := get(t, r, main, key); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	put(t, r, main, "later=2")
	second, err := r.Refs.Get(t.Context(), main)
	if err != nil {
		t.Fatal(err)
	}
	put(t, r, main, "later=3")
	merged, err := r.Revert(t.Context(), main, second, repo.Report, "")
	if err != nil || len(merged.Conflicts) != 1 || merged.Changed {
		t.Errorf("revert of what was changed since = %+v, %v; want a conflict", merged, err)
	}
}

func TestLogIsNewestFirstAndComplete(t *testing.T) {
	r := newRepo(t)
	var want []objects.ID
	for _, pair := range []string{"a=1", "b=1", "c=1"} {
		want = append(want, put(t, r, main, pair))
	}
	i := len(want)
	for c, err := range r.Log(t.Context(), want[2]) {
		if err != nil {
			t.Fatal(err)
		}
		if i--; c.ID != want[i] {
			t.Errorf("commit %d is %s, want %s", i, c.ID.Short(), want[i].Short())
		}
	}
	if i != 0 {
		t.Errorf("%d commits were not shown", i)
	}
}
