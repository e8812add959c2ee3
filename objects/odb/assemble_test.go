package odb_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// newVersions makes a store of n versions of a big blob, each with some bytes of
// its own, and of one that repeats itself.
func newVersions(t *testing.T, n int) (*odb.DB, map[objects.ID][]byte) {
	t.Helper()
	db := open(t, test.Dir(t))
	all := map[objects.ID][]byte{}
	add := func(b *odb.Batch, body []byte) { all[put(t, b, objects.Blob, body)] = body }
	commit(t, db, odb.Durable, func(b *odb.Batch) {
		first := noise(1, 4<<20)
		for v := range n {
			body := slices.Clone(first)
			for at := 200_000 * v; at < len(body)-100; at += 1_500_000 {
				copy(body[at:], fmt.Sprint("version ", v, " at ", at))
			}
			add(b, body)
		}
		add(b, bytes.Repeat([]byte{7}, 3<<20))
		add(b, []byte("a small one"))
	})
	return db, all
}

// idsOf returns the ids of all objects, and of their chunks, each once.
func idsOf(t *testing.T, db *odb.DB, all map[objects.ID][]byte) (ids, chunks []objects.ID) {
	t.Helper()
	for id := range all {
		ids = append(ids, id)
	}
	seen := map[objects.ID]bool{}
	err := db.Chunks(t.Context(), ids, func(_, chunk objects.ID) error {
		if !seen[chunk] {
			seen[chunk] = true
			chunks = append(chunks, chunk)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids, chunks
}

// receive sends objects of one store to a batch of another.
func receive(t *testing.T, from *odb.DB, b *odb.Batch, ids []objects.ID, o odb.ParcelOptions) {
	t.Helper()
	parcels, err := from.Parcels(t.Context(), ids, o)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := pack.NewWriter(&buf)
	for _, p := range parcels {
		if err := p.WriteTo(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Receive(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
}

// TestBlobsInPieces sends versions of a blob in one pack or in many, in any order,
// some of it long before the rest.
func TestBlobsInPieces(t *testing.T) {
	db, all := newVersions(t, 5)
	ids, chunks := idsOf(t, db, all)
	check := func(t *testing.T, to *odb.DB, b *odb.Batch) {
		t.Helper()
		if lacking, err := b.Prove(t.Context(), nil); err != nil || len(lacking) > 0 {
			t.Fatalf("Prove = %d, %v", len(lacking), err)
		}
		if err := b.Commit(t.Context(), odb.Durable); err != nil {
			t.Fatal(err)
		}
		b.Close()
		checkAll(t, to, all)
		if p := verify(t, to); len(p) > 0 {
			t.Errorf("%v", p)
		}
	}
	t.Run("together", func(t *testing.T) {
		to := open(t, test.Dir(t))
		b := batch(t, to, odb.BatchOptions{})
		receive(t, db, b, append(ids, chunks...), odb.ParcelOptions{Size: 1 << 40})
		waiting := 0
		for _, id := range ids {
			if b.Waits(id) {
				waiting++
			}
		}
		if waiting > 4 { // all but the version whose chunks come in its own order
			t.Errorf("%d blobs were not proven in passing", waiting)
		}
		check(t, to, b)
	})
	for seed := range uint64(test.Count(t, 100)) {
		t.Run(fmt.Sprint("order ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			to := open(t, test.Dir(t))
			if seed%2 == 1 { // some of it was there before
				commit(t, to, odb.Durable, func(b *odb.Batch) {
					for _, id := range ids {
						if r.IntN(3) == 0 {
							put(t, b, objects.Blob, all[id])
						}
					}
				})
			}
			rest := append(slices.Clone(ids), chunks...)
			r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
			b := batch(t, to, odb.BatchOptions{})
			for len(rest) > 0 {
				n := min(len(rest), 1+r.IntN(60))
				receive(t, db, b, rest[:n], odb.ParcelOptions{Size: 1 << (18 + r.IntN(10))})
				rest = rest[n:]
				if r.IntN(3) == 0 {
					if _, err := b.Prove(t.Context(), nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			check(t, to, b)
		})
	}
}

// TestOtherBlob sends recipes that are right but for the order of their chunks, or
// for how long one is.
func TestOtherBlob(t *testing.T) {
	a, b := noise(1, 70_000), noise(2, 60_000)
	id := objects.Sum(objects.Blob, append(slices.Clone(a), b...))
	pieceA, pieceB := pack.Piece{ID: objects.SumChunk(a), Size: 70_000}, pack.Piece{ID: objects.SumChunk(b), Size: 60_000}
	long, short := pieceA, pieceB
	long.Size, short.Size = 70_001, 59_999
	for name, pieces := range map[string][]pack.Piece{"order": {pieceB, pieceA}, "size": {long, short}} {
		recipe := pack.AppendRecipe(nil, id, 130_000, pieces)
		for _, order := range [][]int{{0, 1, 2}, {1, 2, 0}, {1, 0, 2}, {0, 2, 1}} {
			batch := batch(t, open(t, test.Dir(t)), odb.BatchOptions{})
			bodies := [][]byte{recipe, a, b}
			types := []pack.Type{pack.Recipe, pack.Chunk, pack.Chunk}
			var err error
			for _, i := range order {
				_, e := batch.Receive(t.Context(), bytes.NewReader(packOf(t, pack.Record{Type: types[i]})(bodies[i])))
				err = errors.Join(err, e)
			}
			_, e := batch.Prove(t.Context(), nil)
			if err = errors.Join(err, e); !errors.Is(err, pack.ErrBadPack) {
				t.Errorf("%s, sent as %v: %v", name, order, err)
			}
			if missing, err := batch.Missing(t.Context(), []objects.ID{id}); err != nil || len(missing) == 0 {
				t.Errorf("%s, sent as %v: it is here: %v", name, order, err)
			}
			batch.Close()
		}
	}
}
