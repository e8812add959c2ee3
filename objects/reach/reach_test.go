package reach_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/objectstest"
	"github.com/cache-tool/cache-tool/objects/reach"
)

var ctx = context.Background()

// A graph is objects and what each leads to.
type graph struct {
	store objectstest.Memory
	kinds map[objects.ID]objects.Kind
	edges map[objects.ID][]objects.ID
}

func newGraph() *graph {
	return &graph{kinds: map[objects.ID]objects.Kind{}, edges: map[objects.ID][]objects.ID{}}
}

func (g *graph) put(k objects.Kind, body []byte, edges ...objects.ID) objects.ID {
	id, _ := g.store.PutBytes(k, body)
	g.kinds[id], g.edges[id] = k, edges
	return id
}

func (g *graph) blob(text string) objects.ID { return g.put(objects.Blob, []byte(text)) }

func (g *graph) tree(entries ...objects.Entry) objects.ID {
	tree := objects.Entries(entries)
	tree.Sort()
	var edges []objects.ID
	for _, e := range tree {
		edges = append(edges, e.ID)
	}
	return g.put(objects.Tree, tree.Encode(), edges...)
}

func (g *graph) commit(message string, tree objects.ID, parents ...objects.ID) objects.ID {
	return g.commitAt(time.Second, message, tree, parents...)
}

func (g *graph) commitAt(when time.Duration, message string, tree objects.ID, parents ...objects.ID) objects.ID {
	who := objects.Signature{Name: "a", Email: "a@b", When: time.Unix(0, int64(when))}
	c := objects.CommitBody{Tree: tree, Parents: parents, Author: who, Committer: who, Message: message}
	return g.put(objects.Commit, c.Encode(), append(parents, tree)...)
}

func (g *graph) tag(k objects.Kind, id objects.ID) objects.ID {
	tag := objects.TagBody{Object: id, Kind: k, Name: "t", Message: "m\n"}
	return g.put(objects.Tag, tag.Encode(), id)
}

func file(name string, id objects.ID) objects.Entry {
	return objects.Entry{Mode: objects.ModeFile, Name: name, ID: id}
}

func dir(name string, id objects.ID) objects.Entry {
	return objects.Entry{Mode: objects.ModeDir, Name: name, ID: id}
}

// aGraph makes a history with shared trees, merges and tags.
var aGraph = rapid.Custom(func(t *rapid.T) *graph {
	g := newGraph()
	blobs := []objects.ID{g.blob("1"), g.blob("2"), g.blob("3")}
	trees := []objects.ID{g.tree()}
	for range rapid.IntRange(1, 8).Draw(t, "trees") {
		var entries []objects.Entry
		for i := range rapid.IntRange(1, 4).Draw(t, "entries") {
			if rapid.Bool().Draw(t, "file") {
				entries = append(entries, file(fmt.Sprint(i), rapid.SampledFrom(blobs).Draw(t, "blob")))
			} else {
				entries = append(entries, dir(fmt.Sprint(i), rapid.SampledFrom(trees).Draw(t, "tree")))
			}
		}
		trees = append(trees, g.tree(entries...))
	}
	var commits []objects.ID
	for i := range rapid.IntRange(1, 8).Draw(t, "commits") {
		var parents []objects.ID
		if len(commits) > 0 {
			parents = rapid.SliceOfNDistinct(rapid.SampledFrom(commits), 0, min(3, len(commits)), rapid.ID).Draw(t, "parents")
		}
		commits = append(commits, g.commit(fmt.Sprint(i, "\n"), rapid.SampledFrom(trees).Draw(t, "tree"), parents...))
	}
	g.tag(objects.Tag, g.tag(objects.Commit, rapid.SampledFrom(commits).Draw(t, "tagged")))
	return g
})

func (g *graph) ids() []objects.ID {
	return slices.SortedFunc(maps.Keys(g.kinds), objects.ID.Compare)
}

// reachable is what Walk should visit, the slow way. It does not go beyond what
// stop says.
func (g *graph) reachable(tips []objects.ID, stop func(objects.ID) bool) map[objects.ID]objects.Kind {
	seen := map[objects.ID]objects.Kind{}
	queue := slices.Clone(tips)
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		if _, ok := seen[id]; ok || stop(id) {
			continue
		}
		seen[id] = g.kinds[id]
		queue = append(queue, g.edges[id]...)
	}
	return seen
}

func TestWalkVisitsAllOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := aGraph.Draw(t, "graph")
		tips := rapid.SliceOfN(rapid.SampledFrom(g.ids()), 0, 3).Draw(t, "tips")
		visited := map[objects.ID]objects.Kind{}
		err := reach.Walk(ctx, &g.store, tips, reach.Options{
			Parallel: rapid.IntRange(0, 3).Draw(t, "parallel"),
			Visit: func(id objects.ID, k objects.Kind) error {
				if _, twice := visited[id]; twice {
					t.Errorf("%s %s is visited twice", k, id)
				}
				visited[id] = k
				return nil
			},
		})
		want := g.reachable(tips, func(objects.ID) bool { return false })
		if err != nil || !maps.Equal(visited, want) {
			t.Errorf("visited %v, %v; want %v", visited, err, want)
		}
	})
}

func TestWalkGoesOnWhereSomethingIsMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := aGraph.Draw(t, "graph")
		tips := rapid.SliceOfN(rapid.SampledFrom(g.ids()), 1, 3).Draw(t, "tips")
		gone := map[objects.ID]bool{}
		for _, id := range rapid.SliceOfN(rapid.SampledFrom(g.ids()), 0, 4).Draw(t, "gone") {
			if id == objects.EmptyTree {
				continue // need not be stored
			}
			gone[id] = true
			if rapid.Bool().Draw(t, "damaged") {
				g.store.Damage(id, g.kinds[id]%4+1, []byte("x")) // another kind, and nonsense
			} else {
				g.store.Remove(id)
			}
		}
		visited := map[objects.ID]objects.Kind{}
		missing := map[objects.ID]bool{}
		err := reach.Walk(ctx, &g.store, tips, reach.Options{
			CheckBlobs: true,
			Visit:      func(id objects.ID, k objects.Kind) error { visited[id] = k; return nil },
			Missing:    func(m reach.Missing) error { missing[m.ID] = true; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		for id := range missing {
			if !gone[id] {
				t.Errorf("%s is not missing", id)
			}
		}
		// A tip that has become another kind of object is one, as far as Walk can
		// tell; and then it leads nowhere.
		want := g.reachable(tips, func(id objects.ID) bool { return gone[id] })
		for id := range visited {
			if _, ok := want[id]; !ok && !slices.Contains(tips, id) {
				t.Errorf("%s is visited", id)
			}
		}
		for id := range want {
			if _, ok := visited[id]; !ok {
				t.Errorf("%s is not visited", id)
			}
		}
	})
}

