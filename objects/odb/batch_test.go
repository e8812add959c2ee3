package odb_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// files returns the names in dir that match a pattern.
func files(t testing.TB, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func packs(t testing.TB, dir string) int { return len(files(t, dir, "*.pack")) }

func TestBatchDropsWhatIsThere(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	big := text(1, 3<<20)
	putAll := func(b *odb.Batch) {
		put(t, b, objects.Blob, []byte("hello"))
		put(t, b, objects.Blob, []byte("hello"))
		put(t, b, objects.Blob, big)
	}
	commit(t, db, odb.Staged, putAll)
	before := files(t, dir, "*")
	commit(t, db, odb.Staged, putAll)
	commit(t, db, odb.Staged, func(*odb.Batch) {})
	if after := files(t, dir, "*"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("batches with nothing new changed %v to %v", before, after)
	}
}

func TestTinyBatchIsOnePack(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	commit(t, db, odb.Durable, func(b *odb.Batch) {
		put(t, b, objects.Blob, []byte("hello"))
		put(t, b, objects.Tree, objects.Entries{{Mode: objects.ModeFile, Name: "a"}}.Encode())
	})
	if n := packs(t, dir); n != 1 {
		t.Errorf("a tiny batch made %d packs", n)
	}
	commit(t, db, odb.Durable, func(b *odb.Batch) {
		put(t, b, objects.Blob, noise(1, 100_000))
		put(t, b, objects.Tree, objects.Entries{{Mode: objects.ModeFile, Name: "b"}}.Encode())
	})
	if n := packs(t, dir); n != 3 {
		t.Errorf("a bigger batch made %d packs, want one of trees and one of blobs", n-1)
	}
}

func TestCloseWithoutCommit(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	b := batch(t, db, odb.BatchOptions{})
	id := put(t, b, objects.Blob, noise(1, 300_000))
	put(t, b, objects.Blob, noise(2, 3<<20))
	b.Close()
	b.Close()
	if got := files(t, dir, "*"); len(got) != 2 || filepath.Base(got[0]) != "gate" || filepath.Base(got[1]) != "lock" {
		t.Errorf("left behind: %v", got)
	}
	if err := b.Commit(t.Context(), odb.Staged); !errors.Is(err, odb.ErrClosed) {
		t.Errorf("commit after close: %v", err)
	}
	if _, _, err := db.ReadBytes(t.Context(), id); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("read: %v", err)
	}
}

func TestCommitOnce(t *testing.T) {
	db := open(t, test.Dir(t))
	b := batch(t, db, odb.BatchOptions{})
	lane := b.Lane()
	if err := b.Commit(t.Context(), odb.Staged); err == nil {
		t.Error("commit with an open lane: no error")
	}
	lane.Close()
	b = batch(t, db, odb.BatchOptions{})
	put(t, b, objects.Blob, []byte("hello"))
	if err := b.Commit(t.Context(), odb.Staged); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), odb.Staged); !errors.Is(err, odb.ErrClosed) {
		t.Errorf("second commit: %v", err)
	}
}

// The lock is held until Close, not until Commit: the record that names the
// objects is written in between.
func TestBatchHoldsLock(t *testing.T) {
	dir := test.Dir(t)
	b := batch(t, open(t, dir), odb.BatchOptions{})
	put(t, b, objects.Blob, []byte("hello"))
	lock := filepath.Join(dir, "lock")
	if _, err := durable.TryExclusive(lock); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("before commit: %v", err)
	}
	if err := b.Commit(t.Context(), odb.Staged); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.TryExclusive(lock); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("after commit: %v", err)
	}
	b.Close()
	l, err := durable.TryExclusive(lock)
	if err != nil {
		t.Errorf("after close: %v", err)
	}
	l.Unlock()
}

func TestPutOfWrongSize(t *testing.T) {
	db := open(t, test.Dir(t))
	for _, size := range []int{100, 2 << 20} {
		for _, announced := range []int{size - 1, size + 1, size + 1<<20, 0, -1} {
			b := batch(t, db, odb.BatchOptions{})
			if id, err := b.Put(t.Context(), objects.Blob, int64(announced), bytes.NewReader(text(1, size))); err == nil {
				t.Errorf("%d bytes put as %d: %s", size, announced, id)
			}
			// The batch goes on.
			body := text(2, size)
			id, err := b.Put(t.Context(), objects.Blob, int64(size), bytes.NewReader(body))
			if err != nil || id != objects.Sum(objects.Blob, body) {
				t.Errorf("put of %d bytes: %s, %v", size, id, err)
			}
			if err := b.Commit(t.Context(), odb.Staged); err != nil {
				t.Error(err)
			}
			check(t, db, objects.Blob, body)
			b.Close()
		}
	}
}

