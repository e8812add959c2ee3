package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// counts count what a bucket is asked. The zero counts are none.
type counts struct {
	mu  sync.Mutex
	all map[call]uint64 // guarded by mu
}

type call struct{ operation, result string }

// The results of calls.
const (
	fine   = "ok"
	lost   = "lost" // of Swap: somebody else was faster
	failed = "error"
)

// note counts a call. That the bucket does not let the replica in is no answer to its
// clients, who would look for the fault in their own rights.
func (c *counts) note(operation string, err error) error {
	result := fine
	switch {
	case errors.Is(err, remote.ErrLost):
		result = lost
	case errors.Is(err, remote.ErrDenied):
		err = errors.New(err.Error())
		result = failed
	case err != nil && !errors.Is(err, remote.ErrNotFound):
		result = failed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[call]uint64{}
	}
	c.all[call{operation, result}]++
	return err
}

func (c *counts) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, k := range slices.SortedFunc(maps.Keys(c.all), func(a, b call) int {
		return cmp.Or(cmp.Compare(a.operation, b.operation), cmp.Compare(a.result, b.result))
	}) {
		fmt.Fprintf(&b, "cache_tool_bucket_requests_total{operation=%q,result=%q} %d\n", k.operation, k.result, c.all[k])
	}
	return b.String()
}

// Metrics returns what a replica counts, in the text format of Prometheus.
func (r *Replica) Metrics() string {
	return fmt.Sprintf(`# HELP cache_tool_bucket_requests_total What the bucket was asked, and what became of it.
# TYPE cache_tool_bucket_requests_total counter
%s# HELP cache_tool_cache_bytes About how many bytes are in the cache of this replica.
# TYPE cache_tool_cache_bytes gauge
cache_tool_cache_bytes %d
`, r.counts.text(), r.cache.size())
}

// counted is a bucket that counts what it is asked.
type counted struct {
	remote.Bucket
	c *counts
}

func (b counted) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	body, err := b.Bucket.Get(ctx, name, off, n)
	return body, b.c.note("get", err)
}

func (b counted) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	err := b.Bucket.Put(ctx, name, body, size)
	return b.c.note("put", err)
}

func (b counted) Delete(ctx context.Context, name string) error {
	err := b.Bucket.Delete(ctx, name)
	return b.c.note("delete", err)
}

func (b counted) List(ctx context.Context, dir string) iter.Seq2[remote.Info, error] {
	return func(yield func(remote.Info, error) bool) {
		_ = b.c.note("list", nil)
		for info, err := range b.Bucket.List(ctx, dir) {
			if err != nil {
				err = b.c.note("list", err)
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func (b counted) Root(ctx context.Context) (remote.Root, error) {
	root, err := b.Bucket.Root(ctx)
	return root, b.c.note("root", err)
}

func (b counted) Swap(ctx context.Context, old, next remote.Root) error {
	err := b.Bucket.Swap(ctx, old, next)
	return b.c.note("swap", err)
}
