package gitbridge

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
)

// FuzzPack reads packs that somebody has tampered with. What is read has the id under which
// it is found.
func FuzzPack(f *testing.F) {
	p, err := newPackSpool(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range []string{"", "a", "some text that is longer than that"} {
		if err := p.add(objects.Blob, []byte(body)); err != nil {
			f.Fatal(err)
		}
	}
	if _, err := p.finish(); err != nil {
		f.Fatal(err)
	}
	var good bytes.Buffer
	if _, err := good.ReadFrom(p.open()); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add(good.Bytes()[:20])
	// A delta whose base is itself, and one that is far away.
	f.Add([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\x64\x00"))
	f.Add([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\x64\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := scratch(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		file.Write(data)
		p, err := openPack(file, dir)
		if err != nil {
			return
		}
		for i, e := range p.entries {
			body, err := p.read(i)
			if err != nil || sumOID(e.kind, body) != e.id {
				t.Errorf("entry %d is not %s: %v", i, e.id, err)
			}
		}
	})
}

// FuzzTable opens tables that are damaged: none is believed that was not written so.
func FuzzTable(f *testing.F) {
	dir := f.TempDir()
	rows := []row{{objects.ID{1}, commit, oid{3}}, {objects.ID{1}, cutOff, oid{2}}, {objects.ID{2}, whole, oid{1}}}
	good := filepath.Join(dir, "good"+tableExt)
	if err := writeTable(dir, good, 7, rows); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:30])
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(name, data, 0o666); err != nil {
			t.Fatal(err)
		}
		table, err := openTable(name, 7)
		if err != nil {
			return
		}
		defer table.close()
		for i := range table.n {
			table.at(i)
			table.find(table.row(i).id, table.row(i).as)
		}
	})
}

// FuzzCommit takes commits apart and puts them together again, with the parents cut off
// and back.
func FuzzCommit(f *testing.F) {
	id := objects.EmptyTree.String()
	f.Add([]byte("tree " + id + "\nparent " + id + "\nauthor a <b> 1 +0000\ncommitter a <b> 1 +0000\n\nmessage\n"))
	f.Add([]byte("tree " + id + "\nauthor a <b> 1 +0000\ngpgsig x\n y\n\n"))
	f.Add([]byte("tree " + id + "\nparent " + id + "\nx y\ncache-tool-cut " + id + "\n\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		tree, parents, rest, ok := takeCommit(body, objects.ParseID)
		if !ok {
			return
		}
		if again := makeCommit(tree, parents, rest); !bytes.Equal(again, body) {
			t.Errorf("%q became %q", body, again)
		}
		cut, err := addCut(rest, parents)
		if err != nil || len(parents) == 0 {
			return
		}
		plain, back, err := takeCut(cut)
		if err != nil || !bytes.Equal(plain, rest) || len(back) != len(parents) {
			t.Errorf("%q: cut and back it is %q: %v", rest, plain, err)
		}
	})
}

// FuzzEntries takes the entries off trees of the server.
func FuzzEntries(f *testing.F) {
	f.Add(appendEntry(appendEntry(nil, objects.ModeFile, "a", oid{1}), objects.ModeDir, "cache-tool-blob%", oid{2}))
	f.Fuzz(func(t *testing.T, body []byte) {
		var again []byte
		for rest := body; len(rest) > 0; {
			mode, name, at, after, err := cutEntry(rest)
			if err != nil {
				return
			}
			if plain, ok := unescape(name); ok && escape(plain) != name {
				t.Errorf("%q is %q here, and %q there", name, plain, escape(plain))
			}
			again, rest = appendEntry(again, mode, name, at), after
		}
		if !bytes.Equal(again, body) {
			t.Errorf("%q became %q", body, again)
		}
	})
}

// TestMerge writes many small tables: they become few, and nothing gets lost.
func TestMerge(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	warn := func(err error) { t.Errorf("warning: %v", err) }
	m := openIDs(dir, 7, warn)
	const n = 2000
	for i := range n {
		id := objects.Sum(objects.Blob, []byte{byte(i), byte(i >> 8)})
		if err := m.add(ctx, id, whole, sumOID(objects.Blob, []byte{byte(i), byte(i >> 8)})); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if err := m.flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.flush(ctx); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "map", "*"+tableExt)); len(files) > 12 {
		t.Errorf("%d tables", len(files))
	}
	m.close()
	m = openIDs(dir, 7, warn)
	if err := m.load(ctx); err != nil {
		t.Fatal(err)
	}
	defer m.close()
	for i := range n {
		body := []byte{byte(i), byte(i >> 8)}
		id, at := objects.Sum(objects.Blob, body), sumOID(objects.Blob, body)
		if got, ok := m.git(id, asTree, whole); !ok || got != at {
			t.Fatalf("%d is %s there, want %s", i, got, at)
		}
		if got, ok := m.ours(at, commit, whole); !ok || got.id != id {
			t.Fatalf("%d is %s here, want %s", i, got.id, id)
		}
	}
	if _, ok := m.ours(oid{}, whole); ok {
		t.Error("it knows what nobody has")
	}
}
