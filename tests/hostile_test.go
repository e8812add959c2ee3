package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// A hand writes objects that no part of cache-tool would write.
type hand struct {
	t  *testing.T
	ch *repo.Change
}

// byHand commits what fn writes.
func byHand(t *testing.T, dir string, fn func(h hand)) {
	t.Helper()
	r := open(t, dir)
	ch, err := r.Change(ctx, refs.Branch("main"), odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	fn(hand{t, ch})
	if _, _, err := ch.Commit(ctx, "by hand"); err != nil {
		t.Fatal(err)
	}
}

func (h hand) put(k objects.Kind, body string) objects.ID {
	h.t.Helper()
	id, err := h.ch.Batch.PutBytes(k, []byte(body))
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

func (h hand) blob(body string) objects.ID { return h.put(objects.Blob, body) }

// A line is an entry of a tree as it stands there, whatever it is.
type line struct {
	mode, name string
	id         objects.ID
}

// tree writes a tree of lines, in the order given.
func (h hand) tree(lines ...line) objects.ID {
	h.t.Helper()
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s %s\x00%s", l.mode, l.name, l.id[:])
	}
	return h.put(objects.Tree, b.String())
}

// save writes an entry whose payload, below base, is the tree.
func (h hand) save(key string, base objects.ID, paths ...string) {
	h.t.Helper()
	m := entry.Meta{Kind: entry.Save, Key: key, Created: time.Now()}
	for _, p := range paths {
		m.Files = append(m.Files, entry.Files{Path: p})
	}
	id, err := entry.Write(h.ch.Batch, m, objects.Entries{{Mode: objects.ModeDir, Name: entry.BaseName, ID: base}}, objects.ID{})
	if err != nil {
		h.t.Fatal(err)
	}
	h.ch.Set(entry.Save, key, id)
}

const (
	file = "100644"
	link = "120000"
	dir  = "40000"
)

// What a tree may hold that was made to do harm, or by a program with a fault.
// Outside is a directory that nothing may be written to.
var hostile = []struct {
	name  string
	tree  func(h hand, outside string) objects.ID
	paths []string // of the meta; "base" if there are none
	fine  bool     // it is strange, but can be restored
}{
	{name: "dot dot", tree: func(h hand, _ string) objects.ID {
		return h.tree(line{dir, "..", h.tree(line{file, "harm", h.blob("harm")})})
	}},
	{name: "dot dot as a file", tree: func(h hand, _ string) objects.ID { return h.tree(line{file, "..", h.blob("harm")}) }},
	{name: "dot", tree: func(h hand, _ string) objects.ID { return h.tree(line{dir, ".", objects.EmptyTree}) }},
	{name: "no name", tree: func(h hand, _ string) objects.ID { return h.tree(line{file, "", h.blob("harm")}) }},
	{name: "slash", tree: func(h hand, _ string) objects.ID { return h.tree(line{file, "../harm", h.blob("harm")}) }},
	{name: "absolute", tree: func(h hand, outside string) objects.ID {
		return h.tree(line{file, outside + "/harm", h.blob("harm")})
	}},
	{name: "twice", tree: func(h hand, _ string) objects.ID {
		return h.tree(line{file, "a", h.blob("1")}, line{file, "a", h.blob("2")})
	}},
	{name: "link and directory of one name", tree: func(h hand, outside string) objects.ID {
		return h.tree(line{link, "a", h.blob(outside)}, line{dir, "a", h.tree(line{file, "harm", h.blob("harm")})})
	}},
	{name: "link and directory of one name, apart", tree: func(h hand, outside string) objects.ID {
		return h.tree(line{link, "a", h.blob(outside)}, line{file, "a.c", h.blob("")}, line{dir, "a", h.tree(line{file, "harm", h.blob("harm")})})
	}},
	{name: "out of order", tree: func(h hand, _ string) objects.ID {
		return h.tree(line{file, "b", h.blob("1")}, line{file, "a", h.blob("2")})
	}},
	{name: "submodule", tree: func(h hand, _ string) objects.ID { return h.tree(line{"160000", "a", h.blob("1")}) }},
	{name: "mode of old", tree: func(h hand, _ string) objects.ID { return h.tree(line{"100664", "a", h.blob("1")}) }},
	{name: "mode with a zero", tree: func(h hand, _ string) objects.ID { return h.tree(line{"040000", "a", objects.EmptyTree}) }},
	{name: "no mode", tree: func(h hand, _ string) objects.ID { return h.tree(line{"", "a", h.blob("1")}) }},
	{name: "cut short", tree: func(h hand, _ string) objects.ID { return h.put(objects.Tree, "100644 a\x00short") }},
	{name: "noise", tree: func(h hand, _ string) objects.ID { return h.put(objects.Tree, noise(6, 100)) }},
	{name: "a file for a directory", tree: func(h hand, _ string) objects.ID { return h.tree(line{dir, "a", h.blob("1")}) }},
	{name: "a directory for a file", tree: func(h hand, _ string) objects.ID { return h.tree(line{file, "a", objects.EmptyTree}) }},
	{name: "a commit for a file", tree: func(h hand, _ string) objects.ID {
		who := objects.Signature{Name: "a", Email: "a@a", When: time.Unix(1, 0)}
		c := objects.CommitBody{Tree: objects.EmptyTree, Author: who, Committer: who, Message: "x\n"}
		return h.tree(line{file, "a", h.put(objects.Commit, string(c.Encode()))})
	}},
	{name: "missing file", tree: func(h hand, _ string) objects.ID { return h.tree(line{file, "a", objects.ID{1, 2, 3}}) }},
	{name: "missing directory", tree: func(h hand, _ string) objects.ID { return h.tree(line{dir, "a", objects.ID{1, 2, 3}}) }},
	{name: "zero id", tree: func(h hand, _ string) objects.ID { return h.tree(line{file, "a", objects.ID{}}) }},
	{name: "target with NUL", tree: func(h hand, _ string) objects.ID { return h.tree(line{link, "a", h.blob("b\x00c")}) }},
	{name: "empty target", tree: func(h hand, _ string) objects.ID { return h.tree(line{link, "a", h.blob("")}) }},
	{name: "long target", tree: func(h hand, _ string) objects.ID { return h.tree(line{link, "a", h.blob(strings.Repeat("x", 1<<20))}) }},
	{name: "long name", tree: func(h hand, _ string) objects.ID { return h.tree(line{file, strings.Repeat("x", 300), h.blob("1")}) }},
	{name: "link that leads out", fine: true, tree: func(h hand, outside string) objects.ID { return h.tree(line{link, "a", h.blob(outside)}) }},
	{name: "the work tree's own .git", fine: true, tree: func(h hand, _ string) objects.ID { return h.tree(line{file, ".git", h.blob("x")}) }},

	{name: "path of the meta leads up", paths: []string{"base/../../a"}, tree: plain},
	{name: "path of the meta is absolute", paths: []string{"/etc"}, tree: plain},
	{name: "path of the meta is empty", paths: []string{""}, tree: plain},
	{name: "path of the meta is not there", paths: []string{"base/nosuch"}, tree: plain},
	{name: "path of the meta is of no kind", paths: []string{"elsewhere/a"}, tree: plain},
	{name: "path of the meta leads through a link", paths: []string{"base/a", "base/a/b"}, tree: func(h hand, outside string) objects.ID {
		return h.tree(line{link, "a", h.blob(outside)})
	}},
	{name: "path of the meta, escaped, leads up", paths: []string{"base/..%/a"}, tree: plain},
}

func plain(h hand, _ string) objects.ID { return h.tree(line{file, "a", h.blob("1")}) }

// TestHostileTrees restores what was made to do harm: that is an error or a
// miss, nothing is written, and nothing outside is touched.
func TestHostileTrees(t *testing.T) {
	alone(t)
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, act{})
			outside := filepath.Join(w.dir, "outside")
			write(t, filepath.Join(outside, "precious"), "precious")
			byHand(t, w.repo(), func(h hand) {
				paths := tt.paths
				if paths == nil {
					paths = []string{"base"}
				}
				h.save("hostile", tt.tree(h, outside), paths...)
			})
			shape := test.Shape(t, outside)
			to := w.work("to")
			write(t, filepath.Join(to, "mine"), "mine")
			before := test.Shape(t, w.work())

			r := run(w.repo(), "restore", "hostile", "--to", to)
			switch {
			case tt.fine && r.code != done, !tt.fine && r.code != failed && r.code != missed:
				t.Errorf("%v", r)
			case !strings.HasPrefix(r.err, "cache-tool: restore: ") && !tt.fine:
				t.Errorf("no clear word about it: %v", r)
			}
			if after := test.Shape(t, w.work()); !tt.fine && after != before {
				t.Errorf("the work tree was\n%s\nand is\n%s", before, after)
			}
			if now := test.Shape(t, outside); now != shape {
				t.Errorf("outside is now\n%s", now)
			}
			// Nothing else may stumble over it.
			for _, args := range [][]string{
				{"fsck"}, {"ls", "-R", "save/hostile"}, {"cat", "save/hostile/base/a"}, {"show"}, {"diff", "main~1", "main"}, {"log"}, {"stats"},
				{"export", "--git", w.work("git")}, {"blame", "save/hostile/base/a"}, {"restore", "hostile", "--dry-run", "--to", to},
			} {
				if r := run(w.repo(), args...); r.code != done && r.code != failed && r.code != missed {
					t.Errorf("%v", r)
				}
			}
			if r := run(w.repo(), "fsck"); !tt.fine && tt.paths == nil && r.code == done && !sane(tt.name) {
				t.Errorf("%v", r)
			}
			// Nothing else is lost.
			must(t, w.repo(), "get", "one")
			must(t, w.repo(), "restore", "tree", "--to", to)
			must(t, w.repo(), "revert", "HEAD")
			if r := run(w.repo(), "restore", "hostile", "--to", to); r.code != missed {
				t.Errorf("reverted, but %v", r)
			}
		})
	}
}

