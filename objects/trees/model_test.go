package trees_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/objectstest"
	"github.com/cache-tool/cache-tool/objects/trees"
)

var ctx = context.Background()

// A model is a tree as a map from paths to what stands there: files, and
// directories without anything in them.
type model map[string]objects.Entry

// put does what an edit does.
func (m model) put(path string, e objects.Entry) {
	for other := range m {
		if strings.HasPrefix(other, path+"/") || e.Mode != 0 && strings.HasPrefix(path, other+"/") {
			delete(m, other)
		}
	}
	delete(m, path)
	if e.Mode != 0 {
		m[path] = e
	}
}

// write stores the model and returns its root.
func (m model) write(t rapid.TB, s *objectstest.Memory) objects.ID {
	t.Helper()
	below := map[string]model{}
	var tree objects.Entries
	for path, e := range m {
		name, rest, ok := strings.Cut(path, "/")
		if !ok {
			tree = append(tree, objects.Entry{Mode: e.Mode, Name: name, ID: e.ID})
			continue
		}
		if below[name] == nil {
			below[name] = model{}
		}
		below[name][rest] = e
	}
	for name, sub := range below {
		tree = append(tree, objects.Entry{Mode: objects.ModeDir, Name: name, ID: sub.write(t, s)})
	}
	tree.Sort()
	id, err := s.PutTree(tree.Encode(), objects.ID{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// read is the inverse of write. It refuses what ParseTree refuses.
func read(t rapid.TB, s *objectstest.Memory, root objects.ID) model {
	t.Helper()
	m := model{}
	err := trees.Walk(ctx, s, root, func(path string, e objects.Entry) (trees.Step, error) {
		if !e.Mode.IsDir() || e.ID == objects.EmptyTree {
			m[path] = objects.Entry{Mode: e.Mode, ID: e.ID}
		}
		return trees.Continue, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func check(t rapid.TB, what string, got, want model) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s is\n%v\nwant\n%v", what, got, want)
	}
}

func blob(text string) objects.ID { return objects.Sum(objects.Blob, []byte(text)) }

// The names are hard to order: they go on with what is next to a slash.
var (
	names  = []string{"a", "a.b", "a-", "a0", "b", "\xff"}
	leaves = []objects.Entry{
		{Mode: objects.ModeFile, ID: blob("1")},
		{Mode: objects.ModeFile, ID: blob("2")},
		{Mode: objects.ModeExec, ID: blob("2")},
		{Mode: objects.ModeDir, ID: objects.EmptyTree},
	}
	aPath = rapid.Map(rapid.SliceOfN(rapid.SampledFrom(names), 1, 4), func(n []string) string { return strings.Join(n, "/") })
	aLeaf = rapid.SampledFrom(leaves)
	aTree = rapid.Custom(func(t *rapid.T) model {
		m := model{}
		for range rapid.IntRange(0, 12).Draw(t, "leaves") {
			m.put(aPath.Draw(t, "path"), aLeaf.Draw(t, "leaf"))
		}
		return m
	})
)

// changed returns a tree that differs from m here and there.
func (m model) changed(t *rapid.T) model {
	m = maps.Clone(m)
	for range rapid.IntRange(0, 5).Draw(t, "changes") {
		path := aPath.Draw(t, "path")
		if len(m) > 0 && rapid.Bool().Draw(t, "old path") {
			path = rapid.SampledFrom(slices.Sorted(maps.Keys(m))).Draw(t, "path")
		}
		e := objects.Entry{}
		if rapid.Bool().Draw(t, "put") {
			e = aLeaf.Draw(t, "leaf")
		}
		m.put(path, e)
	}
	return m
}

func TestApplyIsLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := new(objectstest.Memory)
		m := aTree.Draw(t, "tree")
		root := m.write(t, s)
		var edits []trees.Edit
		for range rapid.IntRange(0, 10).Draw(t, "edits") {
			edit := trees.Edit{Path: aPath.Draw(t, "path")}
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				edit.Mode = objects.ModeFile // deletes all the same
			case 1:
				sub := aTree.Draw(t, "subtree")
				edit.Mode, edit.ID = objects.ModeDir, sub.write(t, s)
			default:
				e := aLeaf.Draw(t, "leaf")
				edit.Mode, edit.ID = e.Mode, e.ID
			}
			edits = append(edits, edit)
		}
		s.Counts()
		before := slices.Clone(edits)
		got, err := trees.Apply(ctx, s, s, root, edits)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(edits, before) {
			t.Error("Apply changed its argument")
		}
		reads, puts := s.Counts()
		if most := touched(edits); reads > most || puts > most {
			t.Errorf("%d trees read, %d written, %d lie on the way", reads, puts, most)
		}
		applyToModel(t, s, m, edits)
		want := m.write(t, s)
		check(t, "the tree", read(t, s, got), m)
		if got != want {
			t.Errorf("root %s, want %s", got, want)
		}
	})
}

