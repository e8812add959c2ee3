// Package remotetest holds what every remote.Bucket and every remote.Remote must
// do, as tests, and buckets in memory: one as it should be, one that is as
// strict as the interface allows, and one that fails.
package remotetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// racers is how many clients race.
const racers = 8

// RunBucket tests a bucket. Each call of fresh makes a new empty one and returns
// a function that returns a client of it, a new one each time if that can be.
func RunBucket(t *testing.T, fresh func(t *testing.T) (client func() remote.Bucket)) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, func() remote.Bucket)
	}{
		{"Empty", testEmpty},
		{"Files", testFiles},
		{"Names", testNames},
		{"List", testList},
		{"Swap", testSwap},
		{"Cancelled", testCancelledBucket},
		{"NoTornReads", testNoTornReads},
		{"RaceSwap", testRaceSwap},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, fresh(t)) })
	}
	t.Run("RaceFirst", func(t *testing.T) { testRaceFirst(t, fresh) })
}

func put(t *testing.T, b remote.Bucket, name string, data []byte) {
	t.Helper()
	if err := b.Put(t.Context(), name, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatalf("Put(%s): %v", name, err)
	}
}

func get(ctx context.Context, b remote.Bucket, name string, off, n int64) ([]byte, error) {
	body, err := b.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	if closed := body.Close(); err == nil {
		err = closed
	}
	return data, err
}

func list(t *testing.T, b remote.Bucket, dir string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for info, err := range b.List(t.Context(), dir) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := all[info.Name]; twice {
			t.Errorf("%s is listed twice", info.Name)
		}
		all[info.Name] = info.Size
	}
	return all
}

func wantRoot(t *testing.T, b remote.Bucket, want remote.Root) {
	t.Helper()
	if got, err := b.Root(t.Context()); err != nil || got != want {
		t.Errorf("Root: %v, %v, want %v", got, err, want)
	}
}

func noise(n int) []byte {
	p := make([]byte, n)
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	rand.NewChaCha8(seed).Read(p)
	return p
}

