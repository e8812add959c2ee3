package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/server"
)

// wide is a commit with n entries, each a tree with a blob of its own, and a big blob.
type wide struct {
	items   []remotetest.Item // all that it leads to, but for the big blob's chunk
	entries objects.Entries
	big     objects.ID
	chunk   remotetest.Item
	commit  remotetest.Item
}

func newWide(n int) wide {
	w := wide{chunk: remotetest.Item{Type: pack.Chunk, Body: make([]byte, 70_000)}}
	w.big = objects.Sum(objects.Blob, w.chunk.Body)
	w.entries = objects.Entries{{Mode: objects.ModeFile, Name: "big", ID: w.big}}
	w.items = append(w.items, remotetest.Item{Type: pack.Recipe, Body: pack.AppendRecipe(nil, w.big, 70_000, []pack.Piece{{ID: w.chunk.ID(), Size: 70_000}})})
	for i := range n {
		w.add(fmt.Sprintf("entry %06d", i))
	}
	w.close()
	return w
}

func (w *wide) add(name string) {
	blob := remotetest.Blob(name)
	tree := remotetest.Tree("body", blob)
	w.items = append(w.items, blob, tree)
	w.entries = append(w.entries, objects.Entry{Mode: objects.ModeDir, Name: name, ID: tree.ID()})
}

func (w *wide) close(parents ...remotetest.Item) {
	root := remotetest.Item{Type: pack.Tree, Body: w.entries.Encode()}
	w.commit = remotetest.Commit(len(w.entries), root, parents...)
	w.items = append(w.items, root, w.commit)
}

// next is a commit after w with one more entry. What is in it of w is not new.
func (w wide) next() wide {
	n := wide{entries: append(objects.Entries{}, w.entries...), big: w.big, chunk: w.chunk}
	n.add(fmt.Sprintf("later %06d", len(n.entries)))
	n.close(w.commit)
	return n
}

// walked is what a Reach adds to a set.
func walked(t *testing.T, s server.Store, seen *reach.Set, tips ...remotetest.Item) map[objects.ID]int {
	t.Helper()
	visited := map[objects.ID]int{}
	var ids []objects.ID
	for _, tip := range tips {
		ids = append(ids, tip.ID())
	}
	if err := s.Reach(t.Context(), ids, seen, func(id objects.ID) error { visited[id]++; return nil }); err != nil {
		t.Fatal(err)
	}
	return visited
}

