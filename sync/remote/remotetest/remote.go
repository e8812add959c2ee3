package remotetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// RunRemote tests a remote. Each call of fresh makes a new empty one and returns
// a function that opens a new conversation with it.
func RunRemote(t *testing.T, fresh func(t *testing.T) (open func() remote.Remote)) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, func() remote.Remote)
	}{
		{"EmptyRemote", testEmptyRemote},
		{"Objects", testObjects},
		{"ManyPacks", testManyPacks},
		{"Deltas", testDeltas},
		{"BadPacks", testBadPacks},
		{"Refs", testRefs},
		{"CutHistory", testCutHistory},
		{"Uses", testUses},
		{"CancelledRemote", testCancelledRemote},
		{"RaceUpdate", testRaceUpdate},
		{"RacePushes", testRacePushes},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, fresh(t)) })
	}
}

// Upload uploads items as a pack with one block.
func Upload(t *testing.T, r remote.Remote, items ...Item) {
	t.Helper()
	if err := upload(t, r, items); err != nil {
		t.Fatal(err)
	}
}

// UploadBlocks uploads a pack with a block for each of blocks.
func UploadBlocks(t *testing.T, r remote.Remote, blocks ...[]Item) {
	t.Helper()
	if err := upload(t, r, blocks...); err != nil {
		t.Fatal(err)
	}
}

func upload(t *testing.T, r remote.Remote, blocks ...[]Item) error {
	p := Pack(t, blocks...)
	return r.Upload(t.Context(), bytes.NewReader(p), int64(len(p)))
}

// Fetch fetches exactly these, and returns all that came by id.
func Fetch(ctx context.Context, r remote.Remote, want ...objects.ID) (map[objects.ID]Item, error) {
	body, err := r.Fetch(ctx, remote.Request{Want: want})
	if err != nil {
		return nil, err
	}
	got, err := Unpack(body)
	if closed := body.Close(); err == nil {
		err = closed
	}
	return got, err
}

// WantFetched fails the test unless all items can be fetched, byte for byte.
func WantFetched(t *testing.T, r remote.Remote, items ...Item) {
	t.Helper()
	got, err := Fetch(t.Context(), r, ids(items)...)
	if err != nil {
		t.Errorf("Fetch: %v", err)
		return
	}
	for _, i := range items {
		if !bytes.Equal(got[i.ID()].Body, i.Body) {
			t.Errorf("%s %s did not come", i.Type, i.ID().Short())
		}
	}
}

func ids(items []Item) (ids []objects.ID) {
	for _, i := range items {
		ids = append(ids, i.ID())
	}
	return ids
}

func wantMissing(t *testing.T, r remote.Remote, of []Item, want ...Item) {
	t.Helper()
	got, err := r.Missing(t.Context(), ids(of))
	if diff := cmp.Diff(ids(want), got); err != nil || diff != "" {
		t.Errorf("Missing: %v\n%s", err, diff)
	}
}

func allRefs(t *testing.T, r remote.Remote, prefix string) map[refs.Name]objects.ID {
	t.Helper()
	all := map[refs.Name]objects.ID{}
	var names []string
	for ref, err := range r.Refs(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all[ref.Name] = ref.ID
		names = append(names, string(ref.Name))
	}
	if !slices.IsSorted(names) {
		t.Errorf("refs in disorder: %q", names)
	}
	return all
}

func testEmptyRemote(t *testing.T, open func() remote.Remote) {
	r := open()
	if got := allRefs(t, r, ""); len(got) > 0 {
		t.Errorf("refs: %v", got)
	}
	a, b := Blob("a"), Blob("b")
	wantMissing(t, r, []Item{b, a, b}, b, a, b)
	wantMissing(t, r, nil)
	if _, err := Fetch(t.Context(), r, a.ID()); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("Fetch: %v", err)
	}
	if err := r.Update(t.Context()); err != nil {
		t.Errorf("Update of nothing: %v", err)
	}
}