func testEmpty(t *testing.T, client func() remote.Bucket) {
	b := client()
	wantRoot(t, b, remote.Root{})
	for _, dir := range remote.Dirs {
		if got := list(t, b, dir); len(got) > 0 {
			t.Errorf("%s has %v", dir, got)
		}
	}
	if _, err := get(t.Context(), b, "packs/a.pack", 0, -1); !errors.Is(err, remote.ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	if err := b.Delete(t.Context(), "packs/a.pack"); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

func testFiles(t *testing.T, client func() remote.Bucket) {
	b := client()
	for i, size := range []int{0, 1, 4095, 3 << 20} {
		name, data := fmt.Sprintf("packs/%d.pack", i), noise(size)
		put(t, b, name, data)
		put(t, b, name, data)
		if got, err := get(t.Context(), client(), name, 0, -1); err != nil || !bytes.Equal(got, data) {
			t.Errorf("of %d bytes put, got %d: %v", size, len(got), err)
		}
		n := int64(size)
		for _, r := range [][2]int64{{0, n}, {n / 3, n / 2}, {n - 1, 1}, {n / 2, -1}, {0, 0}, {n / 2, 0}} {
			off, n := max(0, r[0]), r[1]
			if size == 0 {
				n = min(n, 0)
			}
			want := data[off:]
			if n >= 0 {
				want = want[:n]
			}
			if got, err := get(t.Context(), b, name, off, n); err != nil || !bytes.Equal(got, want) {
				t.Errorf("Get(%d of %d bytes at %d): %d bytes, %v", n, size, off, len(got), err)
			}
		}
		for _, r := range [][2]int64{{0, n + 1}, {n, 1}, {n + 5, 1}, {n / 2, n}} {
			if r[0]+r[1] <= n {
				continue
			}
			if got, err := get(t.Context(), b, name, r[0], r[1]); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("Get(%d bytes at %d of %d): %d bytes, %v", r[1], r[0], size, len(got), err)
			}
		}
		if err := b.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
		if _, err := get(t.Context(), b, name, 0, -1); !errors.Is(err, remote.ErrNotFound) {
			t.Errorf("Get of what was deleted: %v", err)
		}
	}
}

func testNames(t *testing.T, client func() remote.Bucket) {
	b := client()
	for _, name := range []string{
		"", "a", "packs", "packs/", "/packs/a", "../a", "packs/..", "packs/../a", "packs/.", "packs/.a", "packs/a/b", "packs/a..b",
		"packs/A", "packs/a b", "packs/a%2fb", "packs/ä", "packs/a\x00", "packs/a\n", "packs/tmp-a", "root/a", "other/a", "packs//a", "packs/a:b",
	} {
		if err := b.Put(t.Context(), name, bytes.NewReader(nil), 0); err == nil {
			t.Errorf("Put took the name %q", name)
		}
		if _, err := get(t.Context(), b, name, 0, -1); err == nil || errors.Is(err, remote.ErrNotFound) {
			t.Errorf("Get took the name %q: %v", name, err)
		}
		if err := b.Delete(t.Context(), name); err == nil {
			t.Errorf("Delete took the name %q", name)
		}
	}
	for _, dir := range []string{"", ".", "..", "root", "packs/", "/"} {
		for _, err := range b.List(t.Context(), dir) {
			if err == nil {
				t.Errorf("List took %q", dir)
			}
		}
	}
}

func testList(t *testing.T, client func() remote.Bucket) {
	b := client()
	want := map[string]int64{}
	for i := range 30 {
		name := fmt.Sprintf("packs/%x.pack", sha256.Sum256([]byte{byte(i)}))
		put(t, b, name, noise(i))
		want[name] = int64(i)
	}
	put(t, b, "indexes/a-0.b-1", []byte("x"))
	if diff := cmp.Diff(want, list(t, client(), "packs")); diff != "" {
		t.Error(diff)
	}
	put(t, b, "uses/2026-01-31-0", []byte("yz"))
	for dir, want := range map[string]map[string]int64{
		"indexes": {"indexes/a-0.b-1": 1}, "uses": {"uses/2026-01-31-0": 2}, "roots": {},
	} {
		if diff := cmp.Diff(want, list(t, b, dir)); diff != "" {
			t.Error(diff)
		}
	}
	for range b.List(t.Context(), "packs") {
		break
	}
}

func testSwap(t *testing.T, client func() remote.Bucket) {
	b := client()
	hash := func(n byte) objects.ID { return objects.Sum(objects.Blob, []byte{n}) }
	first := remote.Root{}.Next(hash(1))
	for _, bad := range []remote.Root{{}, {Seq: 2, Hash: hash(1), Nonce: 5}} {
		if err := b.Swap(t.Context(), remote.Root{}, bad); err == nil || errors.Is(err, remote.ErrLost) {
			t.Errorf("Swap to %v: %v", bad, err)
		}
	}
	lost := func(old, next remote.Root) {
		t.Helper()
		is, _ := b.Root(t.Context())
		if err := client().Swap(t.Context(), old, next); !errors.Is(err, remote.ErrLost) {
			t.Errorf("Swap(%s, %s): %v", old, next, err)
		}
		wantRoot(t, b, is)
	}
	won := func(old, next remote.Root) {
		t.Helper()
		if err := b.Swap(t.Context(), old, next); err != nil {
			t.Errorf("Swap(%s, %s): %v", old, next, err)
		}
		wantRoot(t, client(), next)
	}
	lost(first, first.Next(hash(2)))
	won(remote.Root{}, first)
	lost(remote.Root{}, remote.Root{}.Next(hash(1)))
	second := first.Next(hash(2))
	won(first, second)
	lost(first, first.Next(hash(2)))
	lost(remote.Root{}, remote.Root{}.Next(hash(9)))
	lost(remote.Root{Seq: 2, Hash: hash(2), Nonce: second.Nonce + 1}, second.Next(hash(3)))
	won(second, second.Next(hash(1)))
}

func testCancelledBucket(t *testing.T, client func() remote.Bucket) {
	b := client()
	put(t, b, "packs/a", []byte("a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, get := b.Get(ctx, "packs/a", 0, -1)
	_, root := b.Root(ctx)
	errs := map[string]error{
		"Get": get, "Root": root,
		"Put":    b.Put(ctx, "packs/b", bytes.NewReader(nil), 0),
		"Delete": b.Delete(ctx, "packs/a"),
		"Swap":   b.Swap(ctx, remote.Root{}, remote.Root{}.Next(objects.ID{1})),
	}
	for _, err := range b.List(ctx, "packs") {
		errs["List"] = err
	}
	for call, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", call, err)
		}
	}
	wantRoot(t, b, remote.Root{})
	if diff := cmp.Diff(map[string]int64{"packs/a": 1}, list(t, b, "packs")); diff != "" {
		t.Error(diff)
	}
}

// testNoTornReads reads a file while it is put, and put again.
func testNoTornReads(t *testing.T, client func() remote.Bucket) {
	const size = 256 << 10
	data := noise(size)
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			b := client()
			for {
				select {
				case <-done:
					return
				default:
				}
				got, err := get(t.Context(), b, "packs/a.pack", 0, -1)
				if errors.Is(err, remote.ErrNotFound) {
					continue
				}
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("read %d bytes: %v", len(got), err)
					return
				}
				for info, err := range b.List(t.Context(), "packs") {
					if err != nil || info.Size != size {
						t.Errorf("listed %+v: %v", info, err)
					}
				}
			}
		})
	}
	for range 2 {
		writers.Go(func() {
			b := client()
			for range test.Count(t, 100) {
				if err := b.Put(t.Context(), "packs/a.pack", bytes.NewReader(data), size); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

// testRaceSwap lets clients replace the root, over and over, each by one that
// follows the one it has seen: no sequence number has two winners, and no winner
// is forgotten.
func testRaceSwap(t *testing.T, client func() remote.Bucket) {
	rounds := uint64(test.Count(t, 1000))
	first := remote.Root{}.Next(objects.ID{1})
	if err := client().Swap(t.Context(), remote.Root{}, first); err != nil {
		t.Fatal(err)
	}
	won := make([]map[uint64]remote.Root, racers)
	var wg sync.WaitGroup
	for i := range racers {
		won[i] = map[uint64]remote.Root{}
		wg.Go(func() {
			b := client()
			for {
				is, err := b.Root(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if is.Seq > rounds {
					return
				}
				next := is.Next(objects.ID{byte(i)})
				switch err := b.Swap(t.Context(), is, next); {
				case err == nil:
					won[i][next.Seq] = next
				case !errors.Is(err, remote.ErrLost):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	is, err := client().Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := first.Seq + 1; seq <= is.Seq; seq++ {
		var winners []remote.Root
		for _, w := range won {
			if r, ok := w[seq]; ok {
				winners = append(winners, r)
			}
		}
		if len(winners) != 1 || seq == is.Seq && !slices.Contains(winners, is) {
			t.Errorf("%d clients won root %d: %v; it is %v", len(winners), seq, winners, is)
		}
	}
}

// testRaceFirst lets clients make the first root of a bucket.
func testRaceFirst(t *testing.T, fresh func(t *testing.T) func() remote.Bucket) {
	for range test.Count(t, 200) {
		client := fresh(t)
		var mu sync.Mutex
		var winners []remote.Root
		var wg sync.WaitGroup
		for i := range racers {
			b := client()
			wg.Go(func() {
				next := remote.Root{}.Next(objects.ID{byte(i)})
				switch err := b.Swap(t.Context(), remote.Root{}, next); {
				case err == nil:
					mu.Lock()
					winners = append(winners, next)
					mu.Unlock()
				case !errors.Is(err, remote.ErrLost):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		is, err := client().Root(t.Context())
		if len(winners) != 1 || err != nil || is != winners[0] {
			t.Fatalf("%d clients won: %v; the root is %v: %v", len(winners), winners, is, err)
		}
	}
}
