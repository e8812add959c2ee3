package worktree

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// many makes n files of size bytes, ten in each directory.
func many(b *testing.B, dir string, n, size int) {
	b.Helper()
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprint("dir", i/100), fmt.Sprint("sub", i/10%10))
		if i%10 == 0 {
			must(b, os.MkdirAll(sub, 0o755))
		}
		body := make([]byte, size)
		copy(body, fmt.Sprintln("file", i))
		must(b, os.WriteFile(filepath.Join(sub, fmt.Sprint("file", i)), body, 0o644))
	}
}

const (
	benchFiles = 5000
	benchSize  = 1000
)

func BenchmarkTake(b *testing.B) {
	dir := b.TempDir()
	many(b, dir, benchFiles, benchSize)
	b.SetBytes(benchFiles * benchSize)
	for b.Loop() {
		b.StopTimer()
		s := newStore(b)
		b.StartTimer()
		s.take(dir, SnapshotOptions{})
	}
}

func BenchmarkTakeUnchanged(b *testing.B) {
	s := newStore(b)
	dir := b.TempDir()
	many(b, dir, benchFiles, benchSize)
	settle()
	before := s.take(dir, SnapshotOptions{}).Payload
	batch := batch{}
	b.SetBytes(benchFiles * benchSize)
	for b.Loop() {
		_, err := Take(ctx, batch, s.db, []Place{{Name: "base", Path: dir}}, SnapshotOptions{Prev: before, Cache: s.cache})
		must(b, err)
	}
}

func BenchmarkRestore(b *testing.B) {
	s := newStore(b)
	dir := b.TempDir()
	many(b, dir, benchFiles, benchSize)
	snap := s.take(dir, SnapshotOptions{})
	to := b.TempDir()
	b.SetBytes(benchFiles * benchSize)
	for i := 0; b.Loop(); i++ {
		s.restore(snap, filepath.Join(to, fmt.Sprint(i)), RestoreOptions{})
	}
}

func BenchmarkRestoreSame(b *testing.B) {
	s := newStore(b)
	dir := b.TempDir()
	many(b, dir, benchFiles, benchSize)
	snap := s.take(dir, SnapshotOptions{})
	to := filepath.Join(b.TempDir(), "to")
	s.restore(snap, to, RestoreOptions{})
	b.SetBytes(benchFiles * benchSize)
	for b.Loop() {
		s.restore(snap, to, RestoreOptions{})
	}
}

// BenchmarkRestoreOne restores a single file, as a hit of run does.
func BenchmarkRestoreOne(b *testing.B) {
	s := newStore(b)
	batch, err := s.db.NewBatch(ctx, odb.BatchOptions{})
	must(b, err)
	ids := [2]objects.ID{}
	for i := range ids {
		ids[i], err = batch.PutBytes(objects.Blob, make([]byte, 10_000+i))
		must(b, err)
	}
	must(b, batch.Commit(ctx, odb.Staged))
	batch.Close()
	dir := b.TempDir()
	b.SetBytes(10_000)
	for i := 0; b.Loop(); i++ {
		target := Target{Dir: dir, Name: "out.o", Mode: objects.ModeFile, ID: ids[i%2]}
		_, err := Restore(ctx, s.db, []Target{target}, RestoreOptions{Cache: s.cache})
		must(b, err)
	}
}