func testObjects(t *testing.T, open func() remote.Remote) {
	r := open()
	a, b, other := Blob("a"), Blob(strings.Repeat("b", 100_000)), Blob("other")
	chunk := Item{pack.Chunk, noise(70_000)}
	big := objects.Sum(objects.Blob, chunk.Body)
	recipe := Item{pack.Recipe, pack.AppendRecipe(nil, big, 70_000, []pack.Piece{{ID: chunk.ID(), Size: 70_000}})}
	tree := Tree("a", a)
	commit := Commit(1, tree)
	all := []Item{a, b, chunk, recipe, tree, commit}
	for range 2 { // the same once more is no error
		if err := upload(t, r, []Item{a, b}, []Item{chunk}, []Item{recipe, tree}, []Item{commit}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []remote.Remote{r, open()} {
		wantMissing(t, r, append([]Item{other}, append(all, other)...), other, other)
		WantFetched(t, r, all...)
		WantFetched(t, r, b)
		WantFetched(t, r, recipe, commit)
		WantFetched(t, r)
		if _, err := Fetch(t.Context(), r, a.ID(), other.ID()); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("Fetch of what is not there: %v", err)
		}
	}
}

// testManyPacks uploads pack after pack, and reads all of it all the time.
func testManyPacks(t *testing.T, open func() remote.Remote) {
	r := open()
	var all []Item
	for i := range 25 {
		var some []Item
		for j := range 1 + 3*i%40 {
			some = append(some, Blob(fmt.Sprint(i, j)))
		}
		Upload(t, r, some...)
		all = append(all, some...)
	}
	wantMissing(t, open(), all)
	WantFetched(t, open(), all...)
	// Nobody said that packs are disjoint.
	Upload(t, r, append([]Item{Blob("new")}, all[:10]...)...)
	WantFetched(t, open(), append(all, Blob("new"))...)
}

func testDeltas(t *testing.T, open func() remote.Remote) {
	r := open()
	a := Blob("a")
	var entries objects.Entries
	for i := range 100 {
		entries = append(entries, objects.Entry{Mode: objects.ModeFile, Name: fmt.Sprintf("%03d", i), ID: a.ID()})
	}
	base := Item{pack.Tree, entries.Encode()}
	entries[50].ID = Blob("b").ID()
	tree := entries.Encode()
	body, ok := pack.AppendDelta(nil, objects.Sum(objects.Tree, tree), tree, base.ID(), base.Body, len(tree))
	if !ok {
		t.Fatal("no delta")
	}
	delta := Item{pack.Delta, body}
	Upload(t, r, base)
	Upload(t, r, delta)
	got, err := Fetch(t.Context(), open(), objects.Sum(objects.Tree, tree))
	if err != nil {
		t.Fatal(err)
	}
	whole, isWhole := got[objects.Sum(objects.Tree, tree)]
	if !isWhole {
		t.Fatal("the tree did not come")
	}
	if _, ok := got[base.ID()]; !ok && whole.Type == pack.Delta {
		t.Error("the base did not come with its delta")
	}
}

func testBadPacks(t *testing.T, open func() remote.Remote) {
	r := open()
	a := Blob("a")
	good := Pack(t, []Item{a, Blob(strings.Repeat("x", 1000))}, []Item{Tree("a", a)})
	for bit := 0; bit < 8*len(good); bit += 37 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := r.Upload(t.Context(), bytes.NewReader(bad), int64(len(bad))); err == nil {
			t.Fatalf("took a pack with bit %d flipped", bit)
		}
	}
	for size := 0; size < len(good); size += 11 {
		if err := r.Upload(t.Context(), bytes.NewReader(good), int64(size)); err == nil {
			t.Fatalf("took %d bytes of a pack", size)
		}
	}
	wantMissing(t, open(), []Item{a}, a)
}

