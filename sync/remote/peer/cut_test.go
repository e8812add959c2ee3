package peer_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// line is commits in a row, of one tree.
func line(n int) (commits []remotetest.Item, rest []remotetest.Item) {
	blob := remotetest.Blob("a")
	tree := remotetest.Tree("a", blob)
	for i := range n {
		commits = append(commits, remotetest.Commit(i+1, tree, commits[max(0, i-1):i]...))
	}
	return commits, []remotetest.Item{blob, tree}
}

func update(t *testing.T, r remote.Remote, name refs.Name, old, next objects.ID, cut ...remotetest.Item) error {
	t.Helper()
	var ids []objects.ID
	for _, c := range cut {
		ids = append(ids, c.ID())
	}
	return r.(remote.Cutter).UpdateCut(t.Context(), ids, refs.Update{Name: name, Old: old, New: next})
}

// A push that noted a cut and then lost its race leaves a note. It says nothing about
// history that comes later and is whole.
func TestNoteOfLostRace(t *testing.T) {
	r := fresh(t)()
	c, rest := line(4)
	remotetest.Upload(t, r, append(rest, c[2], c[3])...)
	if err := update(t, r, "refs/heads/main", objects.ID{}, c[3].ID()); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("history without its beginning was taken: %v", err)
	}
	var conflict *refs.ConflictError
	if err := update(t, r, "refs/heads/main", c[0].ID(), c[3].ID(), c[2]); !errors.As(err, &conflict) {
		t.Errorf("%v, want a conflict", err)
	}
	remotetest.WantShallow(t, r, c[2])
	remotetest.Upload(t, r, c[0], c[1])
	if err := update(t, r, "refs/heads/main", objects.ID{}, c[3].ID()); err != nil {
		t.Fatal(err)
	}
	remotetest.WantShallow(t, r)
}

// Who has cut history off is not sent what he has, and is sent what he has cut off
// where another branch needs it.
func TestFetchIntoCut(t *testing.T) {
	r := fresh(t)()
	c, rest := line(4)
	fork := remotetest.Commit(9, rest[1], c[1])
	remotetest.Upload(t, r, append(append(rest, c...), fork)...)
	id := func(i int) []objects.ID { return []objects.ID{c[i].ID()} }
	for _, tt := range []struct {
		name string
		q    remote.Request
		want int
	}{
		{"whole", remote.Request{Want: id(3), Have: id(2), Extent: remote.History}, 1},
		{"cut", remote.Request{Want: id(3), Have: id(2), Shallow: id(2), Extent: remote.History}, 1},
		{"branch of whole", remote.Request{Want: []objects.ID{fork.ID()}, Have: id(3), Extent: remote.History}, 1},
		{"branch of cut", remote.Request{Want: []objects.ID{fork.ID()}, Have: id(3), Shallow: id(2), Extent: remote.History}, 3},
	} {
		body, err := r.Fetch(t.Context(), tt.q)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := remotetest.Unpack(body); err != nil || len(got) != tt.want {
			t.Errorf("%s: %d objects, %v, want %d", tt.name, len(got), err, tt.want)
		}
	}
}

// Of two who push the same commit, one with its beginning and one without, none breaks
// what the other was told: in whatever order, what refs lead to is there.
func TestRaceCut(t *testing.T) {
	for range 30 {
		open := fresh(t)
		c, rest := line(3)
		remotetest.Upload(t, open(), append(rest, c[1], c[2])...)
		var both sync.WaitGroup
		for name, do := range map[refs.Name]func(remote.Remote, refs.Name) error{
			"refs/heads/cut": func(r remote.Remote, name refs.Name) error {
				return update(t, r, name, objects.ID{}, c[2].ID(), c[1])
			},
			"refs/heads/whole": func(r remote.Remote, name refs.Name) error {
				remotetest.Upload(t, r, c[0])
				return update(t, r, name, objects.ID{}, c[2].ID())
			},
		} {
			r := open()
			both.Go(func() {
				if err := do(r, name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		both.Wait()
		r := open()
		if err := update(t, r, "refs/heads/third", objects.ID{}, c[2].ID()); err != nil {
			t.Error(err)
		}
		body, err := r.Fetch(t.Context(), remote.Request{Want: []objects.ID{c[2].ID()}, Extent: remote.Closure})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := remotetest.Unpack(body); err != nil {
			t.Error(err)
		}
	}
}
