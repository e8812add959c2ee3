package bucket_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// noise is n bytes that can't be made smaller.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestWeights(t *testing.T) {
	w := newWorld(t)
	small, large := remotetest.Blob(string(noise(1, 100))), remotetest.Blob(string(noise(2, 9_900)))
	one, two, three := string(noise(3, 1000)), string(noise(4, 2000)), string(noise(5, 3000))
	big, chunks := recipe(one, two)
	other, otherChunks := recipe(two, three)
	base := remotetest.Tree("x", small)
	record, tree := delta(t, base, large)
	w.upload(small, large)
	w.upload(append(slices.Clone(chunks), big)...)
	w.upload(otherChunks[1], other)
	w.upload(base)
	w.upload(record)
	w.upload(small) // once more
	weights, err := w.open().Weights(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[objects.ID]bool{}
	add := func(id objects.ID) bool {
		isNew := !seen[id]
		seen[id] = true
		return isNew
	}
	total := weights.Overhead
	for _, tt := range []struct {
		name     string
		id       objects.ID
		from, to int64
	}{
		{"a small blob", small.ID(), 130, 250},
		{"a large one", large.ID(), 9_900, 10_100},
		{"a blob of chunks", big.ID(), 3_000, 3_500},
		{"one with a chunk of it", other.ID(), 3_000, 3_400},
		{"a whole tree", base.ID(), 50, 200},
		{"a delta and its base", tree.ID(), 150, 500},
		{"nothing", remotetest.Blob("nothing").ID(), 0, 0},
	} {
		n := weights.Of(tt.id, add)
		if n < tt.from || n > tt.to {
			t.Errorf("%s weighs %d, want %d to %d", tt.name, n, tt.from, tt.to)
		}
		total += n
	}
	u, err := w.open().Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if all := u.Packs.Bytes + u.Indexes.Bytes; total > all+200 || total < all-500 {
		t.Errorf("all weighs %d, and takes %d", total, all)
	}
	if weights, err := newWorld(t).open().Weights(t.Context()); err != nil || weights.Of(small.ID(), add) != 0 {
		t.Errorf("an empty bucket: %v", err)
	}
}

func TestBlobs(t *testing.T) {
	w := newWorld(t)
	a, b, c := text("a"), text("b"), text("c")
	big, chunks := recipe("one", "two")
	w.upload(append(slices.Clone(chunks), a, b, c, big)...)
	came := map[objects.ID]string{}
	err := w.open().Blobs(t.Context(), []objects.ID{a.ID(), big.ID(), c.ID()}, func(id objects.ID, body []byte) error {
		came[id] = string(bytes.Clone(body))
		return nil
	})
	if err != nil || len(came) != 2 || came[a.ID()] != string(a.Body) || came[c.ID()] != string(c.Body) {
		t.Errorf("%d blobs came, %v", len(came), err)
	}
}
