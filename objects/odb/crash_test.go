package odb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// bodies returns the blobs of batch n of the crash tests: a handful of small
// ones, and now and then one that is cut into chunks.
func bodies(n int) [][]byte {
	all := [][]byte{text(uint64(n), 200), noise(uint64(n), 3000), fmt.Append(nil, "batch ", n)}
	if n%4 == 0 {
		all = append(all, bytes.Repeat(noise(uint64(n), 100_000), 6))
	}
	return all
}

func store(dir string, d odb.Durability, n int) error {
	db, err := odb.Open(dir, odb.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	b, err := db.NewBatch(context.Background(), odb.BatchOptions{})
	if err != nil {
		return err
	}
	defer b.Close()
	base, err := b.PutTree(tree(100), objects.ID{})
	if err != nil {
		return err
	}
	if _, err := b.PutTree(tree(100, n), base); err != nil {
		return err
	}
	for _, body := range bodies(n) {
		if _, err := b.PutBytes(objects.Blob, body); err != nil {
			return err
		}
	}
	return b.Commit(context.Background(), d)
}

// setup makes a store of some batches.
func setup(batches int, d odb.Durability) func(dir string) error {
	return func(dir string) error {
		for n := range batches {
			if err := store(dir, d, n); err != nil {
				return err
			}
		}
		return nil
	}
}

// expect says which batches must be there; those from may on, up to all, may be
// there or not. Whatever is there must be right.
func expect(t *testing.T, dir string, may, all int) {
	t.Helper()
	db := open(t, dir)
	for n := range all {
		want := bodies(n)
		want = append(want, tree(100, n))
		for i, body := range want {
			k := objects.Blob
			if i == len(want)-1 {
				k = objects.Tree
			}
			_, got, err := db.ReadBytes(t.Context(), objects.Sum(k, body))
			switch {
			case err == nil && !bytes.Equal(got, body):
				t.Errorf("batch %d: wrong bytes", n)
			case err != nil && (n < may || !errors.Is(err, objects.ErrNotFound) || errors.As(err, new(*objects.DamagedError))):
				t.Errorf("batch %d: %v", n, err)
			}
		}
	}
	if p := verify(t, db); len(p) > 0 {
		t.Errorf("verify: %v", p)
	}
	// And it goes on.
	if err := store(dir, odb.Durable, all); err != nil {
		t.Error(err)
	}
	if _, _, err := db.ReadBytes(t.Context(), objects.Sum(objects.Blob, bodies(all)[0])); err != nil {
		t.Error(err)
	}
}

// act adds batch n. It must be there if that is what err says.
func act(n int, d odb.Durability) test.Case {
	return test.Case{
		Setup: setup(n, d),
		Act:   func(dir string) error { return store(dir, d, n) },
		Check: func(t *testing.T, dir string, err error) {
			may := n
			if err == nil {
				may = n + 1
			}
			expect(t, dir, may, n+1)
		},
	}
}

func TestFaultsAtCommit(t *testing.T) {
	for _, d := range []odb.Durability{odb.Staged, odb.Durable} {
		c := act(1, d)
		c.Max = test.Count(t, 100)
		c.EveryStep(t)
	}
}

// The eighth pack makes the commit merge.
func TestFaultsAtMerge(t *testing.T) {
	for _, d := range []odb.Durability{odb.Staged, odb.Durable} {
		c := act(8, d)
		c.Max = test.Count(t, 100)
		c.EveryStep(t)
	}
}

func TestKillAtMerge(t *testing.T) {
	c := act(8, odb.Staged)
	c.Max = test.Count(t, 100)
	c.Kill(t)
}

func TestPowerCutAtMerge(t *testing.T) {
	defer odb.Reboot("before01")()
	c := act(8, odb.Durable)
	c.Max = test.Count(t, 100)
	check := c.Check
	c.Check = func(t *testing.T, dir string, err error) {
		defer odb.Reboot("after001")()
		check(t, dir, err)
	}
	c.PowerCut(t)
}

// After a power cut a staged batch is there whole, or not at all; sealed ones are
// there.
func TestPowerCutAtSeal(t *testing.T) {
	defer odb.Reboot("before01")()
	const sealed, staged = 2, 5
	c := test.Case{
		Max:   test.Count(t, 100),
		Setup: setup(sealed, odb.Durable),
		Act: func(dir string) error {
			for n := sealed; n < staged; n++ {
				if err := store(dir, odb.Staged, n); err != nil {
					return err
				}
			}
			db, err := odb.Open(dir, odb.Options{})
			if err != nil {
				return err
			}
			defer db.Close()
			return db.Seal(context.Background())
		},
		Check: func(t *testing.T, dir string, err error) {
			defer odb.Reboot("after001")()
			may := sealed
			if err == nil {
				may = staged
			}
			expect(t, dir, may, staged)
		},
	}
	c.PowerCut(t)
}
