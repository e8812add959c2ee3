package dune

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A made is a file that a rule of the tests makes; a directory if it is "/".
type made struct {
	content    string
	executable bool
}

var directory = made{content: "/"}

// A dune writes into a cache as Dune does.
type duneOf struct {
	t       *testing.T
	root    string
	version int // of metadata
	hash    hashing
	perm    os.FileMode // of metadata
}

var layouts = map[string]duneOf{
	"2.9":  {version: 4, hash: byMD5, perm: 0o644},
	"3.17": {version: 5, hash: byMD5, perm: 0o600},
	"3.22": {version: 5, hash: byBlake3, perm: 0o600},
}

// at returns the Dune that has its cache in root.
func (d duneOf) at(t *testing.T, root string) duneOf {
	d.t, d.root = t, root
	return d
}

// run makes the entry of a rule.
func (d duneOf) run(name string, files map[string]made) Key {
	d.t.Helper()
	var m Metadata
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		if f == directory {
			m.Targets = append(m.Targets, Target{Path: path, IsDir: true})
			continue
		}
		perm := os.FileMode(0o444)
		if f.executable {
			perm = 0o555
		}
		digest := d.digest(f)
		m.Targets = append(m.Targets, Target{Path: path, Digest: digest})
		if place := d.file(digest); !exists(place) {
			write(d.t, place, f.content, perm)
		}
	}
	key := Key{d.version, d.digest(made{content: "rule " + name})}
	write(d.t, cacheAt(d.root).metadataPlace(key), string(m.Encode()), d.perm)
	return key
}

func (d duneOf) digest(f made) Digest {
	n := d.hash.namer()
	n.Write([]byte(f.content))
	return n.name(f.executable)
}

