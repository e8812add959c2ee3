package odb_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// suspects returns the packs that Verify complains of.
func suspects(t testing.TB, db *odb.DB) []string {
	t.Helper()
	var names []string
	for _, p := range verify(t, db) {
		if p.Pack != "" && !slices.Contains(names, p.Pack) {
			names = append(names, p.Pack)
		}
	}
	return names
}

// Wherever a pack is damaged, what is good in it stays, and no damage does.
func TestMend(t *testing.T) {
	for _, name := range []string{"pack", "idx"} {
		for at := range int64(12) {
			dir := test.Dir(t)
			db := open(t, dir)
			var bodies [][]byte
			commit(t, db, odb.Durable, func(b *odb.Batch) {
				for i := range uint64(40) {
					bodies = append(bodies, noise(i, 8<<10))
					put(t, b, objects.Blob, bodies[i])
				}
			})
			file := files(t, dir, "*."+name)[0]
			fi, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			test.FlipBit(t, file, at*8*fi.Size()/12+at)
			db = open(t, dir)
			bad := suspects(t, db)
			if want := strings.TrimSuffix(filepath.Base(file), "."+name); !slices.Equal(bad, []string{want}) {
				t.Fatalf("%s %d: found %q, want %s", name, at, bad, want)
			}
			did, err := db.Mend(t.Context(), bad, nil)
			if err != nil || name == "pack" && (len(did) != 1 || did[0].Err != nil) {
				t.Fatalf("%s %d: %+v, %v", name, at, did, err)
			}
			for _, reader := range []*odb.DB{db, open(t, dir)} {
				if p := verify(t, reader); len(p) > 0 {
					t.Errorf("%s %d: afterwards: %v", name, at, p)
				}
				lost := 0
				for _, body := range bodies {
					_, got, err := reader.ReadBytes(t.Context(), objects.Sum(objects.Blob, body))
					switch {
					case errors.Is(err, objects.ErrNotFound):
						lost++
					case err != nil || !bytes.Equal(got, body):
						t.Errorf("%s %d: %v", name, at, err)
					}
				}
				if most := 8; lost > most || name == "idx" && lost > 0 { // a block has eight
					t.Errorf("%s %d: %d of %d lost", name, at, lost, len(bodies))
				}
			}
		}
	}
}

// What is whole is left alone; what drop names goes, and does not come back with an
// index that is made of the pack.
func TestMendDrops(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	var keep, drop objects.ID
	commit(t, db, odb.Durable, func(b *odb.Batch) {
		keep, drop = put(t, b, objects.Blob, text(1, 40<<10)), put(t, b, objects.Blob, text(2, 1000))
	})
	names, err := db.PacksOf([]objects.ID{drop})
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	if did, err := db.Mend(t.Context(), names, nil); err != nil || len(did) != 0 {
		t.Errorf("to what is whole it does %+v, %v", did, err)
	}
	did, err := db.Mend(t.Context(), names, func(id objects.ID) bool { return id == drop })
	if err != nil || len(did) != 1 || !slices.Equal(did[0].Dropped, []objects.ID{drop}) {
		t.Errorf("Mend = %+v, %v", did, err)
	}
	test.CutShort(t, files(t, dir, "*.idx")[0], 10)
	db = open(t, dir)
	if missing, err := db.Missing(t.Context(), []objects.ID{keep, drop}); err != nil || !slices.Equal(missing, []objects.ID{drop}) {
		t.Errorf("missing is %v, %v", missing, err)
	}
}

// A delta whose base is a delta by now can be kept whole, and nothing is lost.
func TestKeepWhole(t *testing.T) {
	db := open(t, test.Dir(t))
	bodies := [][]byte{tree(200), tree(200, 7), tree(200, 7, 9)}
	ids := make([]objects.ID, len(bodies))
	for i, body := range bodies[:2] {
		commit(t, db, odb.Durable, func(b *odb.Batch) {
			var base objects.ID
			if i > 0 {
				base = ids[0]
			}
			var err error
			if ids[i], err = b.PutTree(body, base); err != nil {
				t.Fatal(err)
			}
		})
	}
	commit(t, db, odb.Durable, func(b *odb.Batch) { ids[2] = put(t, b, objects.Tree, bodies[2]) })
	// The base goes, and comes back as a delta.
	packs, err := db.PacksOf(ids[:1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Mend(t.Context(), packs, func(id objects.ID) bool { return id == ids[0] }); err != nil {
		t.Fatal(err)
	}
	if parts, err := db.Parts(t.Context(), ids[1]); err != nil || !slices.Equal(parts, ids[:1]) {
		t.Errorf("it lacks %v, %v; want its base", parts, err)
	}
	commit(t, db, odb.Durable, func(b *odb.Batch) {
		if _, err := b.PutTree(bodies[0], ids[2]); err != nil {
			t.Fatal(err)
		}
	})
	if _, _, err := db.ReadBytes(t.Context(), ids[1]); err == nil {
		t.Fatal("a delta of a delta can be read: there is nothing to test")
	}
	if whole, err := db.KeepWhole(t.Context(), ids[1:2]); err != nil || !slices.Equal(whole, ids[1:2]) {
		t.Errorf("KeepWhole = %v, %v", whole, err)
	}
	for _, body := range bodies {
		check(t, db, objects.Tree, body)
	}
	if p := verify(t, db); len(p) > 0 {
		t.Errorf("afterwards: %v", p)
	}
}

// mendAll is an interruption of Mend: packs whose end is damaged, and one that has
// something to drop, are written anew. What is good is there all the time.
func mendAll(t *testing.T) test.Case {
	const batches = 4
	drop := objects.Sum(objects.Blob, bodies(1)[2])
	mend := func(dir string) error {
		db, err := odb.Open(dir, odb.Options{})
		if err != nil {
			return err
		}
		defer db.Close()
		names, err := filepath.Glob(filepath.Join(dir, "*.pack"))
		if err != nil {
			return err
		}
		for i, name := range names {
			names[i] = strings.TrimSuffix(filepath.Base(name), ".pack")
		}
		did, err := db.Mend(context.Background(), names, func(id objects.ID) bool { return id == drop })
		for _, d := range did {
			err = errors.Join(err, d.Err)
		}
		return err
	}
	return test.Case{
		Max: test.Count(t, 200),
		Setup: func(dir string) error {
			err := setup(batches, odb.Durable)(dir)
			names, _ := filepath.Glob(filepath.Join(dir, "*.pack"))
			for _, name := range names[:2] {
				test.FlipBit(t, name, -1)
			}
			return err
		},
		Act: mend,
		Check: func(t *testing.T, dir string, err error) {
			for again := range 2 {
				db := open(t, dir)
				for n := range batches {
					for _, body := range bodies(n) {
						if id := objects.Sum(objects.Blob, body); id != drop {
							check(t, db, objects.Blob, body)
						}
					}
					check(t, db, objects.Tree, tree(100, n))
				}
				if again == 1 || err == nil {
					if p := verify(t, db); len(p) > 0 {
						t.Errorf("verify: %v", p)
					}
				}
				if err := mend(dir); err != nil {
					t.Error(err)
				}
			}
		},
	}
}

func TestFaultsAtMend(t *testing.T)   { mendAll(t).EveryStep(t) }
func TestPowerCutAtMend(t *testing.T) { mendAll(t).PowerCut(t) }
func TestKillAtMend(t *testing.T)     { mendAll(t).Kill(t) }
