package odb_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A sample is what a store holds, by id.
type sample struct {
	db    *odb.DB
	all   map[objects.ID][]byte
	kinds map[objects.ID]objects.Kind
}

func newSample(t *testing.T) *sample {
	s := &sample{open(t, test.Dir(t)), map[objects.ID][]byte{}, map[objects.ID]objects.Kind{}}
	add := func(k objects.Kind, body []byte, id objects.ID, err error) objects.ID {
		if err != nil {
			t.Fatal(err)
		}
		s.all[id], s.kinds[id] = body, k
		return id
	}
	commit(t, s.db, odb.Durable, func(b *odb.Batch) {
		l := b.Lane()
		for i := range 200 {
			body := text(uint64(i), 100+17*i)
			room, err := l.Space(len(body))
			if err != nil {
				t.Fatal(err)
			}
			copy(room, body)
			id, err := l.Add(len(body))
			add(objects.Blob, body, id, err)
		}
		big := noise(7, 3<<20)
		id, err := l.PutReader(t.Context(), int64(len(big)), bytes.NewReader(big))
		add(objects.Blob, big, id, err)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		base := tree(300)
		first, err := b.PutTree(base, objects.ID{})
		add(objects.Tree, base, first, err)
		edited := tree(300, 7)
		id, err = b.PutTree(edited, first)
		add(objects.Tree, edited, id, err)
		who := objects.Signature{Name: "a", Email: "a@a"}
		body := objects.CommitBody{Tree: id, Author: who, Committer: who, Message: "m\n"}.Encode()
		id, err = b.PutBytes(objects.Commit, body)
		add(objects.Commit, body, id, err)
	})
	return s
}

// ids returns the ids of those objects that want takes, and of their chunks.
func (s *sample) ids(t *testing.T, want func(objects.ID) bool) []objects.ID {
	t.Helper()
	var ids []objects.ID
	for id := range s.all {
		if want(id) {
			ids = append(ids, id)
		}
	}
	var chunks []objects.ID
	if err := s.db.Chunks(t.Context(), ids, func(_, chunk objects.ID) error { chunks = append(chunks, chunk); return nil }); err != nil {
		t.Fatal(err)
	}
	return append(ids, chunks...)
}