// sane reports whether a tree is one that Git would take, too, though no file
// system or no memory does.
func sane(name string) bool {
	switch name {
	case "long name", "long target", "empty target", "target with NUL":
		return true
	}
	return false
}

// TestPathThroughLink restores an entry with a link that leads out of it, and
// then one with a directory in its place: what is in that does not go where the
// link leads.
func TestPathThroughLink(t *testing.T) {
	alone(t)
	w := newWorld(t, act{})
	outside := filepath.Join(w.dir, "outside")
	write(t, filepath.Join(outside, "precious"), "precious")
	shape := test.Shape(t, outside)
	byHand(t, w.repo(), func(h hand) {
		h.save("link", h.tree(line{link, "a", h.blob(outside)}), "base")
		h.save("part of a link", h.tree(line{link, "a", h.blob(outside)}), "base/a")
		h.save("directory", h.tree(line{dir, "a", h.tree(line{file, "harm", h.blob("harm")})}), "base")
		h.save("file", h.tree(line{dir, "a", h.tree(line{file, "harm", h.blob("harm")})}), "base/a/harm")
	})
	to := w.work("to")
	for _, first := range []string{"link", "part of a link"} {
		for _, second := range []string{"directory", "file"} {
			for _, more := range [][]string{nil, {"--delete"}} {
				if err := os.RemoveAll(to); err != nil {
					t.Fatal(err)
				}
				must(t, w.repo(), "restore", first, "--to", to)
				r := run(w.repo(), append([]string{"restore", second, "--to", to}, more...)...)
				if now := test.Shape(t, outside); now != shape {
					t.Fatalf("%v\nand outside is now\n%s", r, now)
				}
				switch {
				case r.code == done && read(t, filepath.Join(to, "a", "harm")) != "harm":
					t.Errorf("%v", r)
				case r.code == done:
					if fi, err := os.Lstat(filepath.Join(to, "a")); err != nil || !fi.IsDir() {
						t.Errorf("%v, but a is %v", r, fi.Mode())
					}
				case r.code != failed:
					t.Errorf("%v", r)
				}
			}
		}
	}
}

