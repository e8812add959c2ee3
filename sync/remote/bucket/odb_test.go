package bucket_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// TestPacksOfAStore uploads the packs of a real store as they are: with chunks,
// recipes and deltas. All of it is there then, and comes back.
func TestPacksOfAStore(t *testing.T) {
	path := test.Dir(t)
	db, err := odb.Open(path, odb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var base objects.ID
	for round := range 3 {
		b, err := db.NewBatch(t.Context(), odb.BatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		big := make([]byte, 4<<20)
		rand.NewChaCha8([32]byte{1}).Read(big)
		big[round<<20] ^= 1
		if _, err := b.Put(t.Context(), objects.Blob, int64(len(big)), bytes.NewReader(big)); err != nil {
			t.Fatal(err)
		}
		var tree objects.Entries
		for i := range 300 {
			id, err := b.PutBytes(objects.Blob, fmt.Append(nil, "blob ", i, i == round))
			if err != nil {
				t.Fatal(err)
			}
			tree = append(tree, objects.Entry{Mode: objects.ModeFile, Name: fmt.Sprintf("%03d", i), ID: id})
		}
		if base, err = b.PutTree(tree.Encode(), base); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(t.Context(), odb.Durable); err != nil {
			t.Fatal(err)
		}
		b.Close()
	}

	mem := remotetest.NewStrict(t)
	r := bucket.Open(mem)
	packs, err := filepath.Glob(filepath.Join(path, "*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, name := range packs {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		fi, _ := f.Stat()
		if err := r.Upload(t.Context(), f, fi.Size()); err != nil {
			t.Errorf("Upload: %v", err)
		}
		f.Close()
	}

	var ids []objects.ID
	chunks := 0
	for info, err := range db.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if ids = append(ids, info.ID); info.Kind == 0 {
			chunks++
		}
	}
	if chunks == 0 {
		t.Error("no big blob was cut")
	}
	r = bucket.Open(mem)
	if missing, err := r.Missing(t.Context(), ids); err != nil || len(missing) > 0 {
		t.Errorf("%d of %d missing: %v", len(missing), len(ids), err)
	}
	got, err := remotetest.Fetch(t.Context(), r, ids...)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if _, ok := got[id]; !ok {
			t.Errorf("%s did not come", id.Short())
		}
	}
}
