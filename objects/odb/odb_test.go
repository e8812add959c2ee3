package odb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

func open(t testing.TB, dir string) *odb.DB {
	t.Helper()
	db, err := odb.Open(dir, odb.Options{Warn: func(err error) { t.Logf("warning: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func batch(t testing.TB, db *odb.DB, o odb.BatchOptions) *odb.Batch {
	t.Helper()
	b, err := db.NewBatch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// commit makes one batch of what put puts.
func commit(t testing.TB, db *odb.DB, d odb.Durability, put func(b *odb.Batch)) {
	t.Helper()
	b, err := db.NewBatch(t.Context(), odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	put(b)
	if err := b.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(p)
	return p
}

// text is compressible, and different for each seed.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d of %d\n", r.Uint32()%1000, seed)
	}
	return b.Bytes()[:n]
}

func put(t testing.TB, b *odb.Batch, k objects.Kind, body []byte) objects.ID {
	t.Helper()
	id, err := b.PutBytes(k, body)
	if err != nil {
		t.Fatal(err)
	}
	if want := objects.Sum(k, body); id != want {
		t.Fatalf("PutBytes = %s, want %s", id, want)
	}
	return id
}

// check reads an object in every way there is.
func check(t testing.TB, r objects.Reader, k objects.Kind, want []byte) {
	t.Helper()
	ctx := context.Background()
	id := objects.Sum(k, want)
	gotKind, got, err := objects.Read(ctx, r, id)
	if err != nil || gotKind != k || !bytes.Equal(got, want) {
		t.Errorf("read %s of %d bytes: %s of %d bytes, %v", k, len(want), gotKind, len(got), err)
		return
	}
	o, err := r.Open(ctx, id)
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	defer o.Body.Close()
	got, err = io.ReadAll(o.Body)
	if err != nil || o.Kind != k || o.Size != int64(len(want)) || !bytes.Equal(got, want) {
		t.Errorf("open %s of %d bytes: %s of %d bytes, %v", k, len(want), o.Kind, len(got), err)
	}
	if db, ok := r.(*odb.DB); ok {
		gotKind, size, err := db.Stat(ctx, id)
		if err != nil || gotKind != k || size != int64(len(want)) {
			t.Errorf("stat: %s of %d bytes, %v, want %s of %d", gotKind, size, err, k, len(want))
		}
	}
}

func verify(t testing.TB, db *odb.DB) []odb.Problem {
	t.Helper()
	var problems []odb.Problem
	if err := db.Verify(t.Context(), odb.VerifyOptions{}, func(p odb.Problem) { problems = append(problems, p) }); err != nil {
		t.Fatal(err)
	}
	return problems
}

func TestPutAndRead(t *testing.T) {
	type object struct {
		kind objects.Kind
		body []byte
	}
	all := []object{
		{objects.Blob, nil},
		{objects.Tree, nil},
		{objects.Blob, []byte("hello")},
		{objects.Blob, text(1, 100_000)},
		{objects.Blob, noise(1, 100_000)},
		{objects.Blob, text(2, 1<<20-1)},
		{objects.Blob, text(3, 1<<20)},
		{objects.Blob, noise(2, 5<<20+1234)},
		{objects.Blob, make([]byte, 3<<20)},
		{objects.Commit, []byte("tree x\n\nmessage\n")},
		{objects.Tag, []byte("object x\n\nmessage\n")},
	}
	for i := range 300 {
		all = append(all, object{objects.Blob, text(uint64(i+10), i)})
	}
	for _, d := range []odb.Durability{odb.Staged, odb.Durable} {
		dir := test.Dir(t)
		db := open(t, dir)
		b := batch(t, db, odb.BatchOptions{})
		for _, o := range all {
			put(t, b, o.kind, o.body)
		}
		for _, o := range all {
			check(t, b, o.kind, o.body)
		}
		if _, _, err := db.ReadBytes(t.Context(), objects.Sum(objects.Blob, all[2].body)); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("before commit: %v, want ErrNotFound", err)
		}
		if err := b.Commit(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			check(t, b, o.kind, o.body)
			check(t, db, o.kind, o.body)
			check(t, open(t, dir), o.kind, o.body)
		}
		b.Close()
		if p := verify(t, db); len(p) > 0 {
			t.Errorf("verify: %v", p)
		}
	}
}
