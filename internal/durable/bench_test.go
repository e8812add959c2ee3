package durable_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// BenchmarkCommit writes a pack's worth at the pace of a compressor, and syncs.
func BenchmarkCommit(b *testing.B) {
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * i >> 3)
	}
	dir := b.TempDir()
	b.SetBytes(128 << 20)
	for b.Loop() {
		f, err := durable.Create(dir)
		if err != nil {
			b.Fatal(err)
		}
		for range 128 {
			time.Sleep(8 * time.Millisecond) // what compressing the next block takes
			f.Write(block)
		}
		if err := f.CommitAs(filepath.Join(dir, "f"), durable.Synced); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteFile(b *testing.B) {
	dir := b.TempDir()
	data := make([]byte, 100)
	for _, bb := range []struct {
		name string
		sync durable.Sync
	}{{"nosync", durable.NoSync}, {"synced", durable.Synced}} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				if err := durable.WriteFile(filepath.Join(dir, "f"), data, bb.sync); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	f, err := durable.OpenAppend(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(f.Name())
	record := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if err := durable.Append(f, record); err != nil {
			b.Fatal(err)
		}
	}
}
