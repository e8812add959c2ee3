package pack_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

var modes = []objects.Mode{objects.ModeFile, objects.ModeExec, objects.ModeSymlink, objects.ModeDir}

// randomTree has names that sort in other ways as files than as directories.
func randomTree(r *rand.Rand, n int) map[string]objects.Entry {
	t := map[string]objects.Entry{}
	for range n {
		name := fmt.Sprintf("%c%s", 'a'+r.IntN(8), []string{"", "-", ".c", "0", "/"[:0] + "~", "\xff"}[r.IntN(6)])
		t[name] = objects.Entry{Mode: modes[r.IntN(len(modes))], Name: name, ID: objects.ID{byte(r.IntN(256)), byte(r.IntN(256))}}
	}
	return t
}

func encode(t map[string]objects.Entry) []byte {
	var e objects.Entries
	for _, entry := range t {
		e = append(e, entry)
	}
	e.Sort()
	return e.Encode()
}

func TestDelta(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 5000 {
		old := randomTree(r, r.IntN(20))
		now := map[string]objects.Entry{}
		for name, e := range old {
			switch r.IntN(4) {
			case 0: // deleted
			case 1:
				e.Mode, e.ID = modes[r.IntN(len(modes))], objects.ID{byte(r.IntN(256))}
				now[name] = e
			default:
				now[name] = e
			}
		}
		for name, e := range randomTree(r, r.IntN(4)) {
			now[name] = e
		}
		base, tree := encode(old), encode(now)
		baseID, id := objects.Sum(objects.Tree, base), objects.Sum(objects.Tree, tree)
		record, ok := pack.AppendDelta([]byte("before"), id, tree, baseID, base, 1<<20)
		if !ok || !bytes.HasPrefix(record, []byte("before")) {
			t.Fatalf("no delta from %q to %q", base, tree)
		}
		d, err := pack.ParseDelta(record[len("before"):])
		if err != nil || d.ID != id || d.Base != baseID {
			t.Fatalf("ParseDelta: %v", err)
		}
		got, err := d.Apply(base)
		if err != nil || !bytes.Equal(got, tree) {
			t.Fatalf("from %q\n got %q, %v\nwant %q", base, got, err, tree)
		}
	}
}

func TestDeltaLimit(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	base, tree := encode(randomTree(r, 40)), encode(randomTree(r, 40))
	if got, ok := pack.AppendDelta([]byte("before"), objects.ID{1}, tree, objects.ID{2}, base, 100); ok || string(got) != "before" {
		t.Errorf("a delta of %d bytes, the limit is 100", len(got))
	}
	if _, ok := pack.AppendDelta(nil, objects.ID{1}, []byte("no tree"), objects.ID{2}, base, 1000); ok {
		t.Error("a delta to what is no tree")
	}
}

func TestRecipe(t *testing.T) {
	id := objects.ID{7}
	for _, tt := range []struct {
		name   string
		size   int64
		pieces []pack.Piece
		want   bool
	}{
		{"empty", 0, nil, true},
		{"two", 30, []pack.Piece{{ID: id, Size: 10}, {ID: id, Size: 20}}, true},
		{"too short", 31, []pack.Piece{{ID: id, Size: 10}, {ID: id, Size: 20}}, false},
		{"empty chunk", 10, []pack.Piece{{ID: id, Size: 10}, {ID: id, Size: 0}}, false},
		{"huge chunk", pack.MaxRecord + 1, []pack.Piece{{ID: id, Size: pack.MaxRecord + 1}}, false},
		{"negative", -1, nil, false},
	} {
		record := pack.AppendRecipe(nil, id, tt.size, tt.pieces)
		if len(record) != pack.RecipeSize(len(tt.pieces)) {
			t.Errorf("%s: %d bytes, RecipeSize is %d", tt.name, len(record), pack.RecipeSize(len(tt.pieces)))
		}
		r, err := pack.ParseRecipe(record)
		if (err == nil) != tt.want {
			t.Errorf("%s: ParseRecipe: %v", tt.name, err)
			continue
		}
		if err == nil && (r.ID != id || r.Size != tt.size || r.Len() != len(tt.pieces)) {
			t.Errorf("%s: got %+v", tt.name, r)
		}
		for i := range tt.pieces {
			if err == nil && r.Piece(i) != tt.pieces[i] {
				t.Errorf("%s: piece %d is %v", tt.name, i, r.Piece(i))
			}
		}
	}
	if _, err := pack.ParseRecipe(make([]byte, 41)); err == nil {
		t.Error("a recipe of 41 bytes")
	}
}