func (d duneOf) file(digest Digest) string { return place(filepath.Join(d.root, filesDir), digest) }

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// get returns what the rule made, as Dune restores it: nothing if it is a miss.
func (d duneOf) get(key Key) map[string]made {
	d.t.Helper()
	body, err := os.ReadFile(cacheAt(d.root).metadataPlace(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		d.t.Fatal(err)
	}
	m, err := ParseMetadata(body)
	if err != nil {
		return nil
	}
	files := map[string]made{}
	for _, target := range m.Targets {
		if target.IsDir {
			files[target.Path] = directory
			continue
		}
		content, err := os.ReadFile(d.file(target.Digest))
		if err != nil {
			return nil
		}
		fi, err := os.Stat(d.file(target.Digest))
		if err != nil {
			d.t.Fatal(err)
		}
		files[target.Path] = made{string(content), fi.Mode()&0o111 != 0}
	}
	return files
}

// A shelf is a store with the entries of one branch.
type shelf struct {
	dir     string
	db      *odb.DB
	entries map[Key]objects.ID
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	dir := test.Dir(t)
	db, err := odb.Open(dir, odb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &shelf{dir, db, map[Key]objects.ID{}}
}

func (s *shelf) found() []Found {
	var found []Found
	for key, id := range s.entries {
		found = append(found, Found{key, id})
	}
	return found
}

// push collects what is in the cache and not on the shelf.
func (s *shelf) push(t testing.TB, c *Cache) (Report, []string) {
	t.Helper()
	keys, err := c.Keys()
	if err != nil {
		t.Fatal(err)
	}
	var fresh []Key
	for key := range keys {
		if s.entries[key].IsZero() {
			fresh = append(fresh, key)
		}
	}
	b, err := s.db.NewBatch(context.Background(), odb.BatchOptions{BlockSize: odb.BigBlock})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var warnings []string
	found, report, err := c.Collect(context.Background(), b, fresh, entry.Meta{Created: time.Unix(1e9, 0)}, Options{
		Warn: func(err error) { warnings = append(warnings, err.Error()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(context.Background(), odb.Staged); err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		s.entries[f.Key] = f.ID
	}
	return report, warnings
}

func (s *shelf) pull(t testing.TB, c *Cache) (Report, []string) {
	t.Helper()
	var warnings []string
	report, err := c.Deliver(context.Background(), s.db, s.found(), Options{
		Warn: func(err error) { warnings = append(warnings, err.Error()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return report, warnings
}

// What the rules of the tests make.
var (
	compile = map[string]made{"default/a.o": {content: "object"}, "default/a.cmi": {content: "interface"}}
	link    = map[string]made{"default/main.exe": {content: strings.Repeat("program", 1000), executable: true}, "default/copy.exe": {content: strings.Repeat("program", 1000), executable: true}}
	alias   = map[string]made{}
	many    = manyTargets() // metadata that does not fit into one record
	dirs    = map[string]made{"out": directory, "out/empty": directory, "out/file": {content: "in a directory"}}
	same    = map[string]made{"default/b.o": {content: "object"}, "default/nothing": {}}
)

func manyTargets() map[string]made {
	many := map[string]made{}
	for i := range 10_000 {
		many[fmt.Sprintf("default/a/path/that/is/rather/long/target-%05d", i)] = made{content: fmt.Sprint(i % 10)}
	}
	return many
}

func big() map[string]made {
	return map[string]made{"big.exe": {noise(3 << 20), true}, "big.a": {noise(3 << 20)[1:], false}}
}

// noise returns bytes that cannot be compressed.
func noise(size int) string {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

func TestCarry(t *testing.T) {
	rules := map[string]map[string]made{"compile": compile, "link": link, "alias": alias, "dirs": dirs, "same": same, "big": big(), "many": many}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			a, b := layout.at(t, t.TempDir()), layout.at(t, t.TempDir())
			keys := map[string]Key{}
			for rule, files := range rules {
				keys[rule] = a.run(rule, files)
			}
			write(t, filepath.Join(a.root, "temp", "dune1234write"), "half", 0o600)
			write(t, filepath.Join(a.root, "promoting.1"), "half", 0o600)

			s := newShelf(t)
			report, warnings := s.push(t, cacheAt(a.root))
			if report.Entries != len(rules) || report.Files != 17 || report.Skipped != 0 || len(warnings) > 0 {
				t.Errorf("collected %+v, %q", report, warnings)
			}
			if again, _ := s.push(t, cacheAt(a.root)); again != (Report{}) {
				t.Errorf("collected once more: %+v", again)
			}
			got, warnings := s.pull(t, cacheAt(b.root))
			if got != report || len(warnings) > 0 {
				t.Errorf("delivered %+v, %q; want %+v", got, warnings, report)
			}
			for rule, files := range rules {
				if got := b.get(keys[rule]); !maps.Equal(got, files) {
					t.Errorf("%s makes %.200v, want %.200v", rule, got, files)
				}
			}
			checkCache(t, b)
			if again, _ := s.pull(t, cacheAt(b.root)); again != (Report{}) {
				t.Errorf("delivered once more: %+v", again)
			}
		})
	}
}

// checkCache looks at all that Dune could find in the cache: it must be what it is
// called, and may be executed only if that is part of its name.
func checkCache(t *testing.T, d duneOf) {
	t.Helper()
	filepath.WalkDir(d.root, func(name string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(d.root, name)
		if _, ok := parseDigest(e.Name()); err != nil || !ok { // nothing that Dune looks at
			return err
		}
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(rel, metadataDir) {
			if _, err := ParseMetadata(content); err != nil {
				t.Errorf("%s: %v", rel, err)
			}
			return nil
		}
		executable := fi.Mode() == 0o555
		if !executable && fi.Mode() != 0o444 {
			t.Errorf("%s has mode %v", rel, fi.Mode())
		}
		if got := d.digest(made{string(content), executable}).String(); got != filepath.Base(name) {
			t.Errorf("%s should be called %s", rel, got)
		}
		return nil
	})
}

// Two versions of Dune share files/v4, and three ways of naming.
func TestCarryAllVersions(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	keys := map[string]Key{}
	for name, layout := range layouts {
		keys[name] = layout.at(t, a).run(name, map[string]made{"x": {content: "of " + name}, "y": {content: "of all", executable: true}})
	}
	s := newShelf(t)
	s.push(t, cacheAt(a))
	if report, _ := s.pull(t, cacheAt(b)); report.Entries != 3 || report.Files != 5 {
		t.Errorf("delivered %+v", report)
	}
	for name, layout := range layouts {
		if got := layout.at(t, b).get(keys[name])["x"].content; got != "of "+name {
			t.Errorf("Dune %s gets %q", name, got)
		}
	}
	// In places of their own as well.
	split := &Cache{roots: map[int]string{4: t.TempDir(), 5: t.TempDir()}}
	s.pull(t, split)
	for name, layout := range layouts {
		if got := layout.at(t, split.roots[layout.version]).get(keys[name])["y"]; got != (made{"of all", true}) {
			t.Errorf("Dune %s gets %v", name, got)
		}
	}
	// Without a place for it a version is left where it is.
	only5 := &Cache{roots: map[int]string{5: t.TempDir()}}
	if report, warnings := s.pull(t, only5); report.Entries != 2 || len(warnings) > 0 {
		t.Errorf("delivered %+v, %q", report, warnings)
	}
}

// A transport that lost the executable bit, and a Dune that wrote the repository
// into its metadata.
func TestCollectMends(t *testing.T) {
	a, b := layouts["2.9"].at(t, t.TempDir()), layouts["2.9"].at(t, t.TempDir())
	key := a.run("link", link)
	program := a.file(a.digest(link["default/main.exe"]))
	if err := os.Chmod(program, 0o644); err != nil {
		t.Fatal(err)
	}
	place := cacheAt(a.root).metadataPlace(key)
	body, _ := os.ReadFile(place)
	write(t, place, strings.Replace(string(body), "(8:metadata)", sexpOf("metadata", sexpOf("repo", "git@example.invalid:secret")), 1), 0o644)

	s := newShelf(t)
	if report, warnings := s.push(t, cacheAt(a.root)); report.Entries != 1 || len(warnings) > 0 {
		t.Errorf("collected %+v, %q", report, warnings)
	}
	s.pull(t, cacheAt(b.root))
	if got := b.get(key); !maps.Equal(got, link) {
		t.Errorf("got %v", got)
	}
	checkCache(t, b)
	body, err := os.ReadFile(cacheAt(b.root).metadataPlace(key))
	if err != nil || bytes.Contains(body, []byte("secret")) {
		t.Errorf("the repository was carried along: %q, %v", body, err)
	}
}

func TestCollectLeavesOut(t *testing.T) {
	for name, layout := range layouts {
		for _, tt := range []struct {
			what, warning string
			spoil         func(d duneOf, key Key, file string)
		}{
			{"a file that was trimmed", "1 without all of their files", func(_ duneOf, _ Key, file string) { os.Remove(file) }},
			{"other content", errWrongName.Error(), func(_ duneOf, _ Key, file string) { write(t, file, "garbage", 0o444) }},
			{"a file that was cut", errWrongName.Error(), func(_ duneOf, _ Key, file string) { write(t, file, "obj", 0o444) }},
			{"an empty file", errWrongName.Error(), func(_ duneOf, _ Key, file string) { write(t, file, "", 0o444) }},
			{"a symbolic link", "no regular file", func(_ duneOf, _ Key, file string) {
				os.Rename(file, file+"x")
				os.Symlink(file+"x", file)
			}},
			{"a directory", "no regular file", func(_ duneOf, _ Key, file string) {
				os.Remove(file)
				os.Mkdir(file, 0o777)
			}},
			{"metadata that was cut", "cut short", func(d duneOf, key Key, _ string) {
				place := cacheAt(d.root).metadataPlace(key)
				body, _ := os.ReadFile(place)
				write(t, place, string(body[:60]), 0o644)
			}},
			{"a path that leads out", `path "../../evil"`, func(d duneOf, key Key, _ string) {
				write(t, cacheAt(d.root).metadataPlace(key), metadataOf("../../evil", emptyName), 0o644)
			}},
			{"metadata that is a link", "too many levels of symbolic links", func(d duneOf, key Key, _ string) {
				place := cacheAt(d.root).metadataPlace(key)
				os.Rename(place, place+"x")
				os.Symlink(place+"x", place)
			}},
		} {
			t.Run(name+", "+tt.what, func(t *testing.T) {
				d := layout.at(t, t.TempDir())
				key := d.run("compile", compile)
				good := d.run("link", link)
				tt.spoil(d, key, d.file(d.digest(compile["default/a.o"])))
				s := newShelf(t)
				report, warnings := s.push(t, cacheAt(d.root))
				if report.Entries != 1 || report.Skipped != 1 || s.entries[good].IsZero() || !s.entries[key].IsZero() {
					t.Errorf("collected %+v", report)
				}
				if len(warnings) != 1 || !strings.Contains(warnings[0], tt.warning) {
					t.Errorf("warnings %q, want %q", warnings, tt.warning)
				}
			})
		}
	}
}

func TestCollectSaysNotEverything(t *testing.T) {
	d := layouts["3.22"].at(t, t.TempDir())
	for i := range 20 {
		d.run(fmt.Sprint(i), map[string]made{"x": {content: fmt.Sprint(i)}})
		write(t, d.file(d.digest(made{content: fmt.Sprint(i)})), "garbage", 0o444)
	}
	report, warnings := newShelf(t).push(t, cacheAt(d.root))
	if report.Skipped != 20 || len(warnings) != 6 || warnings[5] != "and 15 more" {
		t.Errorf("collected %+v, %q", report, warnings)
	}
}

// The first writer wins, whatever an entry says.
func TestDeliverReplacesNothing(t *testing.T) {
	a, b := layouts["2.9"].at(t, t.TempDir()), layouts["2.9"].at(t, t.TempDir())
	key := a.run("rule", map[string]made{"x": {content: "made in /a"}, "y": {content: "equal"}})
	mine := map[string]made{"x": {content: "made in /b"}, "y": {content: "equal"}}
	b.run("rule", mine)
	before, err := os.Stat(b.file(b.digest(made{content: "equal"})))
	if err != nil {
		t.Fatal(err)
	}
	s := newShelf(t)
	s.push(t, cacheAt(a.root))
	if report, warnings := s.pull(t, cacheAt(b.root)); report.Entries != 0 || len(warnings) > 0 {
		t.Errorf("delivered %+v, %q", report, warnings)
	}
	if got := b.get(key); !maps.Equal(got, mine) {
		t.Errorf("got %v", got)
	}
	if after, err := os.Stat(b.file(b.digest(made{content: "equal"}))); err != nil || !os.SameFile(before, after) {
		t.Errorf("a file that was there is another one now: %v", err)
	}
	// And nobody's are taken away because somebody has not got them.
	if report, _ := s.push(t, cacheAt(t.TempDir())); report.Entries != 0 || len(s.entries) != 1 {
		t.Errorf("after a push of nothing: %+v, %d entries", report, len(s.entries))
	}
}

// What Dune trimmed comes back with the next delivery: a file, or the metadata.
func TestDeliverMends(t *testing.T) {
	d := layouts["3.22"].at(t, t.TempDir())
	key := d.run("compile", compile)
	s := newShelf(t)
	s.push(t, cacheAt(d.root))
	os.Remove(cacheAt(d.root).metadataPlace(key))
	if report, _ := s.pull(t, cacheAt(d.root)); report.Entries != 1 || report.Files != 0 {
		t.Errorf("delivered %+v", report)
	}
	os.Remove(cacheAt(d.root).metadataPlace(key))
	os.Remove(d.file(d.digest(compile["default/a.o"])))
	if report, _ := s.pull(t, cacheAt(d.root)); report.Entries != 1 || report.Files != 1 {
		t.Errorf("delivered %+v", report)
	}
	if got := d.get(key); !maps.Equal(got, compile) {
		t.Errorf("got %v", got)
	}
}

// hostile puts an entry on the shelf that Collect would not make.
func (s *shelf) hostile(t *testing.T, key Key, meta entry.Meta, payload func(put func(string) objects.ID) objects.Entries) {
	t.Helper()
	b, err := s.db.NewBatch(context.Background(), odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	put := func(body string) objects.ID {
		id, err := b.PutBytes(objects.Blob, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	id, err := entry.Write(b, meta, payload(put), objects.ID{})
	if err == nil {
		err = b.Commit(context.Background(), odb.Staged)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.entries[key] = id
}

func TestDeliverLeavesOut(t *testing.T) {
	d := layouts["2.9"].at(t, t.TempDir())
	object := d.digest(made{content: "object"})
	program := d.digest(made{"program", true})
	body := func(put func(string) objects.ID, text string) objects.Entry {
		return objects.Entry{Mode: objects.ModeFile, Name: entry.BodyName, ID: put(text)}
	}
	file := func(put func(string) objects.ID, mode objects.Mode, d Digest, content string) objects.Entry {
		return objects.Entry{Mode: mode, Name: d.String(), ID: put(content)}
	}
	byMD5 := map[string]string{extraHash: "md5"}
	for _, tt := range []struct {
		what, warning string
		extra         map[string]string
		payload       func(put func(string) objects.ID) objects.Entries
	}{
		{"a path that leads out", `path "../../evil"`, byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, metadataOf("../../evil", object.String())), file(put, objects.ModeFile, object, "object")}
		}},
		{"an absolute path", `path "/etc/passwd"`, byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, metadataOf("/etc/passwd", object.String())), file(put, objects.ModeFile, object, "object")}
		}},
		{"content that is not what its name says", errWrongName.Error(), byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, metadataOf("a", object.String())), file(put, objects.ModeFile, object, "evil")}
		}},
		{"a program without its bit", errWrongName.Error(), byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, metadataOf("a", program.String())), file(put, objects.ModeFile, program, "program")}
		}},
		{"another way of naming", errWrongName.Error(), map[string]string{extraHash: "blake3"}, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, metadataOf("a", object.String())), file(put, objects.ModeFile, object, "object")}
		}},
		{"an unknown way of naming", `names by "sha1"`, map[string]string{extraHash: "sha1"}, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, metadataOf("a", object.String())), file(put, objects.ModeFile, object, "object")}
		}},
		{"a link for a file", "it has no file", byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, metadataOf("a", object.String())), file(put, objects.ModeSymlink, object, "object")}
		}},
		{"a file too few", "it has no file", byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, metadataOf("a", object.String()))}
		}},
		{"no metadata", `it has no file "body"`, byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{file(put, objects.ModeFile, object, "object")}
		}},
		{"metadata that was cut", "want \"(5:files\"", byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, "((8:metadata)")}
		}},
		{"metadata of many bytes", "bytes", byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, strings.Repeat("((8:metadata)", maxMetadata/10))}
		}},
		{"a directory for metadata", `it has no file "body"`, byMD5, func(func(string) objects.ID) objects.Entries {
			return objects.Entries{{Mode: objects.ModeDir, Name: entry.BodyName, ID: objects.EmptyTree}}
		}},
		{"an object that is missing", objects.ErrNotFound.Error(), byMD5, func(put func(string) objects.ID) objects.Entries {
			return objects.Entries{body(put, metadataOf("a", object.String())), {Mode: objects.ModeFile, Name: object.String(), ID: objects.Sum(objects.Blob, []byte("nowhere"))}}
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			d := layouts["2.9"].at(t, t.TempDir())
			s := newShelf(t)
			a := layouts["2.9"].at(t, t.TempDir())
			good := a.run("compile", map[string]made{"b.o": {content: "object"}})
			s.push(t, cacheAt(a.root))
			bad := Key{4, d.digest(made{content: "rule"})}
			s.hostile(t, bad, entry.Meta{Kind: Kind, Extra: tt.extra}, tt.payload)
			report, warnings := s.pull(t, cacheAt(d.root))
			if report.Entries != 1 || report.Skipped != 1 {
				t.Errorf("delivered %+v", report)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], tt.warning) {
				t.Errorf("warnings %q, want %q", warnings, tt.warning)
			}
			if exists(cacheAt(d.root).metadataPlace(bad)) {
				t.Error("it was delivered")
			}
			if got := d.get(good)["b.o"].content; got != "object" {
				t.Errorf("the good entry makes %q", got)
			}
			checkCache(t, d)
		})
	}
}

