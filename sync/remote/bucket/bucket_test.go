package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/dir"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

func TestMemory(t *testing.T) {
	remotetest.RunRemote(t, func(*testing.T) func() remote.Remote {
		b := new(remotetest.Memory)
		return func() remote.Remote { return bucket.Open(b) }
	})
}

func TestStrict(t *testing.T) {
	remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
		b := remotetest.NewStrict(t)
		return func() remote.Remote { return bucket.Open(b) }
	})
}

func TestDir(t *testing.T) {
	remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
		path := filepath.Join(test.Dir(t), "bucket")
		return func() remote.Remote { return bucket.Open(dir.Open(path)) }
	})
}

// TestFaults lets a tenth of all calls fail, done or not: pushes fail, but what
// was acknowledged is there, and no ref names what is not.
func TestFaults(t *testing.T) {
	strict := remotetest.NewStrict(t)
	faulty := &remotetest.Faulty{Bucket: strict, Plan: remotetest.Often(10)}
	acknowledged := map[refs.Name]objects.ID{}
	var uploaded []remotetest.Item
	pushes, failures := test.Count(t, 600), 0
	for i := range pushes {
		r := bucket.Open(faulty)
		blob := remotetest.Blob(fmt.Sprint("blob ", i))
		tree := remotetest.Tree("a", blob)
		commit := remotetest.Commit(i, tree)
		p := remotetest.Pack(t, []remotetest.Item{blob, tree, commit})
		if err := r.Upload(t.Context(), bytes.NewReader(p), int64(len(p))); err != nil {
			failures++
			continue
		}
		uploaded = append(uploaded, blob, tree, commit)
		name := refs.Branch(fmt.Sprint(i % 5))
		if err := r.Update(t.Context(), refs.Update{Name: name, Old: acknowledged[name], New: commit.ID()}); err != nil {
			failures++
			// Nobody knows; but one or the other it is.
			is := refIn(t, bucket.Open(strict), name)
			if is != commit.ID() && is != acknowledged[name] {
				t.Fatalf("%s is at %s", name, is)
			}
			acknowledged[name] = is
			continue
		}
		acknowledged[name] = commit.ID()
	}
	if failures == 0 || failures == pushes {
		t.Errorf("%d of %d pushes failed", failures, pushes)
	}
	r := bucket.Open(strict)
	remotetest.WantFetched(t, r, uploaded...)
	for name, id := range acknowledged {
		if is := refIn(t, r, name); is != id {
			t.Errorf("%s is at %s, want %s", name, is.Short(), id.Short())
		}
	}
}

func refIn(t *testing.T, r remote.Remote, name refs.Name) (id objects.ID) {
	t.Helper()
	for ref, err := range r.Refs(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if ref.Name == name {
			id = ref.ID
		}
	}
	return id
}

// TestLostReply: the swap was done and reported as failed, or as lost.
func TestLostReply(t *testing.T) {
	for _, fault := range []remotetest.Fault{remotetest.Fail, remotetest.DoneFail} {
		mem := new(remotetest.Memory)
		a := remotetest.Blob("a")
		remotetest.Upload(t, bucket.Open(mem), a)
		r := bucket.Open(&remotetest.Faulty{Bucket: mem, Plan: remotetest.At("swap", 1, fault)})
		err := r.Update(t.Context(), refs.Update{Name: "refs/tags/a", New: a.ID()})
		if done := fault == remotetest.DoneFail; done != (err == nil) {
			t.Errorf("fault %d: %v", fault, err)
		}
	}
}

// TestCondemned: what a push relied on must not go before the push is done.
func TestCondemned(t *testing.T) {
	mem := remotetest.NewStrict(t)
	a, b := remotetest.Blob("a"), remotetest.Blob("b")
	r := bucket.Open(mem)
	remotetest.Upload(t, r, a)
	push, reader := bucket.Open(mem), bucket.Open(mem)
	if missing, err := push.Missing(t.Context(), []objects.ID{a.ID()}); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	remotetest.WantFetched(t, reader, a)
	remotetest.Upload(t, push, b)
	if err := bucket.Condemn(t.Context(), r, a.ID()); err != nil {
		t.Fatal(err)
	}
	update := refs.Update{Name: "refs/tags/b", New: b.ID()}
	if err := push.Update(t.Context(), update); !errors.Is(err, remote.ErrStale) {
		t.Errorf("Update: %v", err)
	}
	missing, err := push.Missing(t.Context(), []objects.ID{a.ID(), b.ID()})
	if err != nil || !slices.Equal(missing, []objects.ID{a.ID()}) {
		t.Errorf("Missing: %v, %v", missing, err)
	}
	remotetest.WantFetched(t, reader, a) // its root is older, and the pack is still there
	remotetest.Upload(t, push, a)        // the same bytes again
	if err := push.Update(t.Context(), update); err != nil {
		t.Error(err)
	}
	remotetest.WantFetched(t, bucket.Open(mem), a, b)
}