func TestMissingIsNamed(t *testing.T) {
	g := newGraph()
	lost := g.blob("lost")
	root := g.tree(dir("save", g.tree(dir("ab", g.tree(file("body", lost))))))
	first := g.commit("1\n", root)
	second := g.commit("2\n", g.tree(), first)
	g.store.Remove(lost)
	var got []string
	walk := func(tip objects.ID, o reach.Options) error {
		got = nil
		o.CheckBlobs = true
		if o.Missing == nil {
			o.Missing = func(m reach.Missing) error { got = append(got, m.Error()); return nil }
		}
		return reach.Walk(ctx, &g.store, []objects.ID{tip}, o)
	}
	check := func(err error, want string) {
		t.Helper()
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("missing %q, %v; want %q", got, err, want)
		}
	}
	check(walk(g.tag(objects.Commit, second), reach.Options{}),
		fmt.Sprintf("blob %s of commit %s at save/ab/body: %s: object not found", lost, first.Short(), lost))
	check(walk(root, reach.Options{}),
		fmt.Sprintf("blob %s at save/ab/body: %s: object not found", lost, lost))
	check(walk(lost, reach.Options{}), fmt.Sprintf("object %s: %s: object not found", lost, lost))

	var m reach.Missing
	if err := reach.Walk(ctx, &g.store, []objects.ID{second}, reach.Options{CheckBlobs: true}); !errors.As(err, &m) || m.ID != lost || !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("without Missing: %v", err)
	}
	if err := reach.Walk(ctx, &g.store, []objects.ID{second}, reach.Options{}); err != nil {
		t.Errorf("without CheckBlobs: %v", err)
	}
	stop := errors.New("stop")
	if err := walk(second, reach.Options{Missing: func(reach.Missing) error { return stop }}); err != stop {
		t.Errorf("stopped by Missing: %v", err)
	}
	if err := walk(second, reach.Options{Visit: func(objects.ID, objects.Kind) error { return stop }}); err != stop {
		t.Errorf("stopped by Visit: %v", err)
	}

	g.store.Remove(first)
	check(walk(second, reach.Options{}), fmt.Sprintf("commit %s of commit %s: %s: object not found", first, second.Short(), first))
	shallow := reach.Options{Shallow: func(id objects.ID) bool { return id == second }}
	if err := walk(second, shallow); err != nil || len(got) > 0 {
		t.Errorf("beyond the shallow boundary: %q, %v", got, err)
	}

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := reach.Walk(cancelled, &g.store, []objects.ID{second}, reach.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWalksShareWhatWasSeen(t *testing.T) {
	g := newGraph()
	old := g.commit("1\n", g.tree(file("a", g.blob("1"))))
	now := g.commit("2\n", g.tree(file("a", g.blob("1")), file("b", g.blob("2"))), old)
	seen := new(reach.Set)
	count := func(tip objects.ID) (n int) {
		err := reach.Walk(ctx, &g.store, []objects.ID{tip}, reach.Options{
			Seen:  seen,
			Visit: func(objects.ID, objects.Kind) error { n++; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(old); n != 3 {
		t.Errorf("the old commit leads to %d objects", n)
	}
	if n := count(now); n != 3 {
		t.Errorf("the new commit leads to %d more", n)
	}
}

// packs is a store that reads many objects in an order of its own.
type packs struct{ *objectstest.Memory }

func (p packs) Each(ctx context.Context, ids []objects.ID, fn func(int, objects.Kind, []byte, error) error) error {
	var group errgroup.Group
	for i, id := range slices.Backward(ids) {
		group.Go(func() error {
			k, body, err := p.ReadBytes(ctx, id)
			return fn(i, k, body, err)
		})
	}
	return group.Wait()
}

// Much at once: stores read it as they like, and what is missing is found all
// the same.
func TestWideTree(t *testing.T) {
	g := newGraph()
	const n = 300
	var top []objects.Entry
	var blobs, dirs []objects.ID
	for i := range n {
		blobs = append(blobs, g.blob(fmt.Sprint(i)))
		dirs = append(dirs, g.tree(file("f", blobs[i]), dir("d", g.tree(file("x", blobs[0]), file("y", blobs[i])))))
		top = append(top, dir(fmt.Sprintf("%03d", i), dirs[i]))
	}
	tip := g.commit("1\n", g.tree(top...))
	g.store.Remove(blobs[7])
	g.store.Remove(dirs[8])
	g.store.Damage(dirs[9], objects.Tree, []byte("x"))
	g.store.Damage(blobs[10], objects.Tree, nil)
	for _, store := range []objects.Reader{&g.store, packs{&g.store}} {
		visited := map[objects.ID]bool{}
		var missing []string
		err := reach.Walk(ctx, store, []objects.ID{tip}, reach.Options{
			CheckBlobs: true,
			Visit:      func(id objects.ID, k objects.Kind) error { visited[id] = true; return nil },
			Missing: func(m reach.Missing) error {
				// Each blob is at two places; which of them is named is not said.
				missing = append(missing, strings.Replace(m.Path, "d/y", "f", 1))
				return nil
			},
		})
		slices.Sort(missing)
		if want := []string{"007/f", "008", "009", "010/f"}; err != nil || !slices.Equal(missing, want) {
			t.Errorf("missing at %q, %v; want %q", missing, err, want)
		}
		// Commit and root; but two trees with what is in them, and two blobs.
		if want := 2 + 3*n - 2*3 - 2; len(visited) != want {
			t.Errorf("visited %d objects, want %d", len(visited), want)
		}
		stop := errors.New("stop")
		err = reach.Walk(ctx, store, []objects.ID{tip}, reach.Options{Missing: func(reach.Missing) error { return stop }})
		if err != stop {
			t.Errorf("stopped by Missing: %v", err)
		}
	}
}

// A history of many commits is no deep recursion, and keeps nothing in memory
// that is done with.
func TestLongHistory(t *testing.T) {
	g := newGraph()
	tree := g.tree(file("a", g.blob("1")))
	var tip []objects.ID
	for i := range 20_000 {
		tip = []objects.ID{g.commit(fmt.Sprint(i, "\n"), tree, tip...)}
	}
	n := 0
	err := reach.Walk(ctx, &g.store, tip, reach.Options{Visit: func(objects.ID, objects.Kind) error { n++; return nil }})
	if err != nil || n != 20_002 {
		t.Errorf("visited %d, %v", n, err)
	}
}