func applyToModel(t rapid.TB, s *objectstest.Memory, m model, edits []trees.Edit) {
	last := map[string]trees.Edit{}
	for _, e := range edits {
		last[e.Path] = e
	}
	for _, path := range slices.SortedFunc(maps.Keys(last), trees.ComparePaths) {
		e := last[path]
		switch {
		case e.ID.IsZero():
			m.put(path, objects.Entry{})
		case e.Mode.IsDir() && e.ID != objects.EmptyTree:
			m.put(path, objects.Entry{})
			for sub, leaf := range read(t, s, e.ID) {
				m.put(path+"/"+sub, leaf)
			}
		default:
			m.put(path, objects.Entry{Mode: e.Mode, ID: e.ID})
		}
	}
}

// touched returns how many trees there are above the edits.
func touched(edits []trees.Edit) int {
	above := map[string]bool{"": true}
	for _, e := range edits {
		for i := range e.Path {
			if e.Path[i] == '/' {
				above[e.Path[:i]] = true
			}
		}
	}
	return len(above)
}

func TestLookupIsLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := new(objectstest.Memory)
		m := aTree.Draw(t, "tree")
		root := m.write(t, s)
		path := aPath.Draw(t, "path")
		e, err := trees.Lookup(ctx, s, root, path)
		want, isLeaf := m[path]
		isTree := slices.ContainsFunc(slices.Collect(maps.Keys(m)), func(p string) bool { return strings.HasPrefix(p, path+"/") })
		switch {
		case isLeaf && (err != nil || e.Mode != want.Mode || e.ID != want.ID || e.Name != path[strings.LastIndex(path, "/")+1:]):
			t.Errorf("Lookup(%q) = %v, %v; want %v", path, e, err, want)
		case isTree && (err != nil || !e.Mode.IsDir()):
			t.Errorf("Lookup(%q) = %v, %v; want a directory", path, e, err)
		case !isLeaf && !isTree && err != trees.ErrNoPath:
			t.Errorf("Lookup(%q) = %v, %v; want ErrNoPath", path, e, err)
		}
	})
}

// diff returns the changes between two models.
func diff(a, b model) map[string]trees.Change {
	changes := map[string]trees.Change{}
	for path, e := range a {
		if b[path] != e {
			changes[path] = trees.Change{Path: path, Old: e, New: b[path]}
		}
	}
	for path, e := range b {
		if _, ok := a[path]; !ok {
			changes[path] = trees.Change{Path: path, New: e}
		}
	}
	return changes
}

func TestDiffIsLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := new(objectstest.Memory)
		a := aTree.Draw(t, "a")
		b := a.changed(t)
		got := map[string]trees.Change{}
		err := trees.Diff(ctx, s, a.write(t, s), b.write(t, s), func(c trees.Change) error {
			// What was a file and is an empty directory, or the reverse, is two
			// changes of one path.
			before := got[c.Path]
			if before.Old.Mode != 0 && c.Old.Mode != 0 || before.New.Mode != 0 && c.New.Mode != 0 {
				t.Errorf("%q is shown twice: %v, %v", c.Path, before, c)
			}
			c.Old.ID, c.New.ID = or(before.Old.ID, c.Old.ID), or(before.New.ID, c.New.ID)
			c.Old.Mode, c.New.Mode = before.Old.Mode|c.Old.Mode, before.New.Mode|c.New.Mode
			c.Old.Name, c.New.Name = "", ""
			got[c.Path] = c
			return nil
		}, trees.DiffOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if want := diff(a, b); !maps.Equal(got, want) {
			t.Errorf("Diff shows\n%v\nwant\n%v", got, want)
		}
	})
}

func or(a, b objects.ID) objects.ID {
	if a.IsZero() {
		return b
	}
	return a
}

