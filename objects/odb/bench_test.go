package odb_test

import (
	"bytes"
	"fmt"
	"io"
	"sync"
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

func BenchmarkSum(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint("bytes=", size), func(b *testing.B) {
			body := noise(1, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				objects.Sum(objects.Blob, body)
			}
		})
	}
}

// shapes are what people keep: many small files, or few that are huge.
var shapes = []struct {
	name  string
	files int
	size  int
}{{"small", 20_000, 3 << 10}, {"huge", 2, 30 << 20}}

// content is the file i: lines that are alike but not the same, some of them as
// in the file before.
func content(i, size int) []byte {
	return append(text(uint64(i/3), size/2), text(uint64(i), size-size/2)...)
}

// The whole way of a save, from memory to the disk: two lanes, one commit.
func BenchmarkSave(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			bodies := make([][]byte, shape.files)
			for i := range bodies {
				bodies[i] = content(i, shape.size)
			}
			b.SetBytes(int64(shape.files * shape.size))
			for b.Loop() {
				save(b, open(b, test.Dir(b)), bodies)
			}
		})
	}
}

func save(b *testing.B, db *odb.DB, bodies [][]byte) (ids []objects.ID) {
	ids = make([]objects.ID, len(bodies))
	batch := batch(b, db, odb.BatchOptions{BlockSize: odb.BigBlock})
	defer batch.Close()
	var wg sync.WaitGroup
	for half := range 2 {
		wg.Go(func() {
			lane := batch.Lane()
			defer lane.Close()
			for i := half * len(bodies) / 2; i < (half+1)*len(bodies)/2; i++ {
				var err error
				ids[i], err = lane.PutReader(b.Context(), int64(len(bodies[i])), bytes.NewReader(bodies[i]))
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := batch.Commit(b.Context(), odb.Durable); err != nil {
		b.Fatal(err)
	}
	return ids
}

// The whole way of a restore but for the writing of files.
func BenchmarkReadMany(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			bodies := make([][]byte, shape.files)
			for i := range bodies {
				bodies[i] = content(i, shape.size)
			}
			db := open(b, test.Dir(b))
			ids := save(b, db, bodies)
			big := func(_ int, id objects.ID, _ int64) error {
				o, err := db.Open(b.Context(), id)
				if err != nil {
					return err
				}
				defer o.Body.Close()
				_, err = io.Copy(io.Discard, o.Body)
				return err
			}
			b.SetBytes(int64(shape.files * shape.size))
			for b.Loop() {
				err := db.ReadMany(b.Context(), ids, odb.ManyOptions{Big: big}, func(int, objects.Kind, []byte) error { return nil })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