func testRefs(t *testing.T, open func() remote.Remote) {
	r := open()
	tree := Tree("a", Blob("a"))
	var commits []Item
	for i := range 10 {
		commits = append(commits, Commit(i, tree))
	}
	Upload(t, r, append(commits, tree, Blob("a"))...)
	id := func(n int) (id objects.ID) {
		if n > 0 {
			id = commits[n].ID()
		}
		return id
	}
	up := func(name string, old, next int) refs.Update {
		return refs.Update{Name: refs.Name(name), Old: id(old), New: id(next), Reason: "test"}
	}
	const main, other, tag = "refs/heads/main", "refs/heads/a/b", "refs/tags/v1"
	now := map[refs.Name]objects.ID{}
	for _, tt := range []struct {
		what     string
		updates  []refs.Update
		conflict string
		fails    error
	}{
		{what: "make", updates: []refs.Update{up(main, 0, 1)}},
		{what: "make again", updates: []refs.Update{up(main, 0, 1)}, conflict: main},
		{what: "move", updates: []refs.Update{up(main, 1, 2)}},
		{what: "move what has moved", updates: []refs.Update{up(main, 1, 3)}, conflict: main},
		{what: "move what is not there", updates: []refs.Update{up(other, 1, 2)}, conflict: other},
		{what: "several", updates: []refs.Update{up(main, 2, 3), up(other, 0, 4), up(tag, 0, 5)}},
		{what: "all or none", updates: []refs.Update{up(main, 3, 4), up(other, 5, 6)}, conflict: other},
		{what: "nothing, rightly", updates: []refs.Update{up(main, 3, 3)}},
		{what: "nothing, wrongly", updates: []refs.Update{up(main, 4, 4)}, conflict: main},
		{what: "bad name", updates: []refs.Update{up("refs/heads/../x", 0, 1)}, fails: refs.ErrBadName},
		{what: "above another", updates: []refs.Update{up("refs/heads/a", 0, 1)}, fails: refs.ErrNameTaken},
		{what: "below another", updates: []refs.Update{up("refs/heads/main/x", 0, 1)}, fails: refs.ErrNameTaken},
		{what: "to what is not there", updates: []refs.Update{{Name: main, Old: id(3), New: Blob("gone").ID()}}, fails: objects.ErrNotFound},
		{what: "delete", updates: []refs.Update{up(other, 4, 0), up("refs/heads/a", 0, 1)}},
		{what: "delete again", updates: []refs.Update{up(other, 4, 0)}, conflict: other},
		{what: "delete the rest", updates: []refs.Update{up(main, 3, 0), up("refs/heads/a", 1, 0), up(tag, 5, 0)}},
	} {
		err := r.Update(t.Context(), tt.updates...)
		var conflict *refs.ConflictError
		switch {
		case tt.conflict != "":
			if !errors.As(err, &conflict) || string(conflict.Name) != tt.conflict {
				t.Errorf("%s: %v", tt.what, err)
			}
		case !errors.Is(err, tt.fails):
			t.Errorf("%s: %v", tt.what, err)
		case err == nil:
			for _, u := range tt.updates {
				if now[u.Name] = u.New; u.New.IsZero() {
					delete(now, u.Name)
				}
			}
		}
		for _, r := range []remote.Remote{r, open()} {
			if diff := cmp.Diff(now, allRefs(t, r, "")); diff != "" {
				t.Errorf("%s:\n%s", tt.what, diff)
			}
		}
		for _, prefix := range []string{"refs/heads/", "refs/heads/m", "refs/tags/", "x"} {
			for name := range allRefs(t, r, prefix) {
				if !strings.HasPrefix(string(name), prefix) {
					t.Errorf("Refs(%q) has %s", prefix, name)
				}
			}
		}
	}
	if err := r.Update(t.Context(), up(main, 0, 1), up(main, 0, 1)); err == nil {
		t.Error("a ref was updated twice at once")
	}
}