func TestDeliverLeavesOutNewerEntries(t *testing.T) {
	a, b := layouts["2.9"].at(t, t.TempDir()), layouts["2.9"].at(t, t.TempDir())
	key := a.run("compile", compile)
	s := newShelf(t)
	s.push(t, cacheAt(a.root))
	tree, err := objects.ReadTree(context.Background(), s.db, s.entries[key])
	if err != nil {
		t.Fatal(err)
	}
	batch, err := s.db.NewBatch(context.Background(), odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	for i := range tree {
		if tree[i].Name == entry.MetaName {
			tree[i].ID, _ = batch.PutBytes(objects.Blob, []byte("cache-tool entry 2\n\n"))
		}
	}
	if s.entries[key], err = batch.PutTree(tree.Encode(), objects.ID{}); err == nil {
		err = batch.Commit(context.Background(), odb.Staged)
	}
	if err != nil {
		t.Fatal(err)
	}
	report, warnings := s.pull(t, cacheAt(b.root))
	if report.Entries != 0 || report.Files != 0 || len(warnings) != 1 || !strings.Contains(warnings[0], entry.ErrNewer.Error()) {
		t.Errorf("delivered %+v, %q", report, warnings)
	}
}

// Whatever is damaged in the store is a miss to Dune, and is collected again.
func TestDamageIsAMiss(t *testing.T) {
	a, b := layouts["3.17"].at(t, t.TempDir()), layouts["3.17"].at(t, t.TempDir())
	small, large := a.run("compile", compile), a.run("big", big())
	s := newShelf(t)
	s.push(t, cacheAt(a.root))
	packs, _ := filepath.Glob(filepath.Join(s.dir, "*.pack"))
	for _, pack := range packs {
		if fi, err := os.Stat(pack); err == nil && fi.Size() > 1<<20 {
			test.FlipBit(t, pack, 8*(fi.Size()/2))
		}
	}
	if report, warnings := s.pull(t, cacheAt(b.root)); report.Skipped == 0 || len(warnings) == 0 {
		t.Errorf("delivered %+v, %q", report, warnings)
	}
	checkCache(t, b)
	if got := b.get(large); got != nil {
		t.Errorf("got %.100v", got)
	}
	for _, tt := range []struct {
		lost time.Time
		want int
	}{{s.db.LastLoss(), 2}, {time.Unix(1, 0), 0}} {
		doubtful, err := Doubtful(context.Background(), s.db, s.found(), tt.lost)
		if err != nil || len(doubtful) != tt.want {
			t.Errorf("lost at %v: Doubtful = %v, %v", tt.lost, doubtful, err)
		}
	}
	clear(s.entries)
	s.push(t, cacheAt(a.root))
	s.pull(t, cacheAt(b.root))
	if !maps.Equal(b.get(large), big()) || !maps.Equal(b.get(small), compile) {
		t.Error("after the second push it is still not there")
	}
	missing := append(s.found(), Found{small, objects.EmptyTree})
	if doubtful, err := Doubtful(context.Background(), s.db, missing, time.Unix(1, 0)); err != nil || len(doubtful) != 1 {
		t.Errorf("Doubtful = %v, %v", doubtful, err)
	}
}

// Wherever a delivery is interrupted, Dune finds nothing that is not whole, and the
// next delivery brings the rest.
func TestDeliverIsNeverHalf(t *testing.T) { neverHalf(t, 0).EveryStep(t) }

func TestDeliverSurvivesKill(t *testing.T) { neverHalf(t, test.Count(t, 300)).Kill(t) }

func neverHalf(t *testing.T, most int) test.Case {
	a := layouts["2.9"].at(t, t.TempDir())
	rules := map[Key]map[string]made{}
	for name, files := range map[string]map[string]made{
		"compile": compile, "alias": alias,
		"big": {"big.exe": {noise(600 << 10), true}, "small.sh": {"#!/bin/sh\n", true}},
	} {
		rules[a.run(name, files)] = files
	}
	s := newShelf(t)
	s.push(t, cacheAt(a.root))
	deliver := func(dir string) error {
		_, err := cacheAt(dir).Deliver(context.Background(), s.db, s.found(), Options{Parallel: 2})
		return err
	}
	return test.Case{Act: deliver, Max: most, Check: func(t *testing.T, dir string, err error) {
		d := layouts["2.9"].at(t, dir)
		for key, files := range rules {
			if got := d.get(key); !maps.Equal(got, files) && (err == nil || exists(cacheAt(dir).metadataPlace(key))) {
				t.Errorf("%s makes %.100v", key, got)
			}
		}
		checkCache(t, d)
		if err := deliver(dir); err != nil {
			t.Errorf("delivered again: %v", err)
		}
		for key, files := range rules {
			if got := d.get(key); !maps.Equal(got, files) {
				t.Errorf("after another delivery %s makes %.100v", key, got)
			}
		}
		checkCache(t, d)
	}}
}
