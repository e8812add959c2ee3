package remotetest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// Cuts is a repository's list of the commits whose parents were cut off, in memory.
type Cuts struct {
	mu  sync.Mutex
	all map[objects.ID]bool // guarded by mu
}

// Shallow returns the list.
func (c *Cuts) Shallow() (map[objects.ID]bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.all), nil
}

// EditShallow changes the list.
func (c *Cuts) EditShallow(ctx context.Context, edit func(map[objects.ID]bool)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[objects.ID]bool{}
	}
	edit(c.all)
	return ctx.Err()
}

// WantShallow fails the test unless history is cut off at exactly these commits.
func WantShallow(t *testing.T, r remote.Remote, want ...Item) {
	t.Helper()
	cutter, ok := r.(remote.Cutter)
	if !ok {
		t.Fatalf("%T is no remote.Cutter", r)
	}
	allRefs(t, r, "refs/heads/") // it may be as old as these
	got, err := cutter.Shallow(t.Context())
	slices.SortFunc(got, objects.ID.Compare)
	all := ids(want)
	slices.SortFunc(all, objects.ID.Compare)
	if diff := cmp.Diff(all, slices.Clip(got)); err != nil || len(all)+len(got) > 0 && diff != "" {
		t.Errorf("Shallow: %v\n%s", err, diff)
	}
}

// testCutHistory pushes history without its beginning: it ends there, but only as far
// as the beginning is not there.
func testCutHistory(t *testing.T, open func() remote.Remote) {
	r := open()
	blob := Blob("a")
	tree := Tree("a", blob)
	first := Commit(1, tree)
	second := Commit(2, tree, first)
	third := Commit(3, tree, second)
	at := map[refs.Name]objects.ID{}
	push := func(name refs.Name, to Item, cut ...Item) {
		t.Helper()
		u := refs.Update{Name: name, Old: at[name], New: to.ID(), Reason: "test"}
		if err := r.(remote.Cutter).UpdateCut(t.Context(), ids(cut), u); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		at[name] = u.New
	}
	both := func(want ...Item) {
		t.Helper()
		WantShallow(t, r, want...)
		WantShallow(t, open(), want...)
	}
	both()
	Upload(t, r, blob, tree, second, third)
	push("refs/heads/main", third, second)
	both(second)
	for _, extent := range []remote.Extent{remote.Only, remote.History, remote.Closure} {
		body, err := open().Fetch(t.Context(), remote.Request{Want: []objects.ID{third.ID()}, Extent: extent})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Unpack(body); err != nil || got[third.ID()].Body == nil {
			t.Errorf("fetch of extent %d: %d objects, %v", extent, len(got), err)
		}
		body.Close()
	}

	// History grows from there as any other.
	fourth := Commit(4, tree, third)
	Upload(t, r, fourth)
	push("refs/heads/main", fourth)
	both(second)

	// What is there nobody can hide: neither from others nor from those who come later.
	other := Commit(11, tree)
	next := Commit(12, tree, other)
	Upload(t, r, other, next)
	push("refs/heads/whole", other)
	push("refs/heads/whole", next, next)
	last := Commit(13, tree, next)
	Upload(t, r, last)
	push("refs/heads/whole", last, next, last, other)
	both(second)

	// A commit that is there, but not all that it leads to, is as good as none.
	lost := Commit(21, Tree("b", Blob("lost")))
	found := Commit(22, tree, lost)
	Upload(t, r, lost, found)
	push("refs/heads/found", found, found)
	both(second, found)

	// Of several parents one is enough.
	merge := Commit(31, tree, last, Commit(30, tree))
	Upload(t, r, merge)
	push("refs/heads/merge", merge, merge)
	both(second, found, merge)

	// Both sides at once: the one brings what the other lacks.
	a := Commit(41, tree)
	b := Commit(42, tree, a)
	Upload(t, r, a, b)
	u := []refs.Update{{Name: "refs/heads/a", New: a.ID()}, {Name: "refs/heads/b", New: b.ID()}}
	if err := r.(remote.Cutter).UpdateCut(t.Context(), ids([]Item{b}), u...); err != nil {
		t.Error(err)
	}
	both(second, found, merge)
}
