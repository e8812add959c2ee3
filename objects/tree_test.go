package objects_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
)

var blobID = objects.Sum(objects.Blob, []byte("x"))

func file(name string) objects.Entry {
	return objects.Entry{Mode: objects.ModeFile, Name: name, ID: blobID}
}

func dir(name string) objects.Entry {
	return objects.Entry{Mode: objects.ModeDir, Name: name, ID: objects.EmptyTree}
}

func TestParseTreeRefuses(t *testing.T) {
	good := objects.Entries{file("a"), dir("b")}.Encode()
	for _, tt := range []struct {
		name string
		body []byte
	}{
		{"cut short", good[:len(good)-1]},
		{"cut in a name", good[:8]},
		{"rest", append(slices.Clone(good), 'x')},
		{"unknown mode", bytes.Replace(good, []byte("100644"), []byte("100664"), 1)},
		{"submodule", bytes.Replace(good, []byte("100644"), []byte("160000"), 1)},
		{"leading zero", bytes.Replace(good, []byte("40000"), []byte("040000"), 1)},
		{"empty name", objects.Entries{file("")}.Encode()},
		{"dot", objects.Entries{file(".")}.Encode()},
		{"dot dot", objects.Entries{dir("..")}.Encode()},
		{"slash", objects.Entries{file("a/b")}.Encode()},
		{"order", objects.Entries{file("b"), file("a")}.Encode()},
		{"order of a directory", objects.Entries{dir("a"), file("a.b")}.Encode()},
		{"twice", objects.Entries{file("a"), file("a")}.Encode()},
		{"file and directory", objects.Entries{file("a"), file("a.b"), dir("a")}.Encode()},
	} {
		if got, err := objects.ParseTree(tt.body); !errors.Is(err, objects.ErrBadTree) {
			t.Errorf("%s: ParseTree = %v, %v; want ErrBadTree", tt.name, got, err)
		}
	}
}

func TestFind(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		tree := randomTree(rnd, blobID)
		for _, e := range tree {
			if got, ok := tree.Find(e.Name); !ok || got != e {
				t.Fatalf("Find(%q) = %v, %v", e.Name, got, ok)
			}
		}
		if _, ok := tree.Find("not there"); ok {
			t.Fatal("found what is not there")
		}
	}
}

func FuzzParseTree(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(objects.Entries{file("a"), file("a.b"), dir("a0")}.Encode())
	f.Add(objects.Entries{file("a"), file("a.b"), dir("a")}.Encode())
	f.Add([]byte("100644 a\x00" + strings.Repeat("x", 31)))
	f.Fuzz(func(t *testing.T, body []byte) {
		tree, err := objects.ParseTree(body)
		if err != nil {
			if !errors.Is(err, objects.ErrBadTree) {
				t.Errorf("%v is no ErrBadTree", err)
			}
			return
		}
		if got := tree.Encode(); !bytes.Equal(got, body) {
			t.Errorf("encodes as %q", got)
		}
		rest := body
		for _, e := range tree {
			var raw objects.RawEntry
			if raw, rest, err = objects.CutEntry(rest); err != nil || raw.Mode != e.Mode || string(raw.Name) != e.Name || raw.ID != e.ID {
				t.Errorf("CutEntry = %v, %v; want %v", raw, err, e)
			}
			if got, ok := tree.Find(e.Name); !ok || got != e {
				t.Errorf("Find(%q) = %v, %v", e.Name, got, ok)
			}
		}
		if len(rest) > 0 {
			t.Errorf("CutEntry leaves %q", rest)
		}
	})
}

func BenchmarkParseTree(b *testing.B) {
	var tree objects.Entries
	for i := range 256 {
		tree = append(tree, file(string("0123456789abcdef"[i/16])+string("0123456789abcdef"[i%16])))
	}
	body := tree.Encode()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := objects.ParseTree(body); err != nil {
			b.Fatal(err)
		}
	}
}
