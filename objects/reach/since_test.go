package reach_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/objectstest"
	"github.com/cache-tool/cache-tool/objects/reach"
)

func since(t interface{ Fatal(...any) }, g *graph, tips, have []objects.ID, o reach.Options) map[objects.ID]objects.Kind {
	got := map[objects.ID]objects.Kind{}
	o.Visit = func(id objects.ID, k objects.Kind) error {
		if _, twice := got[id]; twice {
			return fmt.Errorf("%s visited twice", id)
		}
		got[id] = k
		return nil
	}
	if err := reach.Since(ctx, &g.store, tips, have, o); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSinceLeavesNothingOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := aGraph.Draw(t, "graph")
		tips := rapid.SliceOfN(rapid.SampledFrom(g.ids()), 1, 3).Draw(t, "tips")
		have := rapid.SliceOfN(rapid.SampledFrom(g.ids()), 0, 3).Draw(t, "have")
		got := since(t, g, tips, have, reach.Options{CheckBlobs: rapid.Bool().Draw(t, "blobs")})

		all := g.reachable(tips, func(objects.ID) bool { return false })
		var commits []objects.ID // of the others nothing is told
		for _, id := range have {
			if g.kinds[id] == objects.Commit {
				commits = append(commits, id)
			}
		}
		theirs := g.reachable(commits, func(objects.ID) bool { return false })
		for id, k := range all {
			if _, ok := theirs[id]; !ok && got[id] != k {
				t.Errorf("%s %s is left out", k, id)
			}
		}
		for id := range got {
			if _, ok := all[id]; !ok {
				t.Errorf("%s is not reachable", id)
			}
		}
	})
}

// aHistory is commits, each with a few changes of its first parent's files.
var aHistory = rapid.Custom(func(t *rapid.T) *history {
	h := &history{graph: newGraph()}
	files := map[objects.ID]map[string]string{}
	for i := range rapid.IntRange(2, 7).Draw(t, "commits") {
		here := map[string]string{}
		var parents []objects.ID
		if i > 0 {
			parents = rapid.SliceOfNDistinct(rapid.SampledFrom(h.commits), 1, 2, rapid.ID).Draw(t, "parents")
			maps.Copy(here, files[parents[0]])
		}
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			path := rapid.StringMatching(`[ab](/[ab](/[ab])?)?`).Draw(t, "path")
			maps.DeleteFunc(here, func(other string, _ string) bool {
				return strings.HasPrefix(other, path+"/") || strings.HasPrefix(path, other+"/")
			})
			if here[path] = rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "file"); here[path] == "" {
				delete(here, path)
			}
		}
		id := h.commit(fmt.Sprint(i), h.files("", here), parents...)
		h.commits, files[id] = append(h.commits, id), here
	}
	return h
})

type history struct {
	*graph
	commits []objects.ID
}

// files makes a tree of those of files that are in a directory.
func (h *history) files(above string, files map[string]string) objects.ID {
	var entries []objects.Entry
	done := map[string]bool{}
	for path, text := range files {
		rest, below := strings.CutPrefix(path, above)
		name, _, isDir := strings.Cut(rest, "/")
		switch {
		case !below || done[name]:
		case isDir:
			entries = append(entries, dir(name, h.files(above+name+"/", files)))
		default:
			entries = append(entries, file(name, h.blob(text)))
		}
		done[name] = done[name] || below
	}
	return h.tree(entries...)
}

func TestSinceLeavesNothingOutOfHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := aHistory.Draw(t, "history")
		tip := h.commits[len(h.commits)-1:]
		have := rapid.SliceOfN(rapid.SampledFrom(h.commits), 0, 2).Draw(t, "have")
		got := since(t, h.graph, tip, have, reach.Options{})
		theirs := h.reachable(have, func(objects.ID) bool { return false })
		for id, k := range h.reachable(tip, func(objects.ID) bool { return false }) {
			if _, ok := theirs[id]; !ok && got[id] != k {
				t.Errorf("%s %s is left out", k, id)
			}
		}
	})
}

