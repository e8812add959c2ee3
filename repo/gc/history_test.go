package gc

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// newGraph makes a history of lines "commit day parents…".
func newGraph(text string) graph {
	g := graph{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		c := &commit{id: idOf(f[0]), when: onDay(int(f[1][0] - '0'))}
		for _, p := range f[2:] {
			c.parents = append(c.parents, idOf(p))
		}
		g[c.id] = c
	}
	return g
}

func idOf(name string) objects.ID { return objects.Sum(objects.Commit, []byte(name)) }

func onDay(n int) time.Time { return time.Unix(0, 0).Add(time.Duration(n) * day) }

// names returns those of all that a set has.
func names(all string, has func(objects.ID) bool) string {
	var found []string
	for name := range strings.FieldsSeq(all) {
		if has(idOf(name)) {
			found = append(found, name)
		}
	}
	return strings.Join(found, " ")
}

func TestCut(t *testing.T) {
	const history = "a 1\nb 2 a\nc 4 b\nd 5 c\nside 3 b\nm 6 d side\n"
	const all = "a b c d side m"
	for _, tt := range []struct {
		tips      string
		before    int
		cut, kept string
	}{
		{"m", 0, "", "a b c d side m"},
		{"m", 1, "", "a b c d side m"},   // a is what stood on the first day
		{"m", 3, "b", "b c d side m"},    // b stood when the third day began
		{"m", 5, "c side", "c d side m"}, // and c when the fifth did
		{"m", 9, "m", "m"},               // the tip stays, however old
		{"d side", 5, "c side", "c d side"},
	} {
		var tips []objects.ID
		for name := range strings.FieldsSeq(tt.tips) {
			tips = append(tips, idOf(name))
		}
		kept, cut := newGraph(history).cut(tips, onDay(tt.before))
		if got := names(all, func(id objects.ID) bool { return cut[id] }); got != tt.cut {
			t.Errorf("%s before day %d: cut at %q, want %q", tt.tips, tt.before, got, tt.cut)
		}
		if got := names(all, func(id objects.ID) bool { return slices.Contains(kept, id) }); got != tt.kept {
			t.Errorf("%s before day %d: kept %q, want %q", tt.tips, tt.before, got, tt.kept)
		}
	}
}

// Between a branch and where the remote's was seen last nothing is cut.
func TestBind(t *testing.T) {
	const history = "a 1\nb 2 a\nc 3 b\nd 4 c\ne 5 c\nm 6 d e\n"
	for _, tt := range []struct {
		now   string
		past  string // newest first
		whole string
	}{
		{"b", "", "c d e m"},
		{"d", "b a", "m"},
		{"x", "y b a", "c d e m"}, // where it is now is not in our history
		{"x", "y", ""},
		{"m", "b", ""},
	} {
		g := newGraph(history)
		seen := Ref{Ref: refs.Ref{Name: refs.Remote("origin", "main"), ID: idOf(tt.now)}}
		for name := range strings.FieldsSeq(tt.past) {
			seen.Past = append(seen.Past, idOf(name))
		}
		here := Ref{Ref: refs.Ref{Name: refs.Branch("main"), ID: idOf("m")}}
		g.bind(here.ID, g.lastSeen(here, []Ref{here, seen}))
		if got := names("a b c d e m", func(id objects.ID) bool { return g[id].whole }); got != tt.whole {
			t.Errorf("seen at %s, before at %s: %q must stay whole, want %q", tt.now, tt.past, got, tt.whole)
		}
		_, cut := g.cut([]objects.ID{here.ID}, onDay(9))
		for id := range maps.Keys(cut) {
			if g[id].whole {
				t.Error("it is cut all the same")
			}
		}
	}
}