// What two sides did comes together if it does not clash.
func TestMergeIsLikeAMap(t *testing.T) {
	clean := 0
	rapid.Check(t, func(t *rapid.T) {
		s := new(objectstest.Memory)
		base := aTree.Draw(t, "base")
		ours, theirs := base.changed(t), base.changed(t)
		got, conflicts, err := trees.Merge(ctx, s, s, base.write(t, s), ours.write(t, s), theirs.write(t, s), trees.MergeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		merged := read(t, s, got)
		if len(conflicts) == 0 {
			clean++
			want := maps.Clone(ours)
			for path, c := range diff(base, theirs) {
				if c.New.Mode == 0 {
					delete(want, path)
				} else {
					want[path] = c.New
				}
			}
			check(t, "the merge", merged, want)
		}
		for _, c := range conflicts {
			if c.Base == c.Ours || c.Base == c.Theirs || c.Ours == c.Theirs {
				t.Errorf("%v is no conflict", c)
			}
		}
	})
	if clean == 0 {
		t.Error("no merge was clean")
	}
}

// Entries are merged each for itself and whole: here a path of two names.
func TestMergeTakesEntriesWhole(t *testing.T) {
	path := rapid.Map(rapid.SliceOfN(rapid.SampledFrom(names[:3]), 2, 2), func(n []string) string { return strings.Join(n, "/") })
	// Each entry is a tree of a payload and a note that does not count.
	anEntry := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2", "3"}), 2, 2), func(n []string) model {
		return model{
			"body": {Mode: objects.ModeFile, ID: blob(n[0])},
			"note": {Mode: objects.ModeFile, ID: blob(n[1])},
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		s := new(objectstest.Memory)
		side := func(name string) (objects.ID, map[string]objects.Entry) {
			m := map[string]objects.Entry{}
			var edits []trees.Edit
			for range rapid.IntRange(0, 8).Draw(t, name) {
				id := anEntry.Draw(t, "entry").write(t, s)
				p := path.Draw(t, "path")
				m[p] = objects.Entry{Mode: objects.ModeDir, ID: id}
				edits = append(edits, trees.Edit{Path: p, Mode: objects.ModeDir, ID: id})
			}
			root, err := trees.Apply(ctx, s, s, objects.EmptyTree, edits)
			if err != nil {
				t.Fatal(err)
			}
			return root, m
		}
		base, inBase := side("base")
		ours, inOurs := side("ours")
		theirs, inTheirs := side("theirs")
		body := func(e objects.Entry) objects.ID {
			tree, err := objects.ReadTree(ctx, s, e.ID)
			if err != nil {
				t.Fatal(err)
			}
			return tree[0].ID
		}
		same := func(a, b objects.Entry) bool { return a.Mode == b.Mode && (a.Mode == 0 || body(a) == body(b)) }

		want := map[string]objects.Entry{}
		var clashes []string
		for path := range allKeys(inBase, inOurs, inTheirs) {
			b, o, th := inBase[path], inOurs[path], inTheirs[path]
			e := o
			switch {
			case o == th, b == th:
			case b == o:
				e = th
			case same(o, th), same(b, th):
			case same(b, o):
				e = th
			default:
				clashes = append(clashes, path)
			}
			if e.Mode != 0 {
				want[path] = e
			}
		}
		whole := func(path string) bool { return strings.Count(path, "/") == 1 }
		got, conflicts, err := trees.Merge(ctx, s, s, base, ours, theirs, trees.MergeOptions{
			Whole: whole,
			Same:  func(_ context.Context, a, b objects.Entry) (bool, error) { return same(a, b), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		entries := map[string]objects.Entry{}
		err = trees.Walk(ctx, s, got, func(path string, e objects.Entry) (trees.Step, error) {
			if !whole(path) {
				return trees.Continue, nil
			}
			entries[path] = objects.Entry{Mode: e.Mode, ID: e.ID}
			return trees.SkipTree, nil
		})
		if err != nil || !maps.Equal(entries, want) {
			t.Errorf("merged %v, %v; want %v", entries, err, want)
		}
		var paths []string
		for _, c := range conflicts {
			paths = append(paths, c.Path)
		}
		slices.Sort(paths)
		slices.Sort(clashes)
		if !slices.Equal(paths, clashes) {
			t.Errorf("conflicts at %q, want %q", paths, clashes)
		}
	})
}

func allKeys(ms ...map[string]objects.Entry) map[string]bool {
	keys := map[string]bool{}
	for _, m := range ms {
		for k := range m {
			keys[k] = true
		}
	}
	return keys
}
