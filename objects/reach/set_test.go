package reach_test

import (
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
)

func nth(n int) objects.ID {
	return sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

func TestSetIsLikeAMap(t *testing.T) {
	// Ids that are alike where the table looks: same shard, same slot, zeros.
	anID := rapid.Custom(func(t *rapid.T) objects.ID {
		var id objects.ID
		id[rapid.IntRange(0, 15).Draw(t, "byte")] = rapid.Byte().Draw(t, "value")
		id[31] = rapid.Byte().Draw(t, "not kept")
		return id
	})
	rapid.Check(t, func(t *rapid.T) {
		var s reach.Set
		m := map[[16]byte]bool{}
		for range rapid.IntRange(0, 200).Draw(t, "ids") {
			id := anID.Draw(t, "id")
			key := [16]byte(id[:])
			if s.Has(id) != m[key] {
				t.Fatalf("Has(%s) = %v", id, !m[key])
			}
			if s.Add(id) == m[key] {
				t.Fatalf("Add(%s) = %v", id, m[key])
			}
			m[key] = true
			if s.Len() != len(m) || !s.Has(id) {
				t.Fatalf("Len = %d, want %d", s.Len(), len(m))
			}
			// What becomes of a clone is its own business.
			other := anID.Draw(t, "id of a clone")
			c := s.Clone()
			if c.Len() != len(m) || !c.Has(id) || c.Add(other) == m[[16]byte(other[:])] || s.Len() != len(m) {
				t.Fatalf("clone of %d has %d", len(m), c.Len())
			}
			before := c.Len()
			if c.AddAll(&s); c.Len() != before || !c.Has(id) || !c.Has(other) {
				t.Fatalf("%d ids, with those of a part of them %d", before, c.Len())
			}
		}
	})
}

func TestSetIsSmall(t *testing.T) {
	n := test.Count(t, 4_000_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := new(reach.Set)
	for i := range n {
		s.Add(nth(i))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
	t.Logf("%.1f bytes for each of %d ids", each, n)
	if each > 34 {
		t.Errorf("%.1f bytes for each id", each)
	}
	for i := range n {
		if !s.Has(nth(i)) || s.Has(nth(-1-i)) {
			t.Fatalf("wrong about %d", i)
		}
	}
}

func TestSetConcurrent(t *testing.T) {
	var s reach.Set
	var added atomic.Int64
	var w sync.WaitGroup
	for range 4 {
		w.Go(func() {
			for i := range 10_000 {
				if s.Add(nth(i)) {
					added.Add(1)
				}
			}
		})
	}
	w.Wait()
	if added.Load() != 10_000 || s.Len() != 10_000 {
		t.Errorf("%d added, %d there", added.Load(), s.Len())
	}
}

func BenchmarkSetAdd(b *testing.B) {
	ids := make([]objects.ID, 1<<20)
	for i := range ids {
		ids[i] = nth(i)
	}
	for b.Loop() {
		var s reach.Set
		for _, id := range ids {
			s.Add(id)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ids)), "ns/id")
}
