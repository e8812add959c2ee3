package trees_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/objectstest"
	"github.com/cache-tool/cache-tool/objects/trees"
)

// put returns the edit that puts a file of text at path.
func put(path, text string) trees.Edit {
	return trees.Edit{Path: path, Mode: objects.ModeFile, ID: blob(text)}
}

func apply(t testing.TB, s *objectstest.Memory, root objects.ID, edits ...trees.Edit) objects.ID {
	t.Helper()
	id, err := trees.Apply(ctx, s, s, root, edits)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestApplyRefuses(t *testing.T) {
	s := new(objectstest.Memory)
	for _, e := range []trees.Edit{
		put("", "x"), put("/a", "x"), put("a//b", "x"), put("a/", "x"), put("a/../b", "x"), put(".", "x"), put("a\x00", "x"),
		{Path: "a", Mode: 0o100600, ID: blob("x")},
	} {
		if id, err := trees.Apply(ctx, s, s, objects.EmptyTree, []trees.Edit{put("ok", "x"), e}); err == nil {
			t.Errorf("Apply(%q, %o) = %s", e.Path, e.Mode, id)
		}
	}
	if _, puts := s.Counts(); puts > 0 {
		t.Errorf("%d trees were written", puts)
	}
}

func TestApplyOfNothing(t *testing.T) {
	s := new(objectstest.Memory)
	for _, root := range []objects.ID{{}, objects.EmptyTree} {
		if got := apply(t, s, root); got != objects.EmptyTree {
			t.Errorf("root %s", got)
		}
	}
	if _, _, err := s.ReadBytes(ctx, objects.EmptyTree); err != nil {
		t.Errorf("the empty root is not stored: %v", err)
	}
	root := apply(t, s, objects.EmptyTree, put("a/b", "x"))
	s.Counts()
	if got := apply(t, s, root, put("a/b", "x"), trees.Edit{Path: "a/c"}, trees.Edit{Path: "c/d"}); got != root {
		t.Errorf("root %s, want %s as before", got, root)
	}
	if reads, puts := s.Counts(); reads != 2 || puts != 0 {
		t.Errorf("%d trees read, %d written", reads, puts)
	}
}

func TestApplyNamesTheOldTreeAsBase(t *testing.T) {
	s := new(objectstest.Memory)
	first := apply(t, s, objects.EmptyTree, put("a/b/c", "x"), put("d", "x"))
	second := apply(t, s, first, put("a/b/c", "y"), put("n/e/w", "y"))
	for path, want := range map[string]bool{"": true, "a": true, "a/b": true, "n": false, "n/e": false} {
		now, err := trees.Lookup(ctx, s, second, path)
		if err != nil {
			t.Fatal(err)
		}
		var base objects.ID
		if want {
			before, err := trees.Lookup(ctx, s, first, path)
			if err != nil {
				t.Fatal(err)
			}
			base = before.ID
		}
		if got := s.Base(now.ID); got != base {
			t.Errorf("%q has the base %s, want %s", path, got.Short(), base.Short())
		}
	}
}

func TestUnreadableTrees(t *testing.T) {
	s := new(objectstest.Memory)
	root := apply(t, s, objects.EmptyTree, put("a/x", "1"), put("b/x", "2"))
	a, err := trees.Lookup(ctx, s, root, "a")
	if err != nil {
		t.Fatal(err)
	}
	broken := objects.Entries{{Mode: objects.ModeFile, Name: "x", ID: blob("1")}}.Encode()
	for _, tt := range []struct {
		name    string
		damage  func()
		missing bool
	}{
		{"cut short", func() { s.Damage(a.ID, objects.Tree, broken[:20]) }, false},
		{"a blob", func() { s.Damage(a.ID, objects.Blob, broken) }, false},
		{"missing", func() { s.Remove(a.ID) }, true},
	} {
		tt.damage()
		nop := func(string, objects.Entry) (trees.Step, error) { return trees.Continue, nil }
		_, lookup := trees.Lookup(ctx, s, root, "a/x")
		_, edit := trees.Apply(ctx, s, s, root, []trees.Edit{put("a/y", "1"), put("a/z", "1")})
		_, _, merge := trees.Merge(ctx, s, s, objects.EmptyTree, root, apply(t, s, objects.EmptyTree, put("a/y", "1")), trees.MergeOptions{})
		for what, err := range map[string]error{
			"lookup": lookup, "edit": edit, "merge": merge,
			"walk": trees.Walk(ctx, s, root, nop),
			"diff": trees.Diff(ctx, s, objects.EmptyTree, root, func(trees.Change) error { return nil }, trees.DiffOptions{}),
		} {
			if err == nil || errors.Is(err, objects.ErrNotFound) != tt.missing || errors.Is(err, trees.ErrNoPath) {
				t.Errorf("%s of a tree that is %s: %v", what, tt.name, err)
			}
		}
		if _, err := trees.Lookup(ctx, s, root, "b/x"); err != nil {
			t.Errorf("beside a tree that is %s: %v", tt.name, err)
		}
		if _, err := trees.Apply(ctx, s, s, root, []trees.Edit{put("b/x", "1"), {Path: "a"}}); err != nil {
			t.Errorf("edit beside a tree that is %s: %v", tt.name, err)
		}
	}
}

func TestWalkInOrder(t *testing.T) {
	s := new(objectstest.Memory)
	root := apply(t, s, objects.EmptyTree, put("a/x", "1"), put("a.b", "1"), put("a0", "1"), put("skip/x", "1"), put("z", "1"))
	var got []string
	err := trees.Walk(ctx, s, root, func(path string, e objects.Entry) (trees.Step, error) {
		got = append(got, path)
		if path == "skip" {
			return trees.SkipTree, nil
		}
		return trees.Continue, nil
	})
	want := []string{"a.b", "a", "a/x", "a0", "skip", "z"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("walked %q, %v; want %q", got, err, want)
	}
	stop := errors.New("stop")
	err = trees.WalkAt(ctx, s, "base", root, func(path string, e objects.Entry) (trees.Step, error) {
		if path == "base/a/x" {
			return trees.Continue, stop
		}
		return trees.Continue, nil
	})
	if err != stop {
		t.Errorf("stopped with %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := trees.Walk(cancelled, s, root, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestDiffOfEntries(t *testing.T) {
	s := new(objectstest.Memory)
	a := apply(t, s, objects.EmptyTree, put("save/one/body", "1"), put("save/two/body", "1"), put("save/gone/body", "1"))
	b := apply(t, s, a, put("save/two/body", "2"), put("run/new/x/y", "1"), trees.Edit{Path: "save/gone"})
	var got []string
	err := trees.Diff(ctx, s, a, b, func(c trees.Change) error {
		what := "changed"
		if c.Added() {
			what = "added"
		} else if c.Deleted() {
			what = "deleted"
		}
		got = append(got, what+" "+c.Path)
		return nil
	}, trees.DiffOptions{Whole: func(path string) bool { return strings.Count(path, "/") == 1 }})
	want := []string{"added run/new", "deleted save/gone", "changed save/two"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Diff shows %q, %v; want %q", got, err, want)
	}
}

func TestMergeResolves(t *testing.T) {
	s := new(objectstest.Memory)
	base := apply(t, s, objects.EmptyTree, put("k/a", "0"), put("k/deleted", "0"), put("k/quiet", "0"))
	ours := apply(t, s, base, put("k/a", "1"), trees.Edit{Path: "k/deleted"}, put("k/mine", "1"))
	theirs := apply(t, s, base, put("k/a", "2"), put("k/deleted", "2"), put("k/theirs", "2"))
	pick := func(side func(trees.Conflict) objects.Entry) func(context.Context, trees.Conflict) (objects.Entry, error) {
		return func(_ context.Context, c trees.Conflict) (objects.Entry, error) { return side(c), nil }
	}
	failure := errors.New("failure")
	for _, tt := range []struct {
		name      string
		resolve   func(context.Context, trees.Conflict) (objects.Entry, error)
		a         string
		deleted   string
		conflicts int
		err       error
	}{
		{"nobody", nil, "1", "", 2, nil},
		{"ours", pick(func(c trees.Conflict) objects.Entry { return c.Ours }), "1", "", 0, nil},
		{"theirs", pick(func(c trees.Conflict) objects.Entry { return c.Theirs }), "2", "2", 0, nil},
		{"a union", pick(func(c trees.Conflict) objects.Entry {
			return objects.Entry{Mode: objects.ModeFile, Name: "whatever", ID: blob("union")}
		}), "union", "union", 0, nil},
		{"failure", func(context.Context, trees.Conflict) (objects.Entry, error) { return objects.Entry{}, failure }, "", "", 0, failure},
	} {
		root, conflicts, err := trees.Merge(ctx, s, s, base, ours, theirs, trees.MergeOptions{Resolve: tt.resolve})
		if !errors.Is(err, tt.err) || len(conflicts) != tt.conflicts {
			t.Errorf("%s: %v, %v", tt.name, conflicts, err)
		}
		if err != nil {
			continue
		}
		want := []trees.Edit{put("k/a", tt.a), put("k/quiet", "0"), put("k/mine", "1"), put("k/theirs", "2")}
		if tt.deleted != "" {
			want = append(want, put("k/deleted", tt.deleted))
		}
		check(t, tt.name, read(t, s, root), read(t, s, apply(t, s, objects.EmptyTree, want...)))
	}
}

func TestMergeOfUnrelated(t *testing.T) {
	s := new(objectstest.Memory)
	ours := apply(t, s, objects.EmptyTree, put("a/x", "1"), put("b", "same"))
	theirs := apply(t, s, objects.EmptyTree, put("a/y", "2"), put("b", "same"))
	want := apply(t, s, ours, put("a/y", "2"))
	for _, base := range []objects.ID{{}, objects.EmptyTree} {
		got, conflicts, err := trees.Merge(ctx, s, s, base, ours, theirs, trees.MergeOptions{})
		if err != nil || len(conflicts) > 0 || got != want {
			t.Errorf("merged %s, %v, %v; want %s", got, conflicts, err, want)
		}
	}
	// Deleted on one side, all of it, and untouched on the other.
	got, conflicts, err := trees.Merge(ctx, s, s, ours, ours, objects.EmptyTree, trees.MergeOptions{})
	if err != nil || len(conflicts) > 0 || got != objects.EmptyTree {
		t.Errorf("merged %s, %v, %v; want nothing", got, conflicts, err)
	}
}

// manyEntries returns n edits, in order, of entries as a branch has them.
func manyEntries(n int) []trees.Edit {
	edits := make([]trees.Edit, n)
	for i := range edits {
		edits[i] = trees.Edit{Path: entry.Path(entry.Put, fmt.Sprint("key", i)), Mode: objects.ModeDir, ID: objects.ID{byte(i), byte(i >> 8), byte(i >> 16), 1}}
	}
	slices.SortFunc(edits, func(a, b trees.Edit) int { return trees.ComparePaths(a.Path, b.Path) })
	return edits
}

// In a branch of a million entries one more costs four trees, and finding one too.
func TestMillionEntries(t *testing.T) {
	s := new(objectstest.Memory)
	edits := manyEntries(test.Count(t, 1_000_000))
	root := objects.EmptyTree
	for some := range slices.Chunk(edits, 100_000) {
		s.Counts()
		root = apply(t, s, root, some...)
		if reads, puts := s.Counts(); reads > touched(some) || puts > touched(some) {
			t.Errorf("%d trees read, %d written for %d on the way", reads, puts, touched(some))
		}
	}
	s.Counts()
	more := trees.Edit{Path: entry.Path(entry.Put, "one more"), Mode: objects.ModeDir, ID: blob("x")}
	after := apply(t, s, root, more)
	if reads, puts := s.Counts(); reads > 4 || puts != 4 {
		t.Errorf("one more: %d trees read, %d written", reads, puts)
	}
	for i := 0; i < len(edits); i += len(edits) / 100 {
		if e, err := trees.Lookup(ctx, s, after, edits[i].Path); err != nil || e.ID != edits[i].ID {
			t.Fatalf("Lookup(%q) = %v, %v", edits[i].Path, e, err)
		}
	}
	s.Counts()
	var changes []trees.Change
	err := trees.Diff(ctx, s, root, after, func(c trees.Change) error {
		changes = append(changes, c)
		return nil
	}, trees.DiffOptions{Whole: entry.IsPath})
	if reads, _ := s.Counts(); err != nil || len(changes) != 1 || changes[0].Path != more.Path || reads > 8 {
		t.Errorf("Diff shows %v, %v, reads %d trees", changes, err, reads)
	}
	_, conflicts, err := trees.Merge(ctx, s, s, root, after, apply(t, s, root, trees.Edit{Path: edits[0].Path}), trees.MergeOptions{Whole: entry.IsPath})
	if reads, _ := s.Counts(); err != nil || len(conflicts) > 0 || reads > 20 {
		t.Errorf("Merge: %v, %v, reads %d trees", conflicts, err, reads)
	}
}

// A directory can hold very many names itself.
func TestApplyToAWideTree(t *testing.T) {
	s := new(objectstest.Memory)
	edits := make([]trees.Edit, test.Count(t, 500_000))
	for i := range edits {
		edits[i] = put(fmt.Sprintf("d/%07d", i), "x")
	}
	root := apply(t, s, objects.EmptyTree, edits...)
	if reads, puts := s.Counts(); reads != 0 || puts != 2 {
		t.Errorf("%d trees read, %d written", reads, puts)
	}
	for i := range edits {
		if i%3 == 0 {
			edits[i].ID = objects.ID{}
		}
	}
	got := apply(t, s, root, edits...)
	tree, err := objects.ReadTree(ctx, s, got)
	if err != nil {
		t.Fatal(err)
	}
	wide, err := objects.ReadTree(ctx, s, tree[0].ID)
	if want := len(edits) - (len(edits)+2)/3; err != nil || len(wide) != want {
		t.Errorf("%d names, %v; want %d", len(wide), err, want)
	}
}

func BenchmarkApplyOne(b *testing.B) {
	s := new(objectstest.Memory)
	root := apply(b, s, objects.EmptyTree, manyEntries(1_000_000)...)
	runtime.GC()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		apply(b, s, root, trees.Edit{Path: entry.Path(entry.Put, fmt.Sprint("more", i)), Mode: objects.ModeDir, ID: blob("x")})
	}
}

func BenchmarkLookup(b *testing.B) {
	s := new(objectstest.Memory)
	edits := manyEntries(1_000_000)
	root := apply(b, s, objects.EmptyTree, edits...)
	runtime.GC()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i += 7919
		if _, err := trees.Lookup(ctx, s, root, edits[i%len(edits)].Path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyBulk(b *testing.B) {
	s := new(objectstest.Memory)
	edits := manyEntries(1_000_000)
	root := apply(b, s, objects.EmptyTree, edits...)
	var some []trees.Edit
	for i := 0; i < len(edits); i += 10 {
		some = append(some, trees.Edit{Path: edits[i].Path, Mode: objects.ModeDir, ID: blob("x")})
	}
	runtime.GC()
	b.ReportAllocs()
	for b.Loop() {
		apply(b, s, root, some...)
	}
}
