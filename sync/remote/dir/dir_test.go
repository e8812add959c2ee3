package dir_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/dir"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

func TestBucket(t *testing.T) {
	remotetest.RunBucket(t, func(t *testing.T) func() remote.Bucket {
		path := filepath.Join(test.Dir(t), "bucket")
		return func() remote.Bucket { return dir.Open(path) }
	})
}

// TestShareNotMounted: what is put where a share was to be mounted is lost when
// it is.
func TestShareNotMounted(t *testing.T) {
	b := dir.Open(filepath.Join(t.TempDir(), "mnt", "bucket"))
	if err := b.Put(t.Context(), "packs/a", bytes.NewReader(nil), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Put: %v", err)
	}
	if err := b.Swap(t.Context(), remote.Root{}, remote.Root{}.Next(objects.ID{1})); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Swap: %v", err)
	}
}

// TestStrangers: what people put beside the bucket's files does no harm.
func TestStrangers(t *testing.T) {
	path := t.TempDir()
	b := dir.Open(path)
	first := remote.Root{}.Next(objects.ID{1})
	if err := b.Swap(t.Context(), remote.Root{}, first); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root/.nfs0001", "root/README", "packs/.DS_Store", "packs/tmp-1", "packs/sub/x"} {
		os.MkdirAll(filepath.Dir(filepath.Join(path, name)), 0o777)
		os.WriteFile(filepath.Join(path, name), nil, 0o666)
	}
	if r, err := b.Root(t.Context()); err != nil || r != first {
		t.Errorf("Root: %v, %v", r, err)
	}
	for info, err := range b.List(t.Context(), "packs") {
		t.Errorf("listed %v, %v", info, err)
	}
}

// TestTidy: what was never put whole goes when it is old, and nothing else does.
func TestTidy(t *testing.T) {
	path := t.TempDir()
	b := dir.Open(path)
	if err := b.Tidy(ctx, time.Hour); err != nil {
		t.Errorf("of an empty bucket: %v", err)
	}
	if err := b.Put(ctx, "packs/a.pack", bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-2 * time.Hour)
	for name, old := range map[string]bool{"packs/tmp-1": true, "packs/tmp-2": false, "packs/a.pack": true} {
		file := filepath.Join(path, name)
		if name != "packs/a.pack" {
			os.WriteFile(file, nil, 0o666)
		}
		if old {
			os.Chtimes(file, before, before)
		}
	}
	if err := b.Tidy(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, _ := os.ReadDir(filepath.Join(path, "packs"))
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"a.pack", "tmp-2"}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
}

var (
	ctx  = context.Background()
	one  = remote.Root{Seq: 1, Hash: objects.ID{1}, Nonce: 1}
	two  = remote.Root{Seq: 2, Hash: objects.ID{2}, Nonce: 2}
	body = bytes.Repeat([]byte("pack"), 1000)
)

func swap(old, next remote.Root) func(string) error {
	return func(path string) error { return dir.Open(filepath.Join(path, "b")).Swap(ctx, old, next) }
}

// checkSwap wants the old root or the new one, and that one can go on.
func checkSwap(old, next remote.Root) func(*testing.T, string, error) {
	return func(t *testing.T, path string, err error) {
		b := dir.Open(filepath.Join(path, "b"))
		is, reading := b.Root(ctx)
		if reading != nil || is != next && (err == nil || is != old) {
			t.Fatalf("the root is %v: %v", is, reading)
		}
		if err := b.Swap(ctx, is, is.Next(objects.ID{3})); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

func crashes() map[string]test.Case {
	return map[string]test.Case{
		"first": {Act: swap(remote.Root{}, one), Check: checkSwap(remote.Root{}, one)},
		"swap":  {Setup: swap(remote.Root{}, one), Act: swap(one, two), Check: checkSwap(one, two)},
		"put": {
			Act: func(path string) error {
				return dir.Open(filepath.Join(path, "b")).Put(ctx, "packs/a", bytes.NewReader(body), int64(len(body)))
			},
			Check: func(t *testing.T, path string, err error) {
				got, reading := os.ReadFile(filepath.Join(path, "b/packs/a"))
				if reading == nil && !bytes.Equal(got, body) || err == nil && reading != nil {
					t.Errorf("after %v: %d bytes: %v", err, len(got), reading)
				}
			},
		},
	}
}

func TestFaults(t *testing.T) {
	for name, c := range crashes() {
		t.Run(name, c.EveryStep)
	}
}

func TestPowerCut(t *testing.T) {
	for name, c := range crashes() {
		t.Run(name, c.PowerCut)
	}
}

// TestDoneButFailed: a server's reply to a rename can be lost.
func TestDoneButFailed(t *testing.T) {
	path := test.Dir(t)
	for _, swap := range [][2]remote.Root{{{}, one}, {one, two}} {
		restore := durable.SetHook(func(s durable.Step, do func(durable.Step) error) error {
			err := do(s)
			if s.Op == durable.OpRename && (filepath.Base(s.To) == "root" || filepath.Base(s.Path) == one.String()) {
				return fs.ErrNotExist
			}
			return err
		})
		err := dir.Open(path).Swap(ctx, swap[0], swap[1])
		restore()
		if err != nil {
			t.Errorf("Swap(%s): %v", swap[1], err)
		}
	}
}