func TestSinceVisitsWhatIsNew(t *testing.T) {
	g := newGraph()
	same := g.tree(file("x", g.blob("x")))
	deep := func(text string) objects.ID {
		return g.tree(dir("a", g.tree(file("1", g.blob("1")), file("2", g.blob(text)))), dir("b", same))
	}
	first := g.commit("first", deep("old"))
	second := g.commit("second", deep("new"), first)
	third := g.commit("third", deep("old"), second) // back again
	side := g.commit("side", same, first)
	merge := g.commit("merge", deep("new"), second, side)
	for _, tt := range []struct {
		name       string
		tips, have []objects.ID
		want       int
	}{
		{"nothing", []objects.ID{first}, []objects.ID{first}, 0},
		{"older", []objects.ID{first}, []objects.ID{second}, 0},
		{"one", []objects.ID{second}, []objects.ID{first}, 4},          // commit, root, a, blob
		{"back", []objects.ID{third}, []objects.ID{second}, 4},         // what is old again is not known to be
		{"two", []objects.ID{third}, []objects.ID{first}, 8},           //
		{"merged", []objects.ID{merge}, []objects.ID{second, side}, 1}, // its tree is that of a parent
		{"side by side", []objects.ID{merge}, []objects.ID{second}, 4}, // commits merge and side, tree and blob of side
		{"unrelated", []objects.ID{g.commit("other", same)}, nil, 3},   //
		{"twice", []objects.ID{second, second, third}, []objects.ID{first}, 8},
	} {
		got := since(t, g, tt.tips, tt.have, reach.Options{})
		if len(got) != tt.want {
			t.Errorf("%s: %d objects, want %d", tt.name, len(got), tt.want)
		}
		maps.DeleteFunc(got, func(_ objects.ID, k objects.Kind) bool { return k != objects.Commit })
		if commits := since(t, g, tt.tips, tt.have, reach.Options{Commits: true}); !maps.Equal(commits, got) {
			t.Errorf("%s: %d commits, want %d", tt.name, len(commits), len(got))
		}
	}
}

// A tree that was taken back is the same as one before: neither may be passed over
// because of the other.
func TestSinceVisitsWhatWasTakenBack(t *testing.T) {
	g := newGraph()
	x, y := dir("x", g.tree(file("1", g.blob("1")))), dir("y", g.tree(file("2", g.blob("2"))))
	tree := func(entries ...objects.Entry) objects.ID { return g.tree(dir("put", g.tree(entries...))) }
	first := g.commit("first", tree(x))
	second := g.commit("second", tree(x, y), first)
	third := g.commit("third", tree(x), second)
	if got := since(t, g, []objects.ID{third}, nil, reach.Options{}); len(got) != 3+2+2+2+2 {
		t.Errorf("%d objects, want all: 3 commits, 2 times 2 trees above, trees and blobs of x and y", len(got))
	}

	// What comes as a whole, first or in a later commit, is visited before what relies on it.
	a, b, c := file("a", g.blob("a")), file("b", g.blob("b")), file("c", g.blob("c"))
	deep := func(name string, entries ...objects.Entry) objects.ID {
		return g.tree(dir("d", g.tree(dir("e", g.tree(entries...)))), file(name, g.blob(name)))
	}
	zero := g.commit("zero", g.tree(file("0", g.blob("0"))))
	for _, have := range [][]objects.ID{nil, {zero}} {
		first = g.commit("first", deep("1", a, b), have...)
		second = g.commit("second", deep("2", a, c), first)
		third = g.commit("third", deep("3", a, b), second)
		if got := since(t, g, []objects.ID{third}, have, reach.Options{}); len(got) != 3+3+2*2+6 {
			t.Errorf("%d objects, want all: 3 commits, 3 roots, 2 times 2 trees below, 6 blobs", len(got))
		}
	}
}

