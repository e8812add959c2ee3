package gitbridge_test

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// watchMemory returns what tells how much memory was in use at most, by what Go has of the
// system and has not given back.
func watchMemory(t *testing.T) func() uint64 {
	t.Helper()
	runtime.GC()
	var most uint64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.Sys-m.HeapReleased)
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	return func() uint64 {
		close(stop)
		wg.Wait()
		return most
	}
}
