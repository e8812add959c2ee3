package odb_test

import (
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// Merging in passing takes no more than a part of the time of what led to it, and is
// left out where nobody wants it; but there are never too many packs.
func TestMergeInPassing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		o      odb.Options
		merges bool
	}{
		{"began long ago", odb.Options{Began: time.Now().Add(-time.Hour)}, true},
		{"began only now", odb.Options{Began: time.Now().Add(time.Hour)}, false},
		{"not wanted", odb.Options{Began: time.Now().Add(-time.Hour), NoMerge: true}, false},
	} {
		dir := test.Dir(t)
		db, err := odb.Open(dir, tt.o)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		want := map[objects.ID][]byte{}
		add := func(n int) {
			commit(t, db, odb.Durable, func(b *odb.Batch) {
				body := noise(uint64(n), 1000)
				want[put(t, b, objects.Blob, body)] = body
			})
		}
		const few, many = 12, 200
		for n := range few {
			add(n)
		}
		if got := packs(t, dir); (got < few) != tt.merges {
			t.Errorf("%s: %d packs after %d batches", tt.name, got, few)
		}
		for n := few; n < many; n++ {
			add(n)
			if got := packs(t, dir); got > 50 {
				t.Fatalf("%s: %d packs", tt.name, got)
			}
		}
		checkAll(t, db, want)
	}
}