// send puts parcels into another store, as packs or directly.
func send(t *testing.T, to *odb.DB, parcels []*odb.Parcel, adopt bool) {
	t.Helper()
	b := batch(t, to, odb.BatchOptions{})
	for _, p := range parcels {
		if adopt {
			if err := b.Adopt(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var buf bytes.Buffer
		w := pack.NewWriter(&buf)
		if err := p.WriteTo(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Receive(t.Context(), &buf); err != nil {
			t.Fatal(err)
		}
	}
	if lacking, err := b.Prove(t.Context(), nil); err != nil || len(lacking) > 0 {
		t.Fatalf("Prove = %d, %v", len(lacking), err)
	}
	if err := b.Commit(t.Context(), odb.Durable); err != nil {
		t.Fatal(err)
	}
	b.Close()
}

func TestParcels(t *testing.T) {
	s := newSample(t)
	everything := func(objects.ID) bool { return true }
	for _, tt := range []struct {
		name string
		size int64
		want func(objects.ID) bool
	}{
		{"all", 0, everything},
		{"all in many", 64 << 10, everything},
		{"some", 0, func(id objects.ID) bool { return id[0]%2 == 0 }},
		{"big", 0, func(id objects.ID) bool { return len(s.all[id]) > 1<<20 }},
		{"no base of the delta", 0, func(id objects.ID) bool { return id != objects.Sum(objects.Tree, tree(300)) }},
		{"nothing", 0, func(objects.ID) bool { return false }},
	} {
		for _, adopt := range []bool{false, true} {
			ids := s.ids(t, tt.want)
			parcels, err := s.db.Parcels(t.Context(), ids, odb.ParcelOptions{Size: tt.size})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, p := range parcels {
				n += p.Objects()
			}
			if n != len(ids) || tt.name == "all in many" && len(parcels) < 4 {
				t.Errorf("%s: %d of %d objects in %d parcels", tt.name, n, len(ids), len(parcels))
			}
			to := open(t, test.Dir(t))
			send(t, to, parcels, adopt)
			for id, body := range s.all {
				if tt.want(id) {
					check(t, to, s.kinds[id], body)
				} else if missing, err := to.Missing(t.Context(), []objects.ID{id}); err != nil || len(missing) != 1 {
					t.Errorf("%s: %s came along: %v", tt.name, id, err)
				}
			}
			if p := verify(t, to); len(p) > 0 {
				t.Errorf("%s: %v", tt.name, p)
			}
		}
	}
	if _, err := s.db.Parcels(t.Context(), []objects.ID{{1}}, odb.ParcelOptions{}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("of what is not there: %v", err)
	}
}

func TestParcelOfMergedPacks(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	var ids []objects.ID
	for i := range 7 {
		commit(t, db, odb.Durable, func(b *odb.Batch) {
			ids = append(ids, put(t, b, objects.Blob, text(uint64(i), 50_000)))
		})
	}
	parcels, err := db.Parcels(t.Context(), ids, odb.ParcelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, dir) // another process merges
	commit(t, other, odb.Durable, func(b *odb.Batch) { put(t, b, objects.Blob, []byte("x")) })
	if err := other.Consolidate(t.Context()); err != nil {
		t.Fatal(err)
	}
	to := open(t, test.Dir(t))
	send(t, to, parcels, false)
	for i := range 7 {
		check(t, to, objects.Blob, text(uint64(i), 50_000))
	}
}

func packOf(t *testing.T, items ...pack.Record) func(bodies ...[]byte) []byte {
	return func(bodies ...[]byte) []byte {
		var b pack.Block
		for i, r := range items {
			copy(b.Space(len(bodies[i])), bodies[i])
			r.Size = uint32(len(bodies[i]))
			b.Add(r)
		}
		var out bytes.Buffer
		w := pack.NewWriter(&out)
		e := compress.GetEncoder(compress.Default, b.Len())
		defer compress.PutEncoder(e)
		if _, err := w.Append(b.AppendTo(nil, e), b.Records); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
}

// TestReceiveLies sends what is not what it claims to be.
func TestReceiveLies(t *testing.T) {
	chunk := noise(1, 70_000)
	piece := pack.Piece{ID: objects.SumChunk(chunk), Size: uint32(len(chunk))}
	base, edited := tree(300), tree(300, 5)
	delta, ok := pack.AppendDelta(nil, objects.Sum(objects.Tree, edited), edited, objects.Sum(objects.Tree, base), base, len(edited))
	if !ok {
		t.Fatal("no delta")
	}
	lyingDelta := bytes.Clone(delta)
	lyingDelta[3] ^= 1
	for _, tt := range []struct {
		name  string
		bad   bool
		types []pack.Type
		body  [][]byte
	}{
		{"a recipe", false, []pack.Type{pack.Recipe, pack.Chunk}, [][]byte{pack.AppendRecipe(nil, objects.Sum(objects.Blob, chunk), 70_000, []pack.Piece{piece}), chunk}},
		{"a recipe of another blob", true, []pack.Type{pack.Chunk, pack.Recipe}, [][]byte{chunk, pack.AppendRecipe(nil, objects.ID{1}, 70_000, []pack.Piece{piece})}},
		{"a delta before its base", false, []pack.Type{pack.Delta, pack.Tree}, [][]byte{delta, base}},
		{"a delta of another tree", true, []pack.Type{pack.Tree, pack.Delta}, [][]byte{base, lyingDelta}},
		{"no tree", true, []pack.Type{pack.Tree}, [][]byte{[]byte("nonsense")}},
		{"no commit", true, []pack.Type{pack.Commit}, [][]byte{[]byte("nonsense")}},
		{"no tag", true, []pack.Type{pack.Tag}, [][]byte{[]byte("nonsense")}},
		{"no recipe", true, []pack.Type{pack.Recipe}, [][]byte{noise(3, 50)}},
	} {
		var records []pack.Record
		for _, typ := range tt.types {
			records = append(records, pack.Record{Type: typ})
		}
		db := open(t, test.Dir(t))
		b := batch(t, db, odb.BatchOptions{})
		_, err := b.Receive(t.Context(), bytes.NewReader(packOf(t, records...)(tt.body...)))
		lacking, e := b.Prove(t.Context(), nil)
		if err = errors.Join(err, e); (err != nil) != tt.bad || len(lacking) > 0 {
			t.Errorf("%s: %v, lacks %d", tt.name, err, len(lacking))
		}
		b.Close()
	}
}

// TestReceiveWaits sends a big blob and a delta in parts.
func TestReceiveWaits(t *testing.T) {
	chunk := noise(1, 70_000)
	piece := pack.Piece{ID: objects.SumChunk(chunk), Size: uint32(len(chunk))}
	recipe := pack.AppendRecipe(nil, objects.Sum(objects.Blob, chunk), 70_000, []pack.Piece{piece})
	db := open(t, test.Dir(t))
	first := batch(t, db, odb.BatchOptions{})
	if _, err := first.Receive(t.Context(), bytes.NewReader(packOf(t, pack.Record{Type: pack.Recipe})(recipe))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if lacking, err := first.Prove(t.Context(), nil); err != nil || len(lacking) != 1 || lacking[0] != piece.ID {
			t.Fatalf("Prove = %v, %v", lacking, err)
		}
	}
	nobody := func(objects.ID) bool { return false }
	if lacking, err := first.Prove(t.Context(), nobody); err != nil || len(lacking) != 0 || !first.Waits(objects.Sum(objects.Blob, chunk)) {
		t.Errorf("Prove for nobody = %v, %v", lacking, err)
	}
	if err := first.Commit(t.Context(), odb.Durable); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if missing, err := db.Missing(t.Context(), []objects.ID{objects.Sum(objects.Blob, chunk)}); err != nil || len(missing) != 1 {
		t.Errorf("what waits at the end is here: %v", err)
	}
	second := batch(t, db, odb.BatchOptions{})
	for _, p := range [][]byte{packOf(t, pack.Record{Type: pack.Recipe})(recipe), packOf(t, pack.Record{Type: pack.Chunk})(chunk)} {
		if _, err := second.Receive(t.Context(), bytes.NewReader(p)); err != nil {
			t.Fatal(err)
		}
	}
	if lacking, err := second.Prove(t.Context(), nil); err != nil || len(lacking) != 0 {
		t.Fatalf("Prove = %v, %v", lacking, err)
	}
	if err := second.Commit(t.Context(), odb.Durable); err != nil {
		t.Fatal(err)
	}
	second.Close()
	check(t, db, objects.Blob, chunk)
}

// TestReceiveProvesKnown: who sends a recipe or a delta of something that is here
// need not have it, unless that is proven.
func TestReceiveProvesKnown(t *testing.T) {
	chunk, other := noise(1, 70_000), noise(2, 70_000)
	blob := objects.Sum(objects.Blob, chunk)
	recipe := func(chunk []byte) []byte {
		return pack.AppendRecipe(nil, blob, 70_000, []pack.Piece{{ID: objects.SumChunk(chunk), Size: 70_000}})
	}
	base, edited := tree(300), tree(300, 7)
	id := func(tree []byte) objects.ID { return objects.Sum(objects.Tree, tree) }
	delta, ok := pack.AppendDelta(nil, id(edited), edited, id(base), base, 10_000)
	if !ok {
		t.Fatal("no delta")
	}
	lie := append(bytes.Clone(delta[:32]), delta[32:64]...) // nothing is edited
	chunks, trees := pack.Record{Type: pack.Chunk}, pack.Record{Type: pack.Tree}
	recipes, deltas := pack.Record{Type: pack.Recipe}, pack.Record{Type: pack.Delta}
	db := open(t, test.Dir(t))
	receive := func(strict bool, p []byte) error {
		b := batch(t, db, odb.BatchOptions{ProveKnown: strict})
		defer b.Close()
		_, err := b.Receive(t.Context(), bytes.NewReader(p))
		if err == nil {
			_, err = b.Prove(t.Context(), nil)
		}
		if err == nil {
			err = b.Commit(t.Context(), odb.Durable)
		}
		return err
	}
	for _, p := range [][]byte{
		packOf(t, chunks, chunks)(chunk, other), packOf(t, trees)(base),
		packOf(t, recipes)(recipe(chunk)), packOf(t, deltas)(delta), // new
		packOf(t, recipes)(recipe(chunk)), packOf(t, deltas)(delta), // known, and right
	} {
		if err := receive(true, p); err != nil {
			t.Error(err)
		}
	}
	for _, p := range [][]byte{packOf(t, recipes)(recipe(other)), packOf(t, deltas)(lie)} {
		if err := receive(false, p); err != nil {
			t.Errorf("not looked at: %v", err)
		}
		if err := receive(true, p); !errors.Is(err, pack.ErrBadPack) {
			t.Errorf("%v", err)
		}
	}
	check(t, db, objects.Blob, chunk)
	check(t, db, objects.Tree, edited)
}

// TestReceiveWaitsWithinBounds: what waits is in memory.
func TestReceiveWaitsWithinBounds(t *testing.T) {
	recipe := pack.AppendRecipe(nil, objects.ID{1}, 10, []pack.Piece{{ID: objects.ID{2}, Size: 10}})
	other := pack.AppendRecipe(nil, objects.ID{3}, 10, []pack.Piece{{ID: objects.ID{2}, Size: 10}})
	b := batch(t, open(t, test.Dir(t)), odb.BatchOptions{Waiting: len(recipe)})
	receive := func(record []byte) error {
		_, err := b.Receive(t.Context(), bytes.NewReader(packOf(t, pack.Record{Type: pack.Recipe})(record)))
		return err
	}
	for range 2 { // the same once more is no more
		if err := receive(recipe); err != nil {
			t.Error(err)
		}
	}
	if err := receive(other); !errors.Is(err, pack.ErrBadPack) {
		t.Errorf("%v", err)
	}
}

// TestReceiveBroken cuts and flips a pack on its way: it is an error, and what
// was whole stays.
func TestReceiveBroken(t *testing.T) {
	a, b := text(1, 40_000), text(2, 40_000)
	var out bytes.Buffer
	w := pack.NewWriter(&out)
	e := compress.GetEncoder(compress.Default, 64<<10)
	defer compress.PutEncoder(e)
	ends := []int{}
	for _, body := range [][]byte{a, b} {
		var block pack.Block
		copy(block.Space(len(body)), body)
		block.Add(pack.Record{ID: objects.Sum(objects.Blob, body), Type: pack.Blob, Size: uint32(len(body))})
		if _, err := w.Append(block.AppendTo(nil, e), block.Records); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, out.Len())
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	whole := out.Bytes()
	receive := func(r io.Reader) (*odb.Batch, error) {
		batch := batch(t, open(t, test.Dir(t)), odb.BatchOptions{})
		_, err := batch.Receive(t.Context(), r)
		return batch, err
	}
	for n := 0; n < len(whole); n += 97 {
		got, err := receive(bytes.NewReader(whole[:n]))
		if !errors.Is(err, pack.ErrBadPack) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if n > ends[0] {
			check(t, got, objects.Blob, a)
		}
		got.Close()
	}
	for bit := 0; bit < 8*len(whole); bit += 331 {
		bad := bytes.Clone(whole)
		bad[bit/8] ^= 1 << (bit % 8)
		got, err := receive(bytes.NewReader(bad))
		if err == nil {
			t.Errorf("bit %d flipped: no error", bit)
		}
		got.Close()
	}
	if _, err := receive(io.MultiReader(bytes.NewReader(whole[:ends[0]]), &brokenReader{})); !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := batch(t, open(t, test.Dir(t)), odb.BatchOptions{}).Receive(ctx, strings.NewReader(string(whole))); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestNeighbours sends all but one of the objects in a store: to those who may have
// everything that one comes along, so that its block need not be packed anew.
func TestNeighbours(t *testing.T) {
	s := newSample(t)
	left := objects.Sum(objects.Blob, text(150, 100+17*150))
	ids := s.ids(t, func(id objects.ID) bool { return id != left })
	for _, neighbours := range []bool{false, true} {
		to := open(t, test.Dir(t))
		b := batch(t, to, odb.BatchOptions{})
		receive(t, s.db, b, ids, odb.ParcelOptions{Neighbours: neighbours})
		if missing, err := b.Missing(t.Context(), append(ids, left)); err != nil || slices.Contains(missing, left) == neighbours {
			t.Errorf("neighbours %v: it is missing: %v, %v", neighbours, slices.Contains(missing, left), err)
		}
		b.Close()
	}
}
