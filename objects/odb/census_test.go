package odb_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// What several packs hold counts once, and a big blob as what it is.
func TestCount(t *testing.T) {
	dir := test.Dir(t)
	a, b := open(t, dir), open(t, dir)
	big, small := noise(1, 1<<20), text(2, 1000)
	var ids []objects.ID
	one, two := batch(t, a, odb.BatchOptions{}), batch(t, b, odb.BatchOptions{})
	for _, in := range []*odb.Batch{one, two} {
		ids = append(ids, put(t, in, objects.Blob, small), put(t, in, objects.Tree, tree(3)))
	}
	ids = append(ids, put(t, two, objects.Blob, big), put(t, two, objects.Blob, append(bytes.Clone(big), 'a')))
	for _, in := range []*odb.Batch{one, two} {
		if err := in.Commit(t.Context(), odb.Durable); err != nil {
			t.Fatal(err)
		}
		in.Close()
	}
	db := open(t, dir)
	c, err := db.Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Objects[objects.Blob] != 3 || c.Objects[objects.Tree] != 1 || c.Chunks == 0 {
		t.Errorf("counted %+v", c)
	}
	if want := int64(2<<20 + 1 + 1000); c.Blobs != want || c.Pieces >= want || c.Pieces < want/2 {
		t.Errorf("blobs of %d bytes in %d, want %d in little more than half", c.Blobs, c.Pieces, want)
	}
	missing := objects.Sum(objects.Blob, []byte("missing"))
	sizes, err := db.Sizes(t.Context(), []objects.ID{ids[4], missing, ids[0]})
	if err != nil || !slices.Equal(sizes, []int64{1 << 20, -1, 1000}) {
		t.Errorf("sizes are %v, %v", sizes, err)
	}
	var stored int64
	if err := db.Stored(t.Context(), []objects.ID{ids[4], missing}, func(_ objects.ID, n int64) { stored += n }); err != nil {
		t.Fatal(err)
	}
	if stored < 1<<20 || stored > 1<<20+64<<10 {
		t.Errorf("1 MiB of noise takes %d bytes", stored)
	}
}
