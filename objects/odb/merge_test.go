package odb_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// putSome adds a small tree, a version of a bigger one and two blobs, all of
// them new, and returns what it added.
func putSome(t testing.TB, b *odb.Batch, n int) map[objects.ID][]byte {
	t.Helper()
	added := map[objects.ID][]byte{}
	for _, body := range [][]byte{text(uint64(n), 300), fmt.Append(nil, "number ", n)} {
		added[put(t, b, objects.Blob, body)] = body
	}
	var last objects.ID
	for _, body := range [][]byte{tree(20, n%20), tree(300, n%300), append(tree(300, n%300), fmt.Appendf(nil, "100644 z%d\x00%032d", n, n)...)} {
		id, err := b.PutTree(body, last)
		if err != nil {
			t.Fatal(err)
		}
		added[id], last = body, id
	}
	return added
}

func checkAll(t testing.TB, r objects.BytesReader, want map[objects.ID][]byte) {
	t.Helper()
	for id, body := range want {
		if _, got, err := r.ReadBytes(t.Context(), id); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes, %v, want %d", id, len(got), err, len(body))
		}
	}
}

// However many batches there are, there are few packs.
func TestManyBatches(t *testing.T) {
	for _, d := range []odb.Durability{odb.Staged, odb.Durable} {
		dir := test.Dir(t)
		db, reader := open(t, dir), open(t, dir)
		want := map[objects.ID][]byte{}
		most := 0
		for n := range test.Count(t, 5000) {
			commit(t, db, d, func(b *odb.Batch) {
				for id, body := range putSome(t, b, n) {
					want[id] = body
				}
			})
			if n%100 == 50 {
				commit(t, db, d, func(b *odb.Batch) {
					body := noise(uint64(n), 700_000)
					want[put(t, b, objects.Blob, body)] = body
				})
			}
			most = max(most, packs(t, dir))
			if n%50 == 0 {
				checkAll(t, reader, want) // whose list of packs is old by now
			}
		}
		if most >= 50 {
			t.Errorf("up to %d packs", most)
		}
		t.Logf("up to %d packs, %d at last", most, packs(t, dir))
		checkAll(t, db, want)
		checkAll(t, open(t, dir), want)
		if p := verify(t, db); len(p) > 0 {
			t.Errorf("verify: %v", p)
		}
		if err := db.Seal(t.Context()); err != nil {
			t.Error(err)
		}
		if left := files(t, dir, "new-*"); len(left) > 0 {
			t.Errorf("after seal: %v", left)
		}
		if err := db.Consolidate(t.Context()); err != nil {
			t.Error(err)
		}
		checkAll(t, db, want)
		checkAll(t, reader, want)
		n := 0
		for info, err := range db.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := want[info.ID]; !ok && info.Kind != 0 {
				t.Errorf("All yields %s, which nobody put", info.ID)
			}
			if info.Kind != 0 {
				n++
			}
		}
		if n != len(want) {
			t.Errorf("All yields %d objects, want %d", n, len(want))
		}
	}
}

// Many processes add batches at the same time.
func TestManyProcesses(t *testing.T) {
	const dirEnv, numberEnv = "ODB_TEST_DIR", "ODB_TEST_NUMBER"
	each := test.Count(t, 80)
	if dir := os.Getenv(dirEnv); dir != "" {
		var number int
		fmt.Sscan(os.Getenv(numberEnv), &number)
		db := open(t, dir)
		for i := range each {
			n := number*each + i
			d := odb.Staged
			if i%5 == 4 {
				d = odb.Durable
			}
			var added map[objects.ID][]byte
			commit(t, db, d, func(b *odb.Batch) { added = putSome(t, b, n) })
			checkAll(t, db, added)
		}
		return
	}
	dir := test.Dir(t)
	const processes = 64
	var all []*exec.Cmd
	outs := make([]bytes.Buffer, processes)
	for i := range processes {
		cmd := test.Again(t)
		cmd.Env = append(cmd.Env, dirEnv+"="+dir, fmt.Sprint(numberEnv, "=", i))
		cmd.Stdout, cmd.Stderr = &outs[i], &outs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	done := make(chan bool)
	most := 0
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				most = max(most, packs(t, dir))
			}
		}
	})
	defer func() {
		if most >= 50 {
			t.Errorf("up to %d packs", most)
		}
		t.Logf("up to %d packs", most)
	}()
	for i, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v\n%s", i, err, outs[i].Bytes())
		}
	}
	close(done)
	watching.Wait()
	db := open(t, dir)
	for n := range processes * each {
		checkAll(t, db, map[objects.ID][]byte{
			objects.Sum(objects.Blob, text(uint64(n), 300)): text(uint64(n), 300),
			objects.Sum(objects.Tree, tree(300, n%300)):     tree(300, n%300),
		})
	}
	if p := verify(t, db); len(p) > 0 {
		t.Errorf("verify: %v", p)
	}
}

