package replica_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/replica"
)

// TestCacheIsBounded: what the cache takes on disk stays near what it may take, and
// what it has dropped is fetched again.
func TestCacheIsBounded(t *testing.T) {
	const size = 1 << 20
	b := new(remotetest.Memory)
	dir := test.Dir(t)
	r, err := replica.New(replica.Options{Bucket: b, Dir: dir, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	var all []remotetest.Item
	for i := range 100 {
		noise := make([]byte, 64<<10)
		rand.NewChaCha8([32]byte{byte(i)}).Read(noise)
		item := remotetest.Blob(string(noise))
		all = append(all, item)
		remotetest.Upload(t, r.Store(), item)
	}
	for range 2 {
		for _, item := range all {
			remotetest.WantFetched(t, r.Store(), item)
			if is := diskUsage(t, dir); is > 2*size {
				t.Fatalf("%d bytes in the cache", is)
			}
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "replica-*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func diskUsage(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // somebody drops it just now
		}
		if fi, err := e.Info(); err == nil {
			n += fi.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCacheProvesNothing: that a replica has an object is no reason for a ref to lead to
// it, or for an object to be made of it.
func TestCacheProvesNothing(t *testing.T) {
	b := &replaced{new(remotetest.Memory)}
	r := newReplica(t, b, 1<<30)
	a := remotetest.Blob("a")
	remotetest.Upload(t, r.Store(), a)
	remotetest.WantFetched(t, r.Store(), a)
	b.Bucket = new(remotetest.Memory)
	err := r.Store().Update(t.Context(), refs.Update{Name: "refs/tags/a", New: a.ID()})
	if !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("Update: %v", err)
	}
	tree := remotetest.Tree("a", a)
	remotetest.Upload(t, r.Store(), tree)
	err = r.Store().Update(t.Context(), refs.Update{Name: "refs/tags/tree", New: tree.ID()})
	if !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("Update: %v", err)
	}
	remotetest.Upload(t, r.Store(), a)
	if err := r.Store().Update(t.Context(), refs.Update{Name: "refs/tags/tree", New: tree.ID()}); err != nil {
		t.Error(err)
	}
}

// replaced is a bucket of which somebody else makes another one.
type replaced struct{ remote.Bucket }

// TestClientsAreNotDenied: that the bucket refuses the replica is not said to clients as
// if it were about them.
func TestClientsAreNotDenied(t *testing.T) {
	r := newReplica(t, denied{new(remotetest.Memory)}, 1<<30)
	for _, err := range r.Store().Refs(t.Context(), "") {
		if err == nil || errors.Is(err, remote.ErrDenied) {
			t.Error(err)
		}
	}
	if err := r.Healthy(t.Context()); err == nil {
		t.Error("it calls itself healthy")
	}
	if text := r.Metrics(); !strings.Contains(text, `{operation="root",result="error"} `) {
		t.Error(text)
	}
}

type denied struct{ remote.Bucket }

func (denied) Root(context.Context) (remote.Root, error) { return remote.Root{}, remote.ErrDenied }
