package known

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
)

func idOf(text string) objects.ID { return objects.Sum(objects.Blob, []byte(text)) }

// filled returns a table with a place, one where nothing is, and an entry.
func filled(name string) *Table {
	t := Open(name)
	t.NoteFound(idOf("root"), "go/ab/cd/key", idOf("entry"))
	t.NoteFound(idOf("root"), "go/ab/cd/none", objects.ID{})
	t.NoteEntry(idOf("entry"), Entry{Meta: "meta", Body: idOf("body"), Size: 1 << 40})
	return t
}

func TestTable(t *testing.T) {
	name := filepath.Join(t.TempDir(), "known")
	if err := filled(name).Save(); err != nil {
		t.Fatal(err)
	}
	again := Open(name)
	for _, tt := range []struct {
		root, path string
		want       objects.ID
		known      bool
	}{
		{"root", "go/ab/cd/key", idOf("entry"), true},
		{"root", "go/ab/cd/none", objects.ID{}, true},
		{"root", "go/ab/cd/other", objects.ID{}, false},
		{"other root", "go/ab/cd/key", objects.ID{}, false},
	} {
		if id, ok := again.Find(idOf(tt.root), tt.path); id != tt.want || ok != tt.known {
			t.Errorf("%s below %s: %v, %t, want %v, %t", tt.path, tt.root, id, ok, tt.want, tt.known)
		}
	}
	if e, ok := again.Entry(idOf("entry")); !ok || e != (Entry{"meta", idOf("body"), 1 << 40}) {
		t.Errorf("the entry: %+v, %t", e, ok)
	}
	if _, ok := again.Entry(idOf("other")); ok {
		t.Error("an entry that nobody noted is known")
	}
}

// Without news nothing is written, and with some what lies below a root that is no
// longer asked for goes.
func TestSave(t *testing.T) {
	name := filepath.Join(t.TempDir(), "known")
	if err := filled(name).Save(); err != nil {
		t.Fatal(err)
	}
	os.Remove(name + ".before")
	if err := os.Link(name, name+".before"); err != nil {
		t.Fatal(err)
	}
	read := Open(name)
	read.Find(idOf("root"), "go/ab/cd/key")
	if err := read.Save(); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(name + ".before")
	if after, _ := os.Stat(name); !os.SameFile(before, after) {
		t.Error("written without news")
	}
	moved := Open(name)
	moved.NoteFound(idOf("next root"), "go/ab/cd/key", idOf("entry"))
	if err := moved.Save(); err != nil {
		t.Fatal(err)
	}
	again := Open(name)
	if _, ok := again.Find(idOf("root"), "go/ab/cd/key"); ok {
		t.Error("what is below the old root is still known")
	}
	if _, ok := again.Find(idOf("next root"), "go/ab/cd/key"); !ok {
		t.Error("what is below the new root is not known")
	}
	if _, ok := again.Entry(idOf("entry")); !ok {
		t.Error("the entry is not known any more")
	}
}

func TestSaveBounds(t *testing.T) {
	name := filepath.Join(t.TempDir(), "known")
	fill := func(root string) {
		table := Open(name)
		for i := range most + 10 {
			table.NoteFound(idOf(root), fmt.Sprint(i), idOf("entry"))
		}
		table.NoteFound(idOf(root), strings.Repeat("long", maxString), idOf("entry"))
		if err := table.Save(); err != nil {
			t.Fatal(err)
		}
	}
	fill("one")
	fill("two")
	table := Open(name)
	if _, ok := table.Find(idOf("two"), "0"); !ok || len(table.places.old) != most {
		t.Errorf("%d places are known, want %d", len(table.places.old), most)
	}
}

// A file that is damaged, cut short or somebody else's is as good as none.
func TestDamage(t *testing.T) {
	name := filepath.Join(t.TempDir(), "known")
	if err := filled(name).Save(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, data []byte) {
		if err := os.WriteFile(name, data, 0o666); err != nil {
			t.Fatal(err)
		}
		table := Open(name)
		if _, ok := table.Find(idOf("root"), "go/ab/cd/key"); ok {
			t.Errorf("%s: believed", what)
		}
		table.NoteFound(idOf("root"), "path", idOf("entry"))
		if err := table.Save(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, ok := Open(name).Find(idOf("root"), "path"); !ok {
			t.Errorf("%s: not replaced", what)
		}
	}
	for n := range whole {
		check(fmt.Sprintf("cut to %d bytes", n), whole[:n])
		damaged := bytes.Clone(whole)
		damaged[n] ^= 0x10
		check(fmt.Sprintf("byte %d is another", n), damaged)
	}
	check("more", append(bytes.Clone(whole), 0))
	check("foreign", bytes.Repeat([]byte("text\n"), 100))
}

func TestTwoAtOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "known")
	var working sync.WaitGroup
	for i := range 4 {
		working.Go(func() {
			for j := range 20 {
				table := Open(name)
				if id, ok := table.Find(idOf("root"), "both"); ok && id != idOf("entry") {
					t.Errorf("both: %v", id)
				}
				table.NoteFound(idOf("root"), "both", idOf("entry"))
				table.NoteFound(idOf("root"), fmt.Sprint(i, j), idOf("entry"))
				if err := table.Save(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	working.Wait()
	if _, ok := Open(name).Find(idOf("root"), "both"); !ok {
		t.Error("the file is not whole")
	}
}

// No table is one that knows nothing.
func TestNil(t *testing.T) {
	var table *Table
	table.NoteFound(idOf("root"), "path", idOf("entry"))
	table.NoteEntry(idOf("entry"), Entry{})
	if _, ok := table.Find(idOf("root"), "path"); ok {
		t.Error("a place is known")
	}
	if err := table.Save(); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	t := filled(filepath.Join(f.TempDir(), "known"))
	f.Add(encode(t.places.now, t.entries.now))
	f.Add(encode(nil, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		places, entries := parse(b)
		again, entriesAgain := parse(encode(places, entries))
		if !maps.Equal(again, places) || !maps.Equal(entriesAgain, entries) {
			t.Errorf("%q: not the same when it is written and read again", b)
		}
	})
}