// Merging keeps good copies, and leaves packs alone that it can't read.
func TestMergeWithDamage(t *testing.T) {
	dir := test.Dir(t)
	shared := noise(1, 5000)
	// The same object in two packs: two batches that did not know of each other.
	db := open(t, dir)
	one, two := batch(t, db, odb.BatchOptions{}), batch(t, db, odb.BatchOptions{})
	for i, b := range []*odb.Batch{one, two} {
		put(t, b, objects.Blob, shared)
		put(t, b, objects.Blob, fmt.Append(nil, "only in ", i))
	}
	if err := one.Commit(t.Context(), odb.Durable); err != nil {
		t.Fatal(err)
	}
	name := files(t, dir, "*.pack")[0]
	test.FlipBit(t, name, 8*2000)
	if err := two.Commit(t.Context(), odb.Durable); err != nil {
		t.Fatal(err)
	}
	two.Close()
	one.Close()
	db = open(t, dir)
	for n := range 30 {
		commit(t, db, odb.Durable, func(b *odb.Batch) { putSome(t, b, n) })
	}
	if _, err := os.Stat(name); err != nil {
		t.Errorf("the damaged pack: %v", err)
	}
	db = open(t, dir)
	check(t, db, objects.Blob, shared)
	check(t, db, objects.Blob, []byte("only in 1"))
	if _, _, err := db.ReadBytes(t.Context(), objects.Sum(objects.Blob, []byte("only in 0"))); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("what is damaged: %v", err)
	}
}

// A pack that was not synced, and has seen a reboot, is believed only if it is
// whole.
func TestStagedAcrossReboot(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	var whole, torn objects.ID
	commit(t, db, odb.Staged, func(b *odb.Batch) { whole = put(t, b, objects.Blob, noise(1, 5000)) })
	before := files(t, dir, "*.pack")[0]
	commit(t, db, odb.Staged, func(b *odb.Batch) { torn = put(t, b, objects.Blob, noise(2, 5000)) })
	for _, name := range files(t, dir, "*.pack") {
		if name != before {
			test.FlipBit(t, name, -8*100)
		}
	}
	defer odb.Reboot("deadbeef")()
	db = open(t, dir)
	check(t, db, objects.Blob, noise(1, 5000))
	if missing, err := db.Missing(t.Context(), []objects.ID{whole, torn}); err != nil || len(missing) != 1 || missing[0] != torn {
		t.Errorf("Missing = %v, %v", missing, err)
	}
	if p := verify(t, db); len(p) > 0 {
		t.Errorf("verify: %v", p)
	}
	commit(t, db, odb.Durable, func(b *odb.Batch) { put(t, b, objects.Blob, noise(2, 5000)) })
	if left := files(t, dir, "new-*"); len(left) > 0 {
		t.Errorf("after a durable commit: %v", left)
	}
	check(t, db, objects.Blob, noise(1, 5000))
	check(t, db, objects.Blob, noise(2, 5000))
}

// A big pack is sealed in place.
func TestSealBig(t *testing.T) {
	dir := test.Dir(t)
	db, reader := open(t, dir), open(t, dir)
	commit(t, db, odb.Staged, func(b *odb.Batch) {
		put(t, b, objects.Blob, noise(1, 5<<20))
		put(t, b, objects.Tree, tree(10))
	})
	check(t, reader, objects.Blob, noise(1, 5<<20))
	if n := len(files(t, dir, "new-*.pack")); n != 2 {
		t.Errorf("%d staged packs", n)
	}
	if err := db.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir, "new-*"); len(left) > 0 {
		t.Errorf("after seal: %v", left)
	}
	for _, r := range []*odb.DB{db, reader, open(t, dir)} {
		check(t, r, objects.Blob, noise(1, 5<<20))
		check(t, r, objects.Tree, tree(10))
	}
	u, err := db.Usage()
	if err != nil || u.Packs != 2 || u.Staged != 0 || u.Bytes < 5<<20 {
		t.Errorf("Usage = %+v, %v", u, err)
	}
}

