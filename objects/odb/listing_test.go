package odb_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// TestListingBesideMerges lets many open the store for the first time, as new
// processes do, while others add, seal and merge packs: what was committed is never
// missing, though a directory that is listed while files in it are renamed may show
// some under neither name.
func TestListingBesideMerges(t *testing.T) {
	dir := test.Dir(t)
	rounds := test.Count(t, 400)
	// So many names do not fit into one getdents(2), between two of which others may
	// rename.
	for i := range 300 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%0100d", i)), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var newest atomic.Pointer[objects.ID]
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		wg.Go(func() {
			for i := range rounds {
				db := open(t, dir)
				b, err := db.NewBatch(t.Context(), odb.BatchOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				id, err := b.PutBytes(objects.Blob, []byte(fmt.Sprint(w, i)))
				if err == nil {
					err = b.Commit(t.Context(), odb.Durability(i%2))
				}
				b.Close()
				if err != nil {
					t.Error(err)
					return
				}
				newest.Store(&id)
			}
		})
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for n := 1; ; n++ {
				if n%50 == 0 {
					runtime.GC() // closes the packs that are in no store any more
				}
				select {
				case <-stop:
					return
				default:
				}
				id := newest.Load()
				if id == nil {
					continue
				}
				db := open(t, dir)
				if _, _, err := db.ReadBytes(t.Context(), *id); err != nil {
					t.Errorf("%s: %v", id.Short(), err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	readers.Wait()
}