func TestReach(t *testing.T) {
	b := &gets{Bucket: new(remotetest.Memory)}
	first := newWide(2000)
	next := first.next()
	r := newReplica(t, b, 1<<30)
	remotetest.UploadBlocks(t, r.Store(), first.items, []remotetest.Item{first.chunk})
	again := newReplica(t, b, 1<<30) // which has nothing in its cache
	seen := new(reach.Set)
	for _, tt := range []struct {
		tip  remotetest.Item
		want []remotetest.Item
	}{
		{first.commit, first.items},
		{first.commit, nil},
		{next.commit, next.items},
	} {
		if tt.tip.ID() == next.commit.ID() {
			remotetest.Upload(t, r.Store(), next.items...)
			b.requests.Store(0)
		}
		visited := walked(t, again.Store(), seen, tt.tip)
		if len(visited) != len(tt.want) {
			t.Errorf("%d objects are new, want %d", len(visited), len(tt.want))
		}
		for _, item := range tt.want {
			if visited[item.ID()] != 1 || !seen.Has(item.ID()) {
				t.Errorf("%s %s was visited %d times", item.Type, item.ID().Short(), visited[item.ID()])
			}
		}
		if !seen.Has(first.chunk.ID()) {
			t.Error("a chunk is not in the set")
		}
	}
	if n := b.requests.Load(); n > 12 {
		t.Errorf("one entry took %d requests", n)
	}
	stop := errors.New("stop")
	if err := again.Store().Reach(t.Context(), []objects.ID{first.commit.ID()}, new(reach.Set), func(id objects.ID) error {
		if id == first.big {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

// gets counts what is read of a bucket.
type gets struct {
	remote.Bucket
	requests atomic.Int64
}

func (g *gets) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	g.requests.Add(1)
	return g.Bucket.Get(ctx, name, off, n)
}

// TestReachDelta: what a tree is stored as a difference to is not reached by it.
func TestReachDelta(t *testing.T) {
	b := new(remotetest.Memory)
	w := newWide(100)
	base := remotetest.Item{Type: pack.Tree, Body: w.entries.Encode()}
	tree := remotetest.Item{Type: pack.Tree, Body: w.entries[1:].Encode()}
	body, ok := pack.AppendDelta(nil, tree.ID(), tree.Body, base.ID(), base.Body, 1<<20)
	if !ok {
		t.Fatal("no delta")
	}
	remotetest.UploadBlocks(t, newReplica(t, b, 1<<30).Store(), append(w.items, remotetest.Item{Type: pack.Delta, Body: body}), []remotetest.Item{w.chunk})
	seen := new(reach.Set)
	visited := walked(t, newReplica(t, b, 1<<30).Store(), seen, tree)
	if len(visited) != 201 || visited[base.ID()] > 0 || seen.Has(base.ID()) || seen.Has(w.big) {
		t.Errorf("%d objects, of the base %d", len(visited), visited[base.ID()])
	}
}

// TestReachWhatIsLacking: one object that is not there hides no other.
func TestReachWhatIsLacking(t *testing.T) {
	b := new(remotetest.Memory)
	w := newWide(100)
	var there []remotetest.Item
	var lost remotetest.Item
	for i, item := range w.items {
		if i == 100 && item.Type == pack.Tree {
			lost = item
			continue
		}
		there = append(there, item)
	}
	remotetest.UploadBlocks(t, newReplica(t, b, 1<<30).Store(), there, []remotetest.Item{w.chunk})
	seen := new(reach.Set)
	walked(t, newReplica(t, b, 1<<30).Store(), seen, w.commit, remotetest.Blob("nowhere"))
	n := 0
	for _, item := range there {
		if seen.Has(item.ID()) {
			n++
		}
	}
	if lost.Body == nil || n != len(there)-1 { // the blob in it
		t.Errorf("%d of %d", n, len(there))
	}
}

// TestCovers, and where history was cut off.
func TestCovers(t *testing.T) {
	b := new(remotetest.Memory)
	s := newReplica(t, b, 1<<30).Store()
	blob := remotetest.Blob("a")
	tree := remotetest.Tree("a", blob)
	all := []remotetest.Item{blob, tree}
	commits := []remotetest.Item{remotetest.Commit(0, tree)}
	for i := range 9 {
		commits = append(commits, remotetest.Commit(i+1, tree, commits[i]))
	}
	other := remotetest.Commit(100, tree, commits[3])
	remotetest.Upload(t, s, append(append(all, commits[2:]...), other)...)
	if err := s.UpdateCut(t.Context(), []objects.ID{commits[2].ID()}, refs.Update{Name: "refs/heads/main", New: commits[9].ID()}); err != nil {
		t.Fatal(err)
	}
	remotetest.Upload(t, s, commits[:2]...)
	s = newReplica(t, b, 1<<30).Store()
	for _, tt := range []struct {
		tips, old []remotetest.Item
		want      bool
	}{
		{nil, nil, true},
		{commits[9:], nil, true},
		{commits[9:], commits[9:], true},
		{commits[9:], commits[2:5], true},
		{commits[4:5], commits[9:], false},
		{commits[9:], []remotetest.Item{other}, false},
		{[]remotetest.Item{other, commits[5]}, []remotetest.Item{other, commits[4]}, true},
		{commits[9:], commits[1:2], false}, // it was cut off
		{commits[9:], []remotetest.Item{tree}, false},
		{[]remotetest.Item{blob}, commits[9:], false},
		{[]remotetest.Item{remotetest.Blob("nowhere")}, commits[9:], false},
	} {
		var tips, old []objects.ID
		for _, i := range tt.tips {
			tips = append(tips, i.ID())
		}
		for _, i := range tt.old {
			old = append(old, i.ID())
		}
		if got, err := s.Covers(t.Context(), tips, old); err != nil || got != tt.want {
			t.Errorf("%v cover %v: %v, %v", tips, old, got, err)
		}
	}
	visited := walked(t, s, new(reach.Set), commits[9])
	if visited[commits[2].ID()] != 1 || visited[commits[1].ID()] != 0 || len(visited) != 10 {
		t.Errorf("%d objects: it goes on where history was cut off", len(visited))
	}
}