// TestVeryDeep restores directories deeper than a path can say, and than files
// can be open at a time.
func TestVeryDeep(t *testing.T) {
	alone(t)
	for _, tt := range []struct {
		name  string
		depth int
	}{{strings.Repeat("long", 50), 25}, {"d", 1100}} {
		w := newWorld(t, act{})
		byHand(t, w.repo(), func(h hand) {
			id := h.tree(line{file, "a", h.blob("1")})
			for range tt.depth {
				id = h.tree(line{dir, tt.name, id})
			}
			h.save("deep", id, "base")
		})
		to := w.work("to")
		for _, args := range [][]string{
			{"restore", "deep", "--to", to}, {"restore", "deep", "--to", to, "--delete"}, {"save", "again", to}, {"ls", "-R", "save/deep"},
			{"stats"}, {"fsck"}, {"diff", "main~1", "main"}, {"export", "--git", w.work("git")}, {"rm", "deep"},
		} {
			if r := run(w.repo(), args...); r.code != done && (r.code != failed || !strings.HasPrefix(r.err, "cache-tool: "+args[0]+": ")) {
				t.Errorf("%v", r)
			}
		}
		if err := os.RemoveAll(to); err != nil {
			t.Error(err)
		}
	}
}

// TestHostileValues gets what is no value, and takes results that are none.
func TestHostileValues(t *testing.T) {
	alone(t)
	w := newWorld(t, act{})
	set := func(h hand, kind entry.Kind, key string, payload objects.Entries, id objects.ID) {
		if id.IsZero() {
			var err error
			id, err = entry.Write(h.ch.Batch, entry.Meta{Kind: kind, Key: key}, payload, objects.ID{})
			if err != nil {
				t.Fatal(err)
			}
		}
		h.ch.Set(kind, key, id)
	}
	byHand(t, w.repo(), func(h hand) {
		body := func(mode objects.Mode, id objects.ID) objects.Entries {
			return objects.Entries{{Mode: mode, Name: entry.BodyName, ID: id}}
		}
		set(h, entry.Put, "a tree", body(objects.ModeDir, objects.EmptyTree), objects.ID{})
		set(h, entry.Put, "a tree as a file", body(objects.ModeFile, objects.EmptyTree), objects.ID{})
		set(h, entry.Put, "missing", body(objects.ModeFile, objects.ID{1}), objects.ID{})
		set(h, entry.Put, "nothing", nil, objects.ID{})
		set(h, entry.Put, "a blob", nil, h.blob("x"))
		set(h, entry.Put, "no meta", nil, h.tree(line{file, "body", h.blob("x")}))
		set(h, entry.Put, "bad meta", nil, h.tree(line{file, "body", h.blob("x")}, line{file, "meta", h.blob("cache-tool entry\n")}))
		set(h, entry.Put, "newer", nil, h.tree(line{file, "body", h.blob("x")}, line{file, "meta", h.blob("cache-tool entry 2\n\n")}))
		set(h, entry.Put, "endless meta", nil, h.tree(line{file, "body", h.blob("x")},
			line{file, "meta", h.blob("cache-tool entry 1\nkind put\nfiles 9223372036854775807 9223372036854775807 9223372036854775807 base\n\n")}))
	})
	for _, key := range []string{"a tree", "a tree as a file", "missing", "nothing", "a blob", "no meta", "bad meta", "newer", "endless meta"} {
		name := w.work("value")
		for _, args := range [][]string{{"get", key}, {"get", key, name}, {"--json", "get", key}} {
			r := run(w.repo(), args...)
			if r.code != failed && r.code != missed || r.out != "" && args[0] != "--json" {
				t.Errorf("%v", r)
			}
			if _, err := os.Lstat(name); err == nil {
				t.Errorf("%v, but it left a file", r)
			}
		}
		if r := run(w.repo(), "get", key); key == "newer" && !strings.Contains(r.err, "newer") {
			t.Errorf("%v", r)
		}
		// It can be replaced.
		must(t, w.repo(), "put", key, "a")
		if r := must(t, w.repo(), "get", key); r.out != "a\n" {
			t.Errorf("%v", r)
		}
	}

	// A result of a run that is not one: the command runs, as if there were none.
	args := []string{"run", "--out", "made", "--", "sh", "-c", "echo made >made; echo said"}
	must(t, w.repo(), args...)
	must(t, w.repo(), "commit")
	r := open(t, w.repo())
	_, root, err := r.Tip(ctx, refs.Branch("main"))
	if err != nil {
		t.Fatal(err)
	}
	var key string
	for found, err := range r.EntriesAt(ctx, root, entry.Run) {
		if err != nil {
			t.Fatal(err)
		}
		key = found.Key
	}
	meta := entry.Meta{Kind: entry.Run, Files: []entry.Files{{Path: "out/base/made"}}}
	for name, result := range map[string]func(h hand) objects.Entries{
		"nothing": func(h hand) objects.Entries { return nil },
		"an exit of ": func(h hand) objects.Entries {
			return objects.Entries{{Mode: objects.ModeFile, Name: "exit", ID: h.blob("-7\n")}}
		},
		"an output that leads up": func(h hand) objects.Entries {
			out := h.tree(line{dir, "base", h.tree(line{dir, "..", h.tree(line{file, "made", h.blob("harm")})})})
			return objects.Entries{
				{Mode: objects.ModeFile, Name: "exit", ID: h.blob("0\n")},
				{Mode: objects.ModeDir, Name: "out", ID: out},
				{Mode: objects.ModeFile, Name: "stdout", ID: h.blob("harm")},
				{Mode: objects.ModeFile, Name: "stderr", ID: h.blob("")},
				{Mode: objects.ModeFile, Name: "order", ID: h.blob("noise")},
			}
		},
		"directories for files": func(h hand) objects.Entries {
			var all objects.Entries
			for _, name := range []string{"exit", "order", "stderr", "stdout"} {
				all = append(all, objects.Entry{Mode: objects.ModeDir, Name: name, ID: objects.EmptyTree})
			}
			return all
		},
	} {
		byHand(t, w.repo(), func(h hand) {
			id, err := entry.Write(h.ch.Batch, meta, result(h), objects.ID{})
			if err != nil {
				t.Fatal(err)
			}
			h.ch.Set(entry.Run, key, id)
		})
		if err := os.Remove(w.work("made")); err != nil {
			t.Fatal(err)
		}
		if r := run(w.repo(), args...); r.code != done || r.out != "said\n" || read(t, w.work("made")) != "made\n" {
			t.Errorf("%s: the command made %q; %v", name, read(t, w.work("made")), r)
		}
		must(t, w.repo(), "commit")
	}
}

