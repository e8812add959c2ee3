package bucket_test

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/dir"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// TestCollectMany collects a bucket of a million objects, most of which must be
// copied, in little memory.
func TestCollectMany(t *testing.T) {
	const inPack = 5000
	n := test.Count(t, 1_000_000)
	b := dir.Open(filepath.Join(test.Dir(t), "bucket"))
	blob := func(i int) remotetest.Item {
		return remotetest.Blob(string(binary.BigEndian.AppendUint64([]byte("a blob that is quite small, but not too small: "), uint64(i))))
	}
	isNeeded := func(i int) bool { return i%5 < 4 || i/inPack%3 == 0 } // a third of the packs is needed as they are
	for first := 0; first < n; first += inPack {
		var blocks [][]remotetest.Item
		for i := first; i < first+inPack; i++ {
			if i%500 == 0 {
				blocks = append(blocks, nil)
			}
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], blob(i))
		}
		remotetest.UploadBlocks(t, bucket.Open(b), blocks...)
	}
	tip := blob(0).ID()
	if err := bucket.Open(b).Update(t.Context(), refs.Update{Name: "refs/tags/all", New: tip}); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	most, done := uint64(0), make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapInuse-min(now.HeapInuse, before.HeapInuse))
			}
		}
	}()
	start := time.Now()
	c, err := bucket.Open(b).Collect(t.Context(), bucket.CollectOptions{
		Rewrite: 0.1,
		Mark: func(_ context.Context, _ []objects.ID, _ map[objects.ID]bool, live *reach.Set) error {
			for i := range n {
				if isNeeded(i) {
					live.Add(blob(i).ID())
				}
			}
			return nil
		},
	})
	took := time.Since(start)
	close(done)
	<-stopped
	if err != nil || c.Condemned.N == 0 {
		t.Errorf("%+v: %v", c, err)
	}
	t.Logf("%d objects in %v and %d MB: %+v", n, took, most>>20, c)
	if most > 300<<20 {
		t.Errorf("it took %d MB", most>>20)
	}
	r := bucket.Open(b)
	var needed []objects.ID
	for i := range n {
		if isNeeded(i) {
			needed = append(needed, blob(i).ID())
		}
	}
	if missing, err := r.Missing(t.Context(), needed); err != nil || len(missing) > 0 {
		t.Errorf("%d of %d are missing: %v", len(missing), len(needed), err)
	}
	remotetest.WantFetched(t, r, blob(0), blob(inPack+1), blob(n-2))
}