func TestSealAndMergeOfNothing(t *testing.T) {
	db := open(t, filepath.Join(test.Dir(t), "not there yet"))
	if err := db.Seal(t.Context()); err != nil {
		t.Error(err)
	}
	if err := db.Consolidate(t.Context()); err != nil {
		t.Error(err)
	}
	if p := verify(t, db); len(p) > 0 {
		t.Errorf("verify: %v", p)
	}
}

func TestLostIndexes(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	want := map[objects.ID][]byte{}
	for n := range 3 {
		commit(t, db, odb.Durable, func(b *odb.Batch) {
			for id, body := range putSome(t, b, n) {
				want[id] = body
			}
		})
	}
	for _, tt := range []struct {
		name  string
		spoil func(name string)
		quiet bool
	}{
		{"removed", func(name string) { os.Remove(name) }, true},
		{"empty", func(name string) { test.CutShort(t, name, 0) }, false},
		{"cut short", func(name string) { test.CutShort(t, name, -1) }, false},
		{"another one", func(name string) {
			other, _ := os.ReadFile(files(t, dir, "*.idx")[0])
			os.WriteFile(name, other, 0o666)
		}, false},
	} {
		spoiled := files(t, dir, "*.idx")
		for _, name := range spoiled[1:] {
			tt.spoil(name)
		}
		var warnings []error
		db, err := odb.Open(dir, odb.Options{Warn: func(err error) { warnings = append(warnings, err) }})
		if err != nil {
			t.Fatal(err)
		}
		for id, body := range want {
			if _, got, err := db.ReadBytes(t.Context(), id); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if tt.quiet != (len(warnings) == 0) {
			t.Errorf("%s: warnings %v", tt.name, warnings)
		}
		if left := files(t, dir, "*.idx"); len(left) != len(spoiled) {
			t.Errorf("%s: %d indexes of %d were made anew", tt.name, len(left), len(spoiled))
		}
		if p := verify(t, open(t, dir)); len(p) > 0 {
			t.Errorf("%s: verify afterwards: %v", tt.name, p)
		}
	}
}

func TestNewerPack(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	var id objects.ID
	commit(t, db, odb.Durable, func(b *odb.Batch) { id = put(t, b, objects.Blob, []byte("hello")) })
	for _, name := range files(t, dir, "*.*") {
		if strings.HasSuffix(name, ".idx") || strings.HasSuffix(name, ".pack") {
			test.FlipBit(t, name, 8*7+1) // version 3
		}
	}
	_, _, err := open(t, dir).ReadBytes(t.Context(), id)
	if err == nil || errors.Is(err, objects.ErrNotFound) || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("read: %v", err)
	}
}

// Wherever a bit is flipped, nobody gets wrong bytes, and fsck sees it.
func TestFlippedAnywhere(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	want := map[objects.ID][]byte{}
	for n := range 2 {
		commit(t, db, odb.Durable, func(b *odb.Batch) {
			for id, body := range putSome(t, b, n) {
				want[id] = body
			}
			big := text(uint64(n), 600_000)
			want[put(t, b, objects.Blob, big)] = big
		})
	}
	originals := map[string][]byte{}
	for _, name := range append(files(t, dir, "*.pack"), files(t, dir, "*.idx")...) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		originals[name] = data
	}
	step := 0
	for name, data := range originals {
		for range test.Count(t, 300) {
			step++
			bit := int64(step*7919) % int64(8*len(data))
			test.FlipBit(t, name, bit)
			if p := verify(t, open(t, dir)); len(p) == 0 {
				t.Errorf("bit %d of %s: verify saw nothing", bit, filepath.Base(name))
			}
			restoreFile(t, name, data)
			test.FlipBit(t, name, bit)
			db, err := odb.Open(dir, odb.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for id, body := range want {
				_, got, err := db.ReadBytes(t.Context(), id)
				if err == nil && !bytes.Equal(got, body) || err != nil && !errors.Is(err, objects.ErrNotFound) && !strings.Contains(err.Error(), "version") {
					t.Errorf("bit %d of %s: %d bytes, %v", bit, filepath.Base(name), len(got), err)
				}
				if err != nil && strings.HasSuffix(name, ".idx") && !strings.Contains(err.Error(), "version") {
					t.Errorf("bit %d of %s: %v, and the pack is whole", bit, filepath.Base(name), err)
				}
			}
			db.Close()
			for name, data := range originals {
				restoreFile(t, name, data)
			}
		}
	}
}

func restoreFile(t *testing.T, name string, data []byte) {
	t.Helper()
	os.Remove(name)
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
}