// TestNamesThatFold restores names that a file system takes for one.
func TestNamesThatFold(t *testing.T) {
	alone(t)
	folding := foldingDir(t)
	w := newWorld(t, act{})
	for _, name := range []string{"README", "Readme", "dir/a", "DIR/b"} {
		write(t, w.work("names", name), name)
	}
	must(t, w.repo(), "save", "names", "names")
	to := filepath.Join(folding, "to")
	r := run(w.repo(), "restore", "names", "--to", to)
	if r.code != failed || !strings.Contains(r.err, "are the same name on this file system") {
		t.Errorf("%v", r)
	}
	if _, err := os.Lstat(to); err == nil {
		t.Errorf("it left\n%s", test.Shape(t, to))
	}
}

// foldingDir returns a directory in which "a" and "A" are one name. Linux has
// such only in file systems that are made so: the test mounts one.
func foldingDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(t.TempDir(), "image")
	mount := filepath.Join(t.TempDir(), "mount")
	if os.WriteFile(filepath.Join(dir, "a"), nil, 0o666) == nil && exists(filepath.Join(dir, "A")) {
		return dir
	}
	if os.Geteuid() != 0 {
		t.Skip("no file system here folds case, and only root can mount one")
	}
	write(t, image, "")
	if err := os.Truncate(image, 16<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(mount, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, way := range [][]string{
		{"mount", "-t", "tmpfs", "-o", "casefold", "tmpfs", mount},
		{"sh", "-c", `mkfs.ext4 -q -O casefold "$0" && mount -o loop "$0" "$1"`, image, mount},
		{"sh", "-c", `mkfs.vfat "$0" && mount -o loop "$0" "$1"`, image, mount},
		{"sh", "-c", `mkfs.ntfs -q -F "$0" && lowntfs-3g -o ignore_case "$0" "$1"`, image, mount},
	} {
		if exec.Command(way[0], way[1:]...).Run() != nil {
			continue
		}
		t.Cleanup(func() { exec.Command("umount", "-l", mount).Run() })
		folding := filepath.Join(mount, "folding")
		if os.Mkdir(folding, 0o777) != nil {
			continue
		}
		exec.Command("chattr", "+F", folding).Run()
		if os.WriteFile(filepath.Join(folding, "a"), nil, 0o666) == nil && exists(filepath.Join(folding, "A")) {
			return folding
		}
	}
	t.Skip("no file system here folds case, and none can be mounted that does")
	return ""
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
