package odb_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

func TestExpand(t *testing.T) {
	db := open(t, t.TempDir())
	var ids []objects.ID
	for part := range 3 { // several packs, one of them with a big blob and its chunks
		commit(t, db, odb.Durable, func(b *odb.Batch) {
			for i := range 300 {
				ids = append(ids, put(t, b, objects.Blob, text(uint64(part*300+i), 20)))
			}
			if part == 2 {
				ids = append(ids, put(t, b, objects.Blob, noise(1, 3<<20)))
			}
		})
	}
	slices.SortFunc(ids, objects.ID.Compare)
	for _, digits := range []string{"0", "f", "a1", "00", "7", ids[17].String()[:9], ids[30].String()} {
		var want []objects.ID
		for _, id := range ids {
			if strings.HasPrefix(id.String(), digits) {
				want = append(want, id)
			}
		}
		got, err := db.Expand(t.Context(), digits)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Expand(%s) = %d ids, %v; want %d", digits, len(got), err, len(want))
		}
	}
	for _, bad := range []string{"", "xyz", strings.Repeat("0", 65)} {
		if _, err := db.Expand(t.Context(), bad); err == nil {
			t.Errorf("Expand(%q) succeeded", bad)
		}
	}
}