func TestSinceShallow(t *testing.T) {
	g := newGraph()
	first := g.commit("first", g.tree(file("1", g.blob("1"))))
	second := g.commit("second", g.tree(file("1", g.blob("1")), file("2", g.blob("2"))), first)
	third := g.commit("third", g.tree(file("3", g.blob("3"))), second)
	cut := reach.Options{Shallow: func(id objects.ID) bool { return id == second }}
	g.store.Remove(first)
	if got := since(t, g, []objects.ID{third}, nil, cut); len(got) != 7 {
		t.Errorf("%d objects, want 2 commits, 2 trees, 3 blobs", len(got))
	}
	// Somebody has what is not here, and the other way round.
	if got := since(t, g, []objects.ID{third}, []objects.ID{first, second}, cut); len(got) != 3 {
		t.Errorf("%d objects, want 3", len(got))
	}
	g.store.Remove(second)
	var missing []reach.Missing
	o := reach.Options{Missing: func(m reach.Missing) error { missing = append(missing, m); return nil }}
	if got := since(t, g, []objects.ID{third}, nil, o); len(got) != 3 || len(missing) != 1 || missing[0].ID != second {
		t.Errorf("%d objects, missing %v", len(got), missing)
	}
}

// kinds knows what is stored without reading it, as package odb does.
type kinds struct{ *objectstest.Memory }

func (m kinds) KindOf(ctx context.Context, id objects.ID) (objects.Kind, error) {
	k, _, err := m.Stat(ctx, id)
	return k, err
}

// Who fetches may want thousands of blobs by their ids, and big ones.
func TestSinceReadsNoBlobs(t *testing.T) {
	g := newGraph()
	blobs := []objects.ID{g.blob("1"), g.blob("2"), g.blob("3")}
	before, _ := g.store.Counts()
	if err := reach.Since(ctx, kinds{&g.store}, blobs, nil, reach.Options{CheckBlobs: true}); err != nil {
		t.Fatal(err)
	}
	if after, _ := g.store.Counts(); after != before {
		t.Errorf("%d of %d blobs were read", after-before, len(blobs))
	}
}

func TestMissingUnplaced(t *testing.T) {
	g := newGraph()
	blob := g.blob("x")
	tip := g.commit("c", g.tree(dir("a", g.tree(file("x", blob)))))
	g.store.Remove(blob)
	for _, tt := range []struct {
		o    reach.Options
		want string
	}{
		{reach.Options{CheckBlobs: true}, "a/x"},
		{reach.Options{CheckBlobs: true, Unplaced: true}, ""},
	} {
		var got []reach.Missing
		tt.o.Missing = func(m reach.Missing) error {
			got = append(got, m)
			return nil
		}
		if err := reach.Since(ctx, &g.store, []objects.ID{tip}, nil, tt.o); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0].ID != blob || got[0].Path != tt.want {
			t.Errorf("Unplaced %v: %v, want %s at %q", tt.o.Unplaced, got, blob, tt.want)
		}
	}
}

// Who is told what stands beside new trees may send these as differences to that: it
// must be what the other side has, and no commit that is new itself.
func TestSinceBeside(t *testing.T) {
	g := newGraph()
	a := func(text string) objects.ID { return g.tree(file("1", g.blob("1")), file("2", g.blob(text))) }
	root := func(text string) objects.ID {
		return g.tree(dir("a", a(text)), dir("b", g.tree(file("x", g.blob("x")))))
	}
	first := g.commit("first", root("old"))
	second := g.commit("second", root("new"), first)
	third := g.commit("third", root("newest"), second)
	for _, tt := range []struct {
		tip, have objects.ID
		want      []objects.ID
	}{
		{second, first, []objects.ID{root("old"), a("old")}},
		{third, first, []objects.ID{root("old"), a("old")}},
		{third, second, []objects.ID{root("new"), a("new")}},
		{third, third, nil},
	} {
		got := map[objects.ID]bool{}
		since(t, g, []objects.ID{tt.tip}, []objects.ID{tt.have}, reach.Options{Beside: func(id objects.ID) { got[id] = true }})
		if len(got) != len(tt.want) {
			t.Errorf("%d trees, want %d", len(got), len(tt.want))
		}
		for _, id := range tt.want {
			if !got[id] {
				t.Errorf("not told of %s", id)
			}
		}
	}
}
