package bucket_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

func openCached(b remote.Bucket, dir string) *bucket.Remote {
	r := bucket.Open(b)
	r.KeepIn(dir)
	return r
}

// TestCached runs the suite with all clients sharing a cache.
func TestCached(t *testing.T) {
	remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
		b, dir := remotetest.NewStrict(t), filepath.Join(test.Dir(t), "cache")
		return func() remote.Remote { return openCached(b, dir) }
	})
}

// manyBlobs are so many that their index is not read as a whole at once.
func manyBlobs(n int) (items []remotetest.Item, ids []objects.ID) {
	for i := range n {
		items = append(items, remotetest.Blob(fmt.Sprint(i)))
		ids = append(ids, items[i].ID())
	}
	return items, ids
}

// TestCacheSpares looks for what is in an index that this machine has written or
// read: nothing of it is read again, nor is the root before something is missing.
func TestCacheSpares(t *testing.T) {
	mem := remotetest.NewStrict(t)
	items, ids := manyBlobs(50_000)
	writer, reader := filepath.Join(test.Dir(t), "writer"), filepath.Join(test.Dir(t), "reader")
	remotetest.Upload(t, openCached(mem, writer), items...)
	more := remotetest.Blob("more")
	remotetest.Upload(t, bucket.Open(mem), more) // somebody else

	look := func(dir string) map[string]int64 {
		b := &reads{Bucket: mem}
		r := openCached(b, dir)
		if missing, err := r.Missing(t.Context(), append(slices.Clone(ids), objects.ID{1}, more.ID())); err != nil || !slices.Equal(missing, []objects.ID{{1}}) {
			t.Fatalf("%d missing: %v", len(missing), err)
		}
		remotetest.WantFetched(t, openCached(b, dir), items[17], items[40_000], more)
		return b.of
	}
	if of := look(writer); of["indexes"] > 1<<10 {
		t.Errorf("%d bytes of indexes were read by who has written them", of["indexes"])
	}
	if of := look(reader); of["indexes"] < 1<<20 {
		t.Errorf("%d bytes of indexes were read by somebody new", of["indexes"])
	}
	if of := look(reader); of["indexes"] > 0 || of["roots"] > 0 {
		t.Errorf("%v bytes were read by who has read it all before", of)
	}
	// A fetch does not even ask which root there is.
	b := &reads{Bucket: mem}
	remotetest.WantFetched(t, openCached(b, reader), items[3])
	if b.roots > 0 || len(b.of) != 1 {
		t.Errorf("a fetch read %v, and the root %d times", b.of, b.roots)
	}
}

// TestCacheIsBehind fetches what came after the cache was written, and what was in
// packs that are gone since.
func TestCacheIsBehind(t *testing.T) {
	mem := remotetest.NewStrict(t)
	dir := filepath.Join(test.Dir(t), "cache")
	one, two := remotetest.Blob("one"), remotetest.Blob("two")
	remotetest.Upload(t, openCached(mem, dir), one)
	remotetest.Upload(t, bucket.Open(mem), two)
	remotetest.WantFetched(t, openCached(mem, dir), two)

	if err := bucket.Condemn(t.Context(), bucket.Open(mem), one.ID()); err != nil {
		t.Fatal(err)
	}
	remotetest.Upload(t, bucket.Open(mem), one, remotetest.Blob("three"))
	for info, err := range mem.List(t.Context(), "packs") {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := bucket.Open(mem).State(t.Context()); err != nil || !named(s, info.Name) {
			if err := mem.Delete(t.Context(), info.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	remotetest.WantFetched(t, openCached(mem, dir), one)

	// Indexes that no root names are dropped.
	most := 0
	s, err := bucket.Open(mem).State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name := range files(t, dir) {
		if filepath.Ext(name) == ".idx" {
			most++
		}
	}
	if most > len(s.Indexes) {
		t.Errorf("%d indexes in the cache, %d in the bucket", most, len(s.Indexes))
	}
}

func named(s *bucket.State, file string) bool {
	for p := range s.Packs {
		if file == "packs/"+p.String()+".pack" {
			return true
		}
	}
	return false
}

func files(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int64{}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = fi.Size()
	}
	return all
}

// TestCacheIsDamaged flips a bit anywhere in the cache, or cuts a file short: nobody
// sees a difference.
func TestCacheIsDamaged(t *testing.T) {
	mem := remotetest.NewStrict(t)
	items, ids := manyBlobs(30_000)
	dir := filepath.Join(test.Dir(t), "cache")
	remotetest.Upload(t, bucket.Open(mem), items...)
	for i := range test.Count(t, 300) {
		r := openCached(mem, dir)
		if i%2 == 0 { // only heads
			if missing, err := r.Missing(t.Context(), ids[:3]); err != nil || len(missing) > 0 {
				t.Fatalf("%d missing: %v", len(missing), err)
			}
		} else if missing, err := r.Missing(t.Context(), append(slices.Clone(ids), objects.ID{1})); err != nil || len(missing) != 1 {
			t.Fatalf("%d missing: %v", len(missing), err)
		}
		for name, size := range files(t, dir) {
			if size == 0 {
				continue
			}
			if i%3 == 0 {
				test.CutShort(t, filepath.Join(dir, name), int64(i)*7919%size)
			} else {
				test.FlipBit(t, filepath.Join(dir, name), int64(i)*104_729%(8*size))
			}
		}
		remotetest.WantFetched(t, openCached(mem, dir), items[i], items[29_999-i])
	}
}