func testCancelledRemote(t *testing.T, open func() remote.Remote) {
	r := open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := Pack(t, []Item{Blob("a")})
	_, missing := r.Missing(ctx, []objects.ID{Blob("a").ID()})
	_, fetch := Fetch(ctx, r, Blob("a").ID())
	for call, err := range map[string]error{
		"Upload": r.Upload(ctx, bytes.NewReader(p), int64(len(p))), "Missing": missing, "Fetch": fetch,
		"Update": r.Update(ctx, refs.Update{Name: "refs/heads/main", New: Blob("a").ID()}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", call, err)
		}
	}
	wantMissing(t, open(), []Item{Blob("a")}, Blob("a"))
}

// testRaceUpdate lets clients count in two refs that move together: no step is
// lost, and no reader sees one without the other.
func testRaceUpdate(t *testing.T, open func() remote.Remote) {
	rounds := test.Count(t, 1000)
	tree := Tree("a", Blob("a"))
	numbers := []Item{tree}
	of := map[objects.ID]int{{}: 0}
	for i := 1; i <= rounds+racers; i++ {
		numbers = append(numbers, Commit(i, tree))
		of[numbers[i].ID()] = i
	}
	Upload(t, open(), append(numbers, Blob("a"))...)
	const main, other refs.Name = "refs/heads/main", "refs/heads/other"
	count := func(r remote.Remote) (int, error) {
		n := map[refs.Name]objects.ID{}
		for ref, err := range r.Refs(t.Context(), "refs/heads/") {
			if err != nil {
				return 0, err
			}
			n[ref.Name] = ref.ID
		}
		if n[main] != n[other] {
			return 0, fmt.Errorf("torn: %v", n)
		}
		return of[n[main]], nil
	}
	var mu sync.Mutex
	wins := map[int]int{}
	var wg sync.WaitGroup
	for range racers {
		wg.Go(func() {
			r := open()
			for {
				n, err := count(r)
				if err != nil {
					t.Error(err)
					return
				}
				if n >= rounds {
					return
				}
				var old objects.ID
				if n > 0 {
					old = numbers[n].ID()
				}
				next := numbers[n+1].ID()
				err = r.Update(t.Context(), refs.Update{Name: main, Old: old, New: next}, refs.Update{Name: other, Old: old, New: next})
				var conflict *refs.ConflictError
				switch {
				case err == nil:
					mu.Lock()
					wins[n+1]++
					mu.Unlock()
				case !errors.As(err, &conflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for n := 1; n <= rounds; n++ {
		if wins[n] != 1 {
			t.Errorf("%d clients moved to %d", wins[n], n)
		}
	}
	if n, err := count(open()); n != rounds || err != nil {
		t.Errorf("it ends at %d: %v", n, err)
	}
}

// testRacePushes lets clients push to branches of their own: nothing that was
// acknowledged is missing.
func testRacePushes(t *testing.T, open func() remote.Remote) {
	rounds := test.Count(t, 50)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			r := open()
			var old objects.ID
			for j := range rounds {
				blob := Blob(fmt.Sprint(i, j))
				tree := Tree("a", blob)
				commit := Commit(j, tree)
				if err := upload(t, r, []Item{blob, tree, commit}); err != nil {
					t.Error(err)
					return
				}
				if err := r.Update(t.Context(), refs.Update{Name: refs.Branch(fmt.Sprint(i)), Old: old, New: commit.ID()}); err != nil {
					t.Error(err)
					return
				}
				old = commit.ID()
				if j%3 == 0 {
					WantFetched(t, open(), blob, tree, commit)
				}
			}
		})
	}
	wg.Wait()
	r := open()
	var all []Item
	for i := range racers {
		for j := range rounds {
			blob := Blob(fmt.Sprint(i, j))
			all = append(all, blob, Tree("a", blob), Commit(j, Tree("a", blob)))
		}
	}
	wantMissing(t, r, all)
	WantFetched(t, r, all...)
	if n := len(allRefs(t, r, "refs/heads/")); n != racers {
		t.Errorf("%d branches", n)
	}
}
