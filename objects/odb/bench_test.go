package odb_test

import (
	"fmt"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A hit of `run` opens the store and reads a handful of small objects.
func BenchmarkHit(b *testing.B) {
	for _, packs := range []int{1, 7, 40} {
		b.Run(fmt.Sprint("packs=", packs), func(b *testing.B) {
			dir := test.Dir(b)
			db := open(b, dir)
			var ids []objects.ID
			for i := range packs {
				commit(b, db, odb.Staged, func(batch *odb.Batch) {
					for j := range 10 {
						k := objects.Tree
						if j%2 == 0 {
							k = objects.Blob
						}
						ids = append(ids, put(b, batch, k, text(uint64(100*i+j), 400)))
					}
				})
			}
			want := make([]objects.ID, 8)
			for i := range want {
				want[i] = ids[i*(len(ids)-1)/(len(want)-1)]
			}
			b.ReportAllocs()
			for b.Loop() {
				db, err := odb.Open(dir, odb.Options{})
				if err != nil {
					b.Fatal(err)
				}
				for _, id := range want {
					if _, _, err := db.ReadBytes(b.Context(), id); err != nil {
						b.Fatal(err)
					}
				}
				db.Close()
			}
		})
	}
}

// A miss of `run` ends in a small batch.
func BenchmarkSmallBatch(b *testing.B) {
	db := open(b, test.Dir(b))
	n := uint64(0)
	for b.Loop() {
		commit(b, db, odb.Staged, func(batch *odb.Batch) {
			for j := range 10 {
				k := objects.Tree
				if j%2 == 0 {
					k = objects.Blob
				}
				n++
				put(b, batch, k, text(n, 400))
			}
		})
	}
}
