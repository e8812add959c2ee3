package durable_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// names returns what is in dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteFileReplaces(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, want := range []string{"one", "", "three"} {
		for _, sync := range []durable.Sync{durable.NoSync, durable.Synced} {
			if err := durable.WriteFile(name, []byte(want), sync); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(name); err != nil || string(got) != want {
				t.Errorf("read %q, %v; want %q", got, err, want)
			}
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{"f"}) {
		t.Errorf("left behind: %q", got)
	}
}

func TestPendingFile(t *testing.T) {
	dir := t.TempDir()
	f, err := durable.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("hello "))
	f.Write([]byte("world"))
	f.WriteAt([]byte("J"), 0)
	if !durable.IsPending(filepath.Base(f.Name())) || f.Size() != 11 {
		t.Errorf("name %q, size %d", f.Name(), f.Size())
	}
	name := filepath.Join(dir, "f")
	if err := f.CommitAs(name, durable.Synced); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	if err := f.CommitAs(name, durable.Synced); !errors.Is(err, durable.ErrFinished) {
		t.Errorf("second commit: %v", err)
	}
	if got, _ := os.ReadFile(name); string(got) != "Jello world" {
		t.Errorf("read %q", got)
	}

	f, _ = durable.Create(dir)
	f.Abort()
	f.Abort()
	if got := names(t, dir); !slices.Equal(got, []string{"f"}) {
		t.Errorf("left behind: %q", got)
	}
}

func TestCommitNewReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for i, want := range []error{nil, fs.ErrExist} {
		f, err := durable.CreatePerm(dir, 0o444)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte{'0' + byte(i)})
		if err := f.CommitNew(name, durable.NoSync); !errors.Is(err, want) {
			t.Errorf("commit %d: %v, want %v", i, err, want)
		}
	}
	fi, err := os.Stat(name)
	if err != nil || fi.Mode() != 0o444 {
		t.Errorf("the file has mode %v: %v", fi.Mode(), err)
	}
	if got, _ := os.ReadFile(name); string(got) != "0" {
		t.Errorf("read %q, want what was there first", got)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"f"}) {
		t.Errorf("left behind: %q", got)
	}
}

func TestRemoveStale(t *testing.T) {
	dir := t.TempDir()
	held, _ := durable.Create(dir)
	defer held.Abort()
	dead := filepath.Join(dir, "tmp-dead")
	young := filepath.Join(dir, "tmp-young")
	other := filepath.Join(dir, "other")
	for _, name := range []string{dead, young, other} {
		os.WriteFile(name, nil, 0o666)
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{held.Name(), dead, other} {
		os.Chtimes(name, old, old)
	}
	if err := durable.RemoveStale(dir, time.Hour); err != nil {
		t.Fatal(err)
	}
	want := []string{"other", filepath.Base(held.Name()), "tmp-young"}
	slices.Sort(want)
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

func TestAppendAndUpdate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for range 2 {
		f, err := durable.OpenAppend(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := durable.Append(f, []byte("abc")); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	f, err := durable.OpenUpdate(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	durable.WriteAt(f, []byte("X"), 1)
	durable.Truncate(f, 5)
	if err := durable.SyncFile(f); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(name); string(got) != "aXcab" {
		t.Errorf("read %q", got)
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	if err := durable.MkdirAll(filepath.Join(dir, "a/b/c"), durable.Synced); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o666)
	for _, bad := range []string{"file", "file/sub"} {
		if err := durable.MkdirAll(filepath.Join(dir, bad), durable.NoSync); err == nil {
			t.Errorf("MkdirAll(%q) took a file for a directory", bad)
		}
	}
}

func TestHook(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	var ops []durable.Op
	full := errors.New("disk full")
	restore := durable.SetHook(func(s durable.Step, do func(durable.Step) error) error {
		ops = append(ops, s.Op)
		if s.Op != durable.OpWrite {
			return do(s)
		}
		s.Data = s.Data[:2]
		if err := do(s); err != nil {
			return err
		}
		return full
	})
	err := durable.WriteFile(name, []byte("data"), durable.Synced)
	restore()
	if !errors.Is(err, full) {
		t.Errorf("write: %v", err)
	}
	if want := []durable.Op{durable.OpCreate, durable.OpWrite, durable.OpRemove}; !slices.Equal(ops, want) {
		t.Errorf("steps %v, want %v", ops, want)
	}
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a file is called f: %v", err)
	}
}

func TestLock(t *testing.T) {
	ctx := context.Background()
	name := filepath.Join(t.TempDir(), "lock")
	one, err := durable.LockShared(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	two, err := durable.LockShared(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.TryExclusive(name); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	waiting := make(chan error)
	go func() {
		_, err := durable.LockExclusive(cancelled, name)
		waiting <- err
	}()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled wait: %v", err)
	}
	got := make(chan *durable.Lock)
	go func() {
		l, err := durable.LockExclusive(ctx, name)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	one.Unlock()
	one.Unlock()
	two.Unlock()
	l := <-got
	if _, err := durable.TryExclusive(name); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("exclusive beside exclusive: %v", err)
	}
	l.Unlock()
	l, err = durable.TryExclusive(name)
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock()
}
