package reach_test

import (
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
)

func only(ids ...objects.ID) func(objects.ID) bool {
	return func(id objects.ID) bool {
		for _, other := range ids {
			if other == id {
				return true
			}
		}
		return false
	}
}

// What the other side has cut off it lacks, though it has what leads there here.
func TestSinceShallowThere(t *testing.T) {
	g := newGraph()
	first := g.commit("first", g.tree(file("1", g.blob("1"))))
	second := g.commit("second", g.tree(file("2", g.blob("2"))), first)
	third := g.commit("third", g.tree(file("3", g.blob("3"))), second)
	fork := g.commit("fork", g.tree(file("4", g.blob("4"))), first)
	next := g.commit("next", g.tree(file("5", g.blob("5"))), second)
	cut := only(second)
	for _, tt := range []struct {
		what       string
		o          reach.Options
		tips, have []objects.ID
		want       int
	}{
		{"whole on both sides", reach.Options{}, []objects.ID{fork}, []objects.ID{third}, 3},
		{"cut there", reach.Options{ShallowThere: cut}, []objects.ID{fork}, []objects.ID{third}, 6},
		{"cut here", reach.Options{Shallow: cut, ShallowThere: only()}, []objects.ID{fork}, []objects.ID{third}, 3},
		{"cut on both sides", reach.Options{Shallow: cut}, []objects.ID{fork}, []objects.ID{third}, 6},
		{"on top of a cut", reach.Options{ShallowThere: cut}, []objects.ID{next}, []objects.ID{third}, 3},
		{"without a beginning", reach.Options{Shallow: cut}, []objects.ID{third}, nil, 6},
		{"what was cut off there only", reach.Options{ShallowThere: cut}, []objects.ID{third}, nil, 9},
	} {
		if got := since(t, g, tt.tips, tt.have, tt.o); len(got) != tt.want {
			t.Errorf("%s: %d objects, want %d", tt.what, len(got), tt.want)
		}
	}
}

// Where clocks were wrong, what the other side has cut off is neither sent again nor
// missed.
func TestSinceShallowThereWrongClocks(t *testing.T) {
	g := newGraph()
	first := g.commitAt(-time.Hour, "first", g.tree(file("1", g.blob("1"))))
	second := g.commitAt(time.Hour, "second", g.tree(file("2", g.blob("2"))), first)
	third := g.commitAt(0, "third", g.tree(file("3", g.blob("3"))), second)
	next := g.commitAt(2*time.Hour, "next", g.tree(file("5", g.blob("5"))), second)
	o := reach.Options{ShallowThere: only(second)}
	if got := since(t, g, []objects.ID{next}, []objects.ID{third}, o); len(got) != 3 {
		t.Errorf("%d objects, want 3", len(got))
	}
	g.store.Remove(first)
	if got := since(t, g, []objects.ID{next}, []objects.ID{third}, o); len(got) != 3 {
		t.Errorf("without what was cut off: %d objects, want 3", len(got))
	}
}

func TestCut(t *testing.T) {
	g := newGraph()
	first := g.commit("first", g.tree(file("1", g.blob("1"))))
	gone := g.blob("gone")
	second := g.commit("second", g.tree(file("2", gone)), first)
	third := g.commit("third", g.tree(file("3", g.blob("3"))), second)
	merge := g.commit("merge", g.tree(file("4", g.blob("4"))), first, third)
	all := []objects.ID{first, second, third, merge}
	for _, tt := range []struct {
		what       string
		remove     objects.ID
		have, want []objects.ID
		o          reach.Options
	}{
		{"all is there", objects.ID{}, nil, nil, reach.Options{}},
		{"a blob is missing", gone, nil, []objects.ID{third, merge}, reach.Options{}},
		{"blobs don't matter", gone, nil, nil, reach.Options{Commits: true}},
		{"it is known to be whole", gone, []objects.ID{third}, nil, reach.Options{}},
		{"cut before that", gone, nil, []objects.ID{third, merge}, reach.Options{Shallow: only(second)}},
		{"a commit is missing", first, nil, []objects.ID{second, merge}, reach.Options{Shallow: only(second), Commits: true}},
		{"so are its descendants", first, nil, []objects.ID{second, third, merge}, reach.Options{Commits: true}},
	} {
		if !tt.remove.IsZero() {
			g.store.Remove(tt.remove)
		}
		got, err := reach.Cut(ctx, &g.store, all[1:], tt.have, tt.o)
		if err != nil || len(got) != len(tt.want) {
			t.Errorf("%s: %d commits, %v, want %d", tt.what, len(got), err, len(tt.want))
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %s, want %s", tt.what, got[i].Short(), tt.want[i].Short())
			}
		}
	}
	if _, err := reach.Cut(ctx, &g.store, []objects.ID{{1}}, nil, reach.Options{}); err == nil {
		t.Error("a commit that is not there was judged")
	}
}
