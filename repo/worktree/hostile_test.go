package worktree

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// TestWayThroughLinks restores below a directory through links on the way.
func TestWayThroughLinks(t *testing.T) {
	s := newStore(t)
	from := t.TempDir()
	files(t, from, map[string]string{"f": "new", "d/g": "new"})
	b, err := s.db.NewBatch(ctx, odb.BatchOptions{})
	must(t, err)
	id, err := b.PutBytes(objects.Blob, []byte("new"))
	must(t, err)
	must(t, b.Commit(ctx, odb.Staged))
	b.Close()
	for _, old := range []bool{false, true} {
		oldKernel = old
		for _, tt := range []struct {
			name    string
			inside  bool // it stays in the directory
			written string
		}{
			{"plain/f", true, "base/plain/f"},
			{"absent/dir/f", true, "base/absent/dir/f"},
			{"in/f", true, "base/plain/f"}, // a link to plain
			{"out/f", false, ""},           // a link to ../outside
			{"abs/f", false, ""},           // a link to an absolute path
			{"out/absent/f", false, ""},    // nothing may be made there either
			{"in/out/f", false, ""},        // out again, by a second link
			{"dangling/f", false, ""},      // a link to nowhere, outside
			{"self", true, "base/self"},    // a link itself is replaced
			{"plain/../../f", false, ""},   // no name
			{"plain/file/f", false, ""},    // no directory
			{"in/../plain/f", false, ""},   // no name
			{"/plain/f", false, ""},        // no name
			{"plain/\x00", false, ""},      // no name
			{"in/new/f", true, "base/plain/new/f"},
		} {
			root := t.TempDir()
			files(t, root, map[string]string{"base/plain/file": "old", "outside/f": "precious"})
			for name, to := range map[string]string{
				"base/in": "plain", "base/out": "../outside", "base/abs": filepath.Join(root, "outside"),
				"base/plain/out": "../../outside", "base/dangling": "../nowhere", "base/self": "../outside/f",
			} {
				must(t, os.Symlink(to, filepath.Join(root, name)))
			}
			_, err := Restore(ctx, s.db, []Target{{Dir: filepath.Join(root, "base"), Name: tt.name, Mode: objects.ModeFile, ID: id}}, RestoreOptions{})
			// Kernels that cannot tell follow no link at all.
			inside := tt.inside && !(old && strings.HasPrefix(tt.name, "in/"))
			if (err == nil) != inside {
				t.Errorf("%q, old kernel %v: %v", tt.name, old, err)
			}
			if got := content(t, filepath.Join(root, "outside/f")); got != "precious" {
				t.Errorf("%q: wrote outside", tt.name)
			}
			if names, _ := os.ReadDir(root); len(names) != 2 {
				t.Errorf("%q: made something outside: %v", tt.name, names)
			}
			if names, _ := os.ReadDir(filepath.Join(root, "outside")); len(names) != 1 {
				t.Errorf("%q: made something outside: %v", tt.name, names)
			}
			if inside && content(t, filepath.Join(root, tt.written)) != "new" {
				t.Errorf("%q: not written", tt.name)
			}
		}
	}
	oldKernel = false
}