// TestDamagedCopy: of two packs with the same object one is damaged, or gone.
func TestDamagedCopy(t *testing.T) {
	for _, damage := range []func(path string){
		func(path string) { test.FlipBit(t, path, 8*30) },
		func(path string) { test.CutShort(t, path, 30) },
		func(path string) { os.Remove(path) },
	} {
		for first := range 2 {
			path := test.Dir(t)
			a := remotetest.Blob("a")
			r := bucket.Open(dir.Open(path))
			remotetest.Upload(t, r, a, remotetest.Blob("b"))
			remotetest.Upload(t, r, a, remotetest.Blob("c"))
			packs, err := filepath.Glob(filepath.Join(path, "packs/*.pack"))
			if err != nil || len(packs) != 2 {
				t.Fatal(packs, err)
			}
			damage(packs[first])
			remotetest.WantFetched(t, bucket.Open(dir.Open(path)), a)
			damage(packs[1-first])
			if _, err := remotetest.Fetch(t.Context(), bucket.Open(dir.Open(path)), a.ID()); err == nil {
				t.Error("fetched from two damaged packs")
			}
		}
	}
}

// TestFilesStayFew: pushes leave behind few roots and indexes, and a reader who
// has an old root still finds what it names.
func TestFilesStayFew(t *testing.T) {
	mem := remotetest.NewStrict(t)
	var all []remotetest.Item
	reader := bucket.Open(mem)
	for i := range 60 {
		item := remotetest.Blob(fmt.Sprint(i))
		all = append(all, item)
		remotetest.Upload(t, bucket.Open(mem), item)
		if i == 20 {
			remotetest.WantFetched(t, reader, all...)
		}
	}
	remotetest.WantFetched(t, reader, all[:20]...)
	remotetest.WantFetched(t, reader, all...)
	s, err := reader.State(t.Context())
	if err != nil || len(s.Indexes) > 10 {
		t.Errorf("%d indexes: %v", len(s.Indexes), err)
	}
	for dir, most := range map[string]int{"roots": 17, "indexes": len(s.Indexes) + len(s.Dropped), "packs": 60} {
		n := 0
		for range mem.List(t.Context(), dir) {
			n++
		}
		if n > most {
			t.Errorf("%d files in %s, want %d", n, dir, most)
		}
	}
}

// TestBigIndex looks up in an index that is not read as a whole.
func TestBigIndex(t *testing.T) {
	mem := remotetest.NewStrict(t)
	r := bucket.Open(mem)
	var all []remotetest.Item
	for i := range 25_000 {
		all = append(all, remotetest.Blob(fmt.Sprint(i)))
	}
	remotetest.Upload(t, r, all...)
	remotetest.Upload(t, r, remotetest.Blob("more"))
	r = bucket.Open(mem)
	remotetest.WantFetched(t, r, all[7], all[12_000], remotetest.Blob("more"))
	var ids []objects.ID
	for i := range all {
		ids = append(ids, all[i].ID(), remotetest.Blob(fmt.Sprint("none", i)).ID())
	}
	for _, step := range []int{1, 2, 1999} { // all; none that is missing; few
		var ask, want []objects.ID
		for i := 0; i < len(ids); i += step {
			if ask = append(ask, ids[i]); i%2 == 1 {
				want = append(want, ids[i])
			}
		}
		if missing, err := r.Missing(t.Context(), ask); err != nil || !slices.Equal(missing, want) {
			t.Errorf("%d of %d missing, want %d: %v", len(missing), len(ask), len(want), err)
		}
	}
	// Twice as many again: the big index is merged with a bigger one.
	for i := range 25_000 {
		all = append(all, remotetest.Blob(fmt.Sprint("again", i)))
	}
	remotetest.Upload(t, r, all[25_000:]...)
	remotetest.WantFetched(t, bucket.Open(mem), all[7], all[49_999], remotetest.Blob("more"))
	if s, err := r.State(t.Context()); err != nil || len(s.Indexes) != 1 {
		t.Errorf("%d indexes: %v", len(s.Indexes), err)
	}
}

// reads counts the bytes that are asked for of each kind of file.
type reads struct {
	remote.Bucket
	mu    sync.Mutex
	of    map[string]int64 // guarded by mu
	roots int              // guarded by mu; how often the root was asked for
}

func (r *reads) Root(ctx context.Context) (remote.Root, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roots++
	return r.Bucket.Root(ctx)
}

func (r *reads) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]int64{}
	}
	r.of[path.Dir(name)] += n
	return r.Bucket.Get(ctx, name, off, n)
}

// TestNewestFirst fetches what came last, which stands in a small index: a big one
// is not looked at.
func TestNewestFirst(t *testing.T) {
	mem := remotetest.NewStrict(t)
	r := bucket.Open(mem)
	var all []remotetest.Item
	for i := range 50_000 {
		all = append(all, remotetest.Blob(fmt.Sprint(i)))
	}
	remotetest.Upload(t, r, all...)
	before := &reads{Bucket: mem}
	remotetest.WantFetched(t, bucket.Open(before), all[:1000]...)

	last := []remotetest.Item{remotetest.Blob("last"), remotetest.Blob("last of all")}
	remotetest.Upload(t, r, last...)
	after := &reads{Bucket: mem}
	remotetest.WantFetched(t, bucket.Open(after), last...)
	if most := int64(1 << 10); after.of["indexes"] > most || before.of["indexes"] < most {
		t.Errorf("%d bytes of indexes, want at most %d; for what is older %d", after.of["indexes"], most, before.of["indexes"])
	}
}
