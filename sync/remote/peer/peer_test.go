package peer_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// fresh makes an empty repository, and returns how to open it as another process
// would.
func fresh(t *testing.T) func() remote.Remote {
	dir := test.Dir(t)
	if _, err := refs.Init(t.Context(), dir, refs.Branch("main"), refs.Options{}); err != nil {
		t.Fatal(err)
	}
	cuts := new(remotetest.Cuts)
	return func() remote.Remote {
		db, err := odb.Open(dir+"/packs", odb.Options{Warn: func(err error) { t.Logf("warning: %v", err) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return peer.New(db, refs.Open(dir, refs.Options{}), cuts)
	}
}

func TestPeer(t *testing.T) {
	remotetest.RunRemote(t, fresh)
}

// history is three commits that share a tree, a tag of the last, and all that
// they lead to.
type history struct {
	blobs   [3]remotetest.Item
	trees   [3]remotetest.Item
	commits [3]remotetest.Item
	shared  remotetest.Item
}

func newHistory() (h history) {
	x := remotetest.Blob("shared")
	h.shared = remotetest.Tree("x", x)
	for i := range h.blobs {
		h.blobs[i] = remotetest.Blob(fmt.Sprint(i))
		h.trees[i] = remotetest.Item{Type: pack.Tree, Body: objects.Entries{
			{Mode: objects.ModeFile, Name: "a", ID: h.blobs[i].ID()},
			{Mode: objects.ModeDir, Name: "dir", ID: h.shared.ID()},
		}.Encode()}
		body := objects.CommitBody{Tree: h.trees[i].ID(), Message: fmt.Sprint(i, "\n"), Author: who, Committer: who}
		if i > 0 {
			body.Parents = []objects.ID{h.commits[i-1].ID()}
		}
		h.commits[i] = remotetest.Item{Type: pack.Commit, Body: body.Encode()}
	}
	return h
}

var who = objects.Signature{Name: "a", Email: "a@a"}

func (h history) all() []remotetest.Item {
	all := append(h.blobs[:], h.trees[:]...)
	return append(append(all, h.commits[:]...), h.shared, remotetest.Blob("shared"))
}

func TestExtents(t *testing.T) {
	h := newHistory()
	r := fresh(t)()
	remotetest.Upload(t, r, h.all()...)
	id := func(items ...remotetest.Item) (ids []objects.ID) {
		for _, i := range items {
			ids = append(ids, i.ID())
		}
		return ids
	}
	for _, tt := range []struct {
		name string
		q    remote.Request
		want int
	}{
		{"only", remote.Request{Want: id(h.commits[2])}, 1},
		{"history", remote.Request{Want: id(h.commits[2]), Extent: remote.History}, 3},
		{"history since", remote.Request{Want: id(h.commits[2]), Have: id(h.commits[0]), Extent: remote.History}, 2},
		{"all", remote.Request{Want: id(h.commits[2]), Extent: remote.Closure}, 11},
		{"all since", remote.Request{Want: id(h.commits[2]), Have: id(h.commits[1]), Extent: remote.Closure}, 3},
		{"of a tree", remote.Request{Want: id(h.trees[2]), Extent: remote.Closure}, 4},
	} {
		body, err := r.Fetch(t.Context(), tt.q)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remotetest.Unpack(body)
		if err != nil || len(got) != tt.want {
			t.Errorf("%s: %d objects, %v, want %d", tt.name, len(got), err, tt.want)
		}
	}
}

func TestPaths(t *testing.T) {
	h := newHistory()
	r := fresh(t)().(remote.PathFetcher)
	remotetest.Upload(t, r.(remote.Remote), h.all()...)
	commit := h.commits[2].ID()
	for _, tt := range []struct {
		path   string
		budget int64
		want   int
	}{
		{"dir/x", 1000, 4}, // commit, two trees, blob
		{"dir", 1000, 4},
		{"dir", 1, 2},
		{"", 1000, 5},
		{"nowhere/at all", 1000, 2},
		{"a/is a file", 1000, 2},
	} {
		body, err := r.FetchPaths(t.Context(), []remote.Path{{Root: commit, Path: tt.path}}, tt.budget)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remotetest.Unpack(body)
		if err != nil || len(got) != tt.want {
			t.Errorf("%q with %d bytes: %d objects, %v, want %d", tt.path, tt.budget, len(got), err, tt.want)
		}
	}
	if _, err := r.FetchPaths(t.Context(), []remote.Path{{Root: objects.ID{1}}}, 1); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("of no root: %v", err)
	}
}

// TestUpdateWantsAll moves refs to what leads to something that is not there.
func TestUpdateWantsAll(t *testing.T) {
	h := newHistory()
	for _, lost := range h.all() {
		r := fresh(t)()
		for _, i := range h.all() {
			if i.ID() != lost.ID() {
				remotetest.Upload(t, r, i)
			}
		}
		main := refs.Update{Name: "refs/heads/main", New: h.commits[2].ID()}
		if err := r.Update(t.Context(), main); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("without %s: %v", lost.Type, err)
		}
		remotetest.Upload(t, r, lost)
		if err := r.Update(t.Context(), main); err != nil {
			t.Errorf("with %s: %v", lost.Type, err)
		}
	}
	r := fresh(t)()
	remotetest.Upload(t, r, h.all()...)
	if err := r.Update(t.Context(), refs.Update{Name: "refs/heads/main", New: h.trees[0].ID()}); !errors.Is(err, remote.ErrNotCommit) {
		t.Errorf("a branch points to a tree: %v", err)
	}
}

func TestReach(t *testing.T) {
	h := newHistory()
	r := fresh(t)().(*peer.Remote)
	chunk := remotetest.Item{Type: pack.Chunk, Body: bytes.Repeat([]byte("x"), 70_000)}
	big := objects.Sum(objects.Blob, chunk.Body)
	recipe := remotetest.Item{Type: pack.Recipe, Body: pack.AppendRecipe(nil, big, 70_000, []pack.Piece{{ID: chunk.ID(), Size: 70_000}})}
	tree := remotetest.Item{Type: pack.Tree, Body: objects.Entries{{Mode: objects.ModeFile, Name: "big", ID: big}}.Encode()}
	remotetest.Upload(t, r, append(h.all(), chunk, recipe, tree)...)
	for _, tt := range []struct {
		tips []objects.ID
		yes  []objects.ID
		no   []objects.ID
	}{
		{nil, nil, []objects.ID{h.commits[0].ID(), h.shared.ID()}},
		{[]objects.ID{h.commits[1].ID()}, []objects.ID{h.blobs[0].ID(), h.shared.ID(), h.commits[0].ID()}, []objects.ID{h.blobs[2].ID(), h.commits[2].ID(), big, chunk.ID()}},
		{[]objects.ID{tree.ID(), h.commits[0].ID()}, []objects.ID{big, chunk.ID(), h.blobs[0].ID()}, []objects.ID{h.blobs[1].ID(), {1}}},
	} {
		set := new(reach.Set)
		visited := map[objects.ID]int{}
		for range 2 { // the second time there is nothing new
			if err := r.Reach(t.Context(), tt.tips, set, func(id objects.ID) error { visited[id]++; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range tt.yes {
			want := 1
			if id == chunk.ID() {
				want = 0 // it is no object
			}
			if !set.Has(id) || visited[id] != want {
				t.Errorf("%v do not reach %s, visited %d times", tt.tips, id.Short(), visited[id])
			}
		}
		for _, id := range tt.no {
			if set.Has(id) || visited[id] > 0 {
				t.Errorf("%v reach %s", tt.tips, id.Short())
			}
		}
	}
	stop := errors.New("stop")
	if err := r.Reach(t.Context(), []objects.ID{tree.ID()}, new(reach.Set), func(id objects.ID) error {
		if id == big {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func TestCovers(t *testing.T) {
	h := newHistory()
	r := fresh(t)().(*peer.Remote)
	remotetest.Upload(t, r, h.all()...)
	other := remotetest.Commit(7, h.trees[0])
	remotetest.Upload(t, r, other)
	for _, tt := range []struct {
		tips, old []objects.ID
		want      bool
	}{
		{[]objects.ID{h.commits[2].ID()}, nil, true},
		{[]objects.ID{h.commits[2].ID()}, []objects.ID{h.commits[0].ID(), h.commits[1].ID(), h.commits[2].ID()}, true},
		{[]objects.ID{h.commits[1].ID()}, []objects.ID{h.commits[2].ID()}, false},
		{[]objects.ID{h.commits[2].ID()}, []objects.ID{other.ID()}, false},
		{[]objects.ID{h.commits[2].ID(), other.ID()}, []objects.ID{other.ID(), h.commits[0].ID()}, true},
		{nil, []objects.ID{h.commits[0].ID()}, false},
		{[]objects.ID{h.commits[2].ID()}, []objects.ID{{1}}, false},
		{[]objects.ID{h.commits[2].ID()}, []objects.ID{h.trees[0].ID()}, false}, // no commit
	} {
		if got, err := r.Covers(t.Context(), tt.tips, tt.old); err != nil || got != tt.want {
			t.Errorf("%v over %v: %v, %v", tt.tips, tt.old, got, err)
		}
	}
}

// TestUploadProves sends a recipe whose chunks do not make the blob.
func TestUploadProves(t *testing.T) {
	r := fresh(t)()
	chunk := remotetest.Item{Type: pack.Chunk, Body: bytes.Repeat([]byte("x"), 70_000)}
	recipe := func(id objects.ID) remotetest.Item {
		return remotetest.Item{Type: pack.Recipe, Body: pack.AppendRecipe(nil, id, 70_000, []pack.Piece{{ID: chunk.ID(), Size: 70_000}})}
	}
	upload := func(items ...remotetest.Item) error {
		p := remotetest.Pack(t, items)
		return r.Upload(t.Context(), bytes.NewReader(p), int64(len(p)))
	}
	blob := objects.Sum(objects.Blob, chunk.Body)
	if err := upload(recipe(blob)); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("without its chunk: %v", err)
	}
	if err := upload(chunk, recipe(objects.ID{1})); !errors.Is(err, pack.ErrBadPack) {
		t.Errorf("with another chunk: %v", err)
	}
	if err := upload(chunk, recipe(blob)); err != nil {
		t.Error(err)
	}
}