// brokenReader fails after n bytes.
type brokenReader struct{ n int }

var errBroken = errors.New("broken reader")

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, errBroken
	}
	n := min(len(p), r.n)
	r.n -= n
	return n, nil
}

func TestPutOfBrokenReader(t *testing.T) {
	b := batch(t, open(t, test.Dir(t)), odb.BatchOptions{})
	for _, n := range []int{0, 100, 3 << 20} {
		if _, err := b.Put(t.Context(), objects.Blob, 5<<20, &brokenReader{n}); !errors.Is(err, errBroken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// bigText is cut into chunks, some of which are shared.
func bigText(seed uint64) []byte {
	return slices.Concat(text(seed, 1<<20), text(9, 1<<20), noise(seed, 100_000))
}

func TestLanes(t *testing.T) {
	for _, size := range []int{odb.SmallBlock, odb.BigBlock} {
		db := open(t, test.Dir(t))
		b := batch(t, db, odb.BatchOptions{BlockSize: size})
		var wg sync.WaitGroup
		for worker := range uint64(4) {
			wg.Go(func() {
				lane := b.Lane()
				defer lane.Close()
				for i := range uint64(60) {
					body := text(i%50, int(1+i*2000)) // the lanes bring the same
					p, err := lane.Space(len(body) + 10)
					if err != nil {
						t.Error(err)
						return
					}
					copy(p, body)
					if i%7 == worker {
						continue // changed its mind: the room is used again
					}
					id, err := lane.Add(len(body))
					if err != nil || id != objects.Sum(objects.Blob, body) {
						t.Errorf("Add = %s, %v", id, err)
						return
					}
					check(t, b, objects.Blob, body)
				}
				big := bigText(worker)
				if id, err := lane.PutReader(t.Context(), int64(len(big)), bytes.NewReader(big)); err != nil || id != objects.Sum(objects.Blob, big) {
					t.Errorf("PutReader = %s, %v", id, err)
				}
			})
		}
		wg.Wait()
		if err := b.Commit(t.Context(), odb.Durable); err != nil {
			t.Fatal(err)
		}
		for i := range uint64(60) {
			check(t, db, objects.Blob, text(i%50, int(1+i*2000)))
		}
		check(t, db, objects.Blob, bigText(3))
		if p := verify(t, db); len(p) > 0 {
			t.Errorf("verify: %v", p)
		}
	}
}

func TestSpaceHasALimit(t *testing.T) {
	lane := batch(t, open(t, test.Dir(t)), odb.BatchOptions{}).Lane()
	defer lane.Close()
	if p, err := lane.Space(odb.MaxSpace); err != nil || len(p) != odb.MaxSpace {
		t.Errorf("Space(MaxSpace) = %d bytes, %v", len(p), err)
	}
	if _, err := lane.Space(odb.MaxSpace + 1); err == nil {
		t.Error("Space(MaxSpace + 1): no error")
	}
}

// tree has n entries; those whose number is in changed have another id.
func tree(n int, changed ...int) []byte {
	var e objects.Entries
	for i := range n {
		id := objects.Sum(objects.Blob, fmt.Append(nil, i))
		for _, c := range changed {
			if c == i {
				id[0]++
			}
		}
		e = append(e, objects.Entry{Mode: objects.ModeFile, Name: fmt.Sprintf("name-%04d", i), ID: id})
	}
	return e.Encode()
}

func TestTreeDeltas(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	versions := [][]byte{tree(200), tree(200, 7), tree(200, 7, 8), tree(200, 7, 8, 100), tree(199, 7)}
	var base objects.ID
	var b *odb.Batch
	for i, body := range versions {
		if i%2 == 0 { // bases in the store and in the batch
			b = batch(t, db, odb.BatchOptions{})
		}
		id, err := b.PutTree(body, base)
		if err != nil || id != objects.Sum(objects.Tree, body) {
			t.Fatalf("PutTree = %s, %v", id, err)
		}
		check(t, b, objects.Tree, body)
		if i%2 == 1 || i == len(versions)-1 {
			if err := b.Commit(t.Context(), odb.Staged); err != nil {
				t.Fatal(err)
			}
			b.Close()
		}
		base = id
	}
	for _, body := range versions {
		check(t, db, objects.Tree, body)
		check(t, open(t, dir), objects.Tree, body)
	}
	stored := int64(0)
	for info, err := range db.All(t.Context()) {
		if err != nil || info.Kind != objects.Tree {
			t.Errorf("All: %+v, %v", info, err)
		}
		stored += info.Size
	}
	if stored > int64(len(versions[0]))+2000 {
		t.Errorf("%d versions of a tree of %d bytes take %d", len(versions), len(versions[0]), stored)
	}
	if p := verify(t, db); len(p) > 0 {
		t.Errorf("verify: %v", p)
	}
}

// A tree is stored whole if its base is not there, is no tree, or is not alike.
func TestTreeWithoutGoodBase(t *testing.T) {
	db := open(t, test.Dir(t))
	b := batch(t, db, odb.BatchOptions{})
	blob := put(t, b, objects.Blob, []byte("hello"))
	other := put(t, b, objects.Tree, tree(10))
	for i, base := range []objects.ID{{}, {1}, blob, other} {
		body := tree(100, i)
		if id, err := b.PutTree(body, base); err != nil || id != objects.Sum(objects.Tree, body) {
			t.Errorf("PutTree = %s, %v", id, err)
		}
		check(t, b, objects.Tree, body)
	}
	body := tree(50)
	if _, err := b.PutTree(body, objects.Sum(objects.Tree, body)); err != nil {
		t.Error(err)
	}
	check(t, b, objects.Tree, body)
}

// Objects that several batches bring at the same time may be stored twice, and
// are there when each has committed.
func TestConcurrentBatches(t *testing.T) {
	dir := test.Dir(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			db, err := odb.Open(dir, odb.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			for i := range uint64(20) {
				b, err := db.NewBatch(t.Context(), odb.BatchOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				body := text(i, 500)
				if _, err := b.PutBytes(objects.Blob, body); err != nil {
					t.Error(err)
				}
				if err := b.Commit(t.Context(), odb.Durability(i%2)); err != nil {
					t.Error(err)
				}
				check(t, db, objects.Blob, body)
				b.Close()
			}
		})
	}
	wg.Wait()
	db := open(t, dir)
	for i := range uint64(20) {
		check(t, db, objects.Blob, text(i, 500))
	}
	if p := verify(t, db); len(p) > 0 {
		t.Errorf("verify: %v", p)
	}
}

func TestReadMany(t *testing.T) {
	db := open(t, test.Dir(t))
	var ids []objects.ID
	var bodies [][]byte
	for round := range uint64(3) {
		commit(t, db, odb.Staged, func(b *odb.Batch) {
			for i := range uint64(100) {
				body := text(100*round+i, int(i*100))
				ids, bodies = append(ids, put(t, b, objects.Blob, body)), append(bodies, body)
			}
			base := put(t, b, objects.Tree, tree(100+int(round)))
			delta, err := b.PutTree(tree(100+int(round), 3), base)
			if err != nil {
				t.Fatal(err)
			}
			ids, bodies = append(ids, base, delta), append(bodies, tree(100+int(round)), tree(100+int(round), 3))
			big := text(round, 2<<20)
			ids, bodies = append(ids, put(t, b, objects.Blob, big)), append(bodies, big)
		})
	}
	ids, bodies = append(ids, ids[:50]...), append(bodies, bodies[:50]...) // wanted twice
	for _, o := range []odb.ManyOptions{{}, {Parallel: 1}, {Parallel: 4}, {Big: func(int, objects.ID, int64) error { return nil }}} {
		var mu sync.Mutex
		seen := make([]int, len(ids))
		if o.Big != nil {
			o.Big = func(i int, id objects.ID, size int64) error {
				mu.Lock()
				defer mu.Unlock()
				seen[i]++
				if id != ids[i] || size != int64(len(bodies[i])) || size < 1<<20 {
					t.Errorf("big %s of %d bytes", id, size)
				}
				return nil
			}
		}
		err := db.ReadMany(t.Context(), ids, o, func(i int, k objects.Kind, body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			seen[i]++
			if !bytes.Equal(body, bodies[i]) || objects.Sum(k, body) != ids[i] {
				t.Errorf("%d: %d bytes, want %d", i, len(body), len(bodies[i]))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		for i, n := range seen {
			if n != 1 {
				t.Errorf("%d was handed out %d times", i, n)
			}
		}
	}
	stop := errors.New("stop")
	if err := db.ReadMany(t.Context(), ids, odb.ManyOptions{}, func(int, objects.Kind, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("fn failed: %v", err)
	}
	absent := append(ids[:3:3], objects.ID{1})
	if err := db.ReadMany(t.Context(), absent, odb.ManyOptions{}, func(int, objects.Kind, []byte) error { return nil }); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("one is missing: %v", err)
	}
	var lost []int
	err := db.ReadMany(t.Context(), absent, odb.ManyOptions{Parallel: 1, Lost: func(i int, _ objects.ID, err error) error {
		lost = append(lost, i)
		return nil
	}}, func(int, objects.Kind, []byte) error { return nil })
	if err != nil || len(lost) != 1 || lost[0] != 3 {
		t.Errorf("lost %v, %v", lost, err)
	}
}

func TestMissing(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	if got, err := db.Missing(t.Context(), []objects.ID{{1}}); err != nil || len(got) != 1 {
		t.Errorf("Missing in an empty store = %v, %v", got, err)
	}
	other := open(t, dir)
	var id objects.ID
	commit(t, other, odb.Staged, func(b *odb.Batch) {
		id = put(t, b, objects.Blob, []byte("hello"))
		if got, err := b.Missing(t.Context(), []objects.ID{{1}, id, {2}}); err != nil || fmt.Sprint(got) != fmt.Sprint([]objects.ID{{1}, {2}}) {
			t.Errorf("Batch.Missing = %v, %v", got, err)
		}
	})
	// What another process has added since is found too.
	if got, err := db.Missing(t.Context(), []objects.ID{{1}, id, {2}}); err != nil || fmt.Sprint(got) != fmt.Sprint([]objects.ID{{1}, {2}}) {
		t.Errorf("Missing = %v, %v", got, err)
	}
}

// Chunks live beneath blobs: nobody can ask for one.
func TestChunksAreNoObjects(t *testing.T) {
	db := open(t, test.Dir(t))
	commit(t, db, odb.Staged, func(b *odb.Batch) { put(t, b, objects.Blob, noise(1, 2<<20)) })
	chunks := 0
	for info, err := range db.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if info.Kind != 0 {
			if info.Size != 2<<20 {
				t.Errorf("blob of %d bytes", info.Size)
			}
			continue
		}
		chunks++
		if _, _, err := db.ReadBytes(t.Context(), info.ID); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("read a chunk: %v", err)
		}
		if _, err := db.Open(t.Context(), info.ID); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("open a chunk: %v", err)
		}
		if _, _, err := db.Stat(t.Context(), info.ID); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("stat a chunk: %v", err)
		}
	}
	if chunks == 0 {
		t.Error("no chunks")
	}
}

// Versions of a big blob share what did not change.
func TestChunksAreShared(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	one := noise(1, 4<<20)
	two := bytes.Clone(one)
	copy(two[2<<20:], "changed")
	commit(t, db, odb.Staged, func(b *odb.Batch) { put(t, b, objects.Blob, one) })
	before, _ := db.Usage()
	commit(t, db, odb.Staged, func(b *odb.Batch) { put(t, b, objects.Blob, two) })
	after, _ := db.Usage()
	if grown := after.Bytes - before.Bytes; grown > 300_000 {
		t.Errorf("a change of 7 bytes costs %d", grown)
	}
	check(t, db, objects.Blob, one)
	check(t, db, objects.Blob, two)
}

func TestBodyAfterClose(t *testing.T) {
	db := open(t, test.Dir(t))
	big := text(1, 2<<20)
	commit(t, db, odb.Staged, func(b *odb.Batch) { put(t, b, objects.Blob, big) })
	o, err := db.Open(t.Context(), objects.Sum(objects.Blob, big))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Body.Read(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	o.Body.Close()
	o.Body.Close()
	if _, err := io.Copy(io.Discard, o.Body); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read after close: %v", err)
	}
}

func TestNotADirectory(t *testing.T) {
	name := filepath.Join(test.Dir(t), "file")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	db := open(t, name)
	if _, _, err := db.ReadBytes(t.Context(), objects.ID{1}); err == nil || errors.Is(err, objects.ErrNotFound) {
		t.Errorf("read: %v", err)
	}
	if _, err := db.NewBatch(t.Context(), odb.BatchOptions{}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("batch: %v", err)
	}
}

// Huge blobs go the slow way at first and the quick way later, and share chunks.
func TestHugeBlobs(t *testing.T) {
	db := open(t, test.Dir(t))
	b := batch(t, db, odb.BatchOptions{BlockSize: odb.BigBlock})
	one := bytes.Repeat(noise(1, 1<<20), 17)
	for i := range 17 {
		copy(one[i<<20:], noise(uint64(i), 100_000))
	}
	two := slices.Concat(one[:5<<20], []byte("inserted"), one[5<<20:])
	put(t, b, objects.Blob, one)
	b.NextHugeIsFast()
	put(t, b, objects.Blob, two)
	put(t, b, objects.Blob, append(two, noise(30, 3<<20)...))
	if err := b.Commit(t.Context(), odb.Staged); err != nil {
		t.Fatal(err)
	}
	check(t, db, objects.Blob, one)
	check(t, db, objects.Blob, two)
	check(t, db, objects.Blob, append(two, noise(30, 3<<20)...))
	if u, err := db.Usage(); err != nil || u.Bytes > 8<<20 {
		t.Errorf("Usage = %+v, %v", u, err)
	}
}