// TestHostileTrees has trees that no snapshot makes.
func TestHostileTrees(t *testing.T) {
	s := newStore(t)
	b, err := s.db.NewBatch(ctx, odb.BatchOptions{})
	must(t, err)
	blob, err := b.PutBytes(objects.Blob, []byte("evil"))
	must(t, err)
	tree := func(entries ...objects.Entry) objects.ID {
		objects.Entries(entries).Sort()
		id, err := b.PutTree(objects.Entries(entries).Encode(), objects.ID{})
		must(t, err)
		return id
	}
	raw := func(body string) objects.ID {
		id, err := b.PutBytes(objects.Tree, []byte(body))
		must(t, err)
		return id
	}
	file := func(name string) objects.Entry { return objects.Entry{Mode: objects.ModeFile, Name: name, ID: blob} }
	dir := func(name string, id objects.ID) objects.Entry {
		return objects.Entry{Mode: objects.ModeDir, Name: name, ID: id}
	}
	sub := tree(file("f"))
	bomb := tree(file("f"))
	for range 30 {
		bomb = tree(dir("a", bomb), dir("b", bomb), dir("c", bomb))
	}
	deep := tree(file("f"))
	for range maxDepth + 2 {
		deep = tree(dir("d", deep))
	}
	entry := func(mode, name string, id objects.ID) string { return mode + " " + name + "\x00" + string(id[:]) }
	var nul objects.ID
	hostile := map[string]objects.ID{
		"..":                          raw(entry("100644", "..", blob)),
		"slash":                       raw(entry("100644", "a/b", blob)),
		"absolute":                    raw(entry("100644", "/etc/evil", blob)),
		"empty name":                  raw(entry("100644", "", blob)),
		"file and directory":          raw(entry("100644", "a", blob) + entry("40000", "a", sub)),
		"link and directory":          raw(entry("120000", "a", blob) + entry("40000", "a", sub)),
		"twice":                       raw(entry("100644", "a", blob) + entry("100644", "a", blob)),
		"twice, escaped":              tree(file("x"), dir(".git", sub), dir(".git%", sub)),
		"a tree that is a blob":       tree(dir("a", blob)),
		"a blob that is a tree":       tree(objects.Entry{Mode: objects.ModeFile, Name: "a", ID: sub}),
		"a missing blob":              tree(objects.Entry{Mode: objects.ModeFile, Name: "a", ID: nul}),
		"a missing tree":              tree(dir("a", objects.Sum(objects.Tree, []byte("absent")))),
		"a submodule":                 raw(entry("160000", "a", blob)),
		"garbage":                     raw("garbage"),
		"a tree that unfolds forever": bomb,
		"a tree that is too deep":     deep,
		"a link to what has a NUL":    tree(objects.Entry{Mode: objects.ModeSymlink, Name: "a", ID: putBlob(t, b, "a\x00b")}),
		"a link to nothing":           tree(objects.Entry{Mode: objects.ModeSymlink, Name: "a", ID: putBlob(t, b, "")}),
		"a link that is too long":     tree(objects.Entry{Mode: objects.ModeSymlink, Name: "a", ID: putBlob(t, b, strings.Repeat("a", 5000))}),
		"a very long link":            tree(objects.Entry{Mode: objects.ModeSymlink, Name: "a", ID: putBlob(t, b, strings.Repeat("a", 2<<20))}),
		"a name that is too long":     tree(file(strings.Repeat("n", 300))),
	}
	must(t, b.Commit(ctx, odb.Staged))
	b.Close()
	for name, id := range hostile {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			to := filepath.Join(root, "up", "to")
			_, err := Restore(ctx, s.db, []Target{{Dir: to, Mode: objects.ModeDir, ID: id, WithGit: true}}, RestoreOptions{Delete: true})
			if err == nil {
				t.Error("no error")
			}
			t.Log(err)
			if names, _ := os.ReadDir(root); len(names) != 0 {
				t.Errorf("left behind: %v", names)
			}
			files(t, to, map[string]string{"f": "mine", "sub/f": "mine"})
			before := describe(t, to)
			if _, err := Restore(ctx, s.db, []Target{{Dir: to, Mode: objects.ModeDir, ID: id, WithGit: true}}, RestoreOptions{Delete: true}); err == nil {
				t.Error("over something else: no error")
			}
			sameButTimes(t, before, describe(t, to))
			leftovers(t, root)
		})
	}
}

func putBlob(tb testing.TB, b *odb.Batch, body string) objects.ID {
	tb.Helper()
	id, err := b.Put(ctx, objects.Blob, int64(len(body)), strings.NewReader(body))
	must(tb, err)
	return id
}

func TestColumnsThatDoNotFit(t *testing.T) {
	s := newStore(t)
	from := t.TempDir()
	files(t, from, map[string]string{"a": "1", "d/b": "2"})
	snap := s.take(from, SnapshotOptions{})
	whole := Target{Mode: objects.ModeDir, ID: snap.Payload[0].ID, Times: snap.Files[0].Times}
	for name, change := range map[string]func(*Target){
		"too few times":  func(t *Target) { t.Times = t.Times[1:] },
		"too many times": func(t *Target) { t.Times = append(slices.Clone(t.Times), 0) },
		"too few modes":  func(t *Target) { t.Modes = []uint16{0o755} },
		"a bad mode":     func(t *Target) { t.Mode = 0 },
		"no directory":   func(t *Target) { t.Mode = objects.ModeFile },
	} {
		to := filepath.Join(t.TempDir(), "to")
		target := whole
		target.Dir = to
		change(&target)
		if _, err := Restore(ctx, s.db, []Target{target}, RestoreOptions{}); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Lstat(to); err == nil {
			t.Errorf("%s: something was restored", name)
		}
	}
}

func TestTargetsInTargets(t *testing.T) {
	s := newStore(t)
	from, to := t.TempDir(), t.TempDir()
	files(t, from, map[string]string{"a": "1"})
	snap := s.take(from, SnapshotOptions{})
	one := Target{Dir: to, Name: "x", Mode: objects.ModeDir, ID: snap.Payload[0].ID}
	for name, want := range map[string]bool{"x": false, "x/y": false, "xy": true, "y": true, "x-y": true} {
		other := one
		other.Name = name
		if _, err := Restore(ctx, s.db, []Target{one, other}, RestoreOptions{}); (err == nil) != want {
			t.Errorf("x and %s: %v", name, err)
		}
	}
}
