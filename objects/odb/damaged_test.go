package odb_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// What one process finds damaged, another one stores again.
func TestDamagedIsStoredAgain(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	good, body := make([]byte, 100_000), make([]byte, 100_000)
	rand.NewChaCha8([32]byte{1}).Read(good)
	rand.NewChaCha8([32]byte{2}).Read(body)
	store := func(bodies ...[]byte) (id objects.ID) {
		t.Helper()
		db, err := odb.Open(dir, odb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		b, err := db.NewBatch(ctx, odb.BatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for _, body := range bodies {
			if id, err = b.PutBytes(objects.Blob, body); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Commit(ctx, odb.Durable); err != nil {
			t.Fatal(err)
		}
		return id
	}
	read := func(id objects.ID) ([]byte, error) {
		t.Helper()
		db, err := odb.Open(dir, odb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		_, got, err := db.ReadBytes(ctx, id)
		return got, err
	}
	id := store(good, body)
	packs, err := filepath.Glob(filepath.Join(dir, "*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatalf("packs %q, %v", packs, err)
	}
	data, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)*3/4] ^= 1
	if err := os.Chmod(packs[0], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packs[0], data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := read(id); !errors.As(err, new(*objects.DamagedError)) {
		t.Fatalf("read a damaged object: %v", err)
	}
	if _, err := read(id); !errors.Is(err, objects.ErrNotFound) {
		t.Fatalf("read a damaged object again: %v", err)
	}
	if got, err := read(objects.Sum(objects.Blob, good)); err != nil || !bytes.Equal(got, good) {
		t.Fatalf("what is beside it: %v", err)
	}
	store(body)
	if got, err := read(id); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("stored again: %v", err)
	}
	db, err := odb.Open(dir, odb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Verify(ctx, odb.VerifyOptions{}, func(p odb.Problem) { t.Errorf("afterwards: %v", p) }); err != nil {
		t.Fatal(err)
	}
}

// A damaged id in an index hides the object, and no checksum is looked at on the
// way to it: it must be found all the same.
func TestDamagedIndexHidesNothing(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	db := open(t, dir)
	var ids []objects.ID
	commit(t, db, odb.Durable, func(b *odb.Batch) {
		for i := range 3 {
			id, err := b.PutBytes(objects.Blob, text(uint64(i), 1000))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
	})
	names, err := filepath.Glob(filepath.Join(dir, "*.idx"))
	if err != nil || len(names) != 1 {
		t.Fatalf("indexes %q, %v", names, err)
	}
	index, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		at := bytes.Index(index, id[:])
		if at < 0 {
			t.Fatalf("the index lacks %s", id)
		}
		for _, offset := range []int{0, 5, objects.IDSize - 1} {
			data := bytes.Clone(index)
			data[at+offset] ^= 4
			if err := os.Remove(names[0]); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(names[0], data, 0o644); err != nil {
				t.Fatal(err)
			}
			db := open(t, dir)
			if missing, err := db.Missing(ctx, ids); err != nil || len(missing) > 0 {
				t.Errorf("object %d, byte %d: missing %v, %v", i, offset, missing, err)
			}
			if _, _, err := open(t, dir).ReadBytes(ctx, id); err != nil {
				t.Errorf("object %d, byte %d: %v", i, offset, err)
			}
		}
	}
}
