// Package test holds what the tests of several packages share: counts that
// shrink outside a soak, faults at every step that durable makes, processes
// killed there, power cuts, damaged files, and random trees of files.
//
// Faults work on the whole process, because durable's hook does: a test that
// uses them must not be parallel.
package test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Soak reports whether tests run their full counts: CACHE_TOOL_SOAK=1.
func Soak() bool { return os.Getenv("CACHE_TOOL_SOAK") == "1" }

// Count returns n in a soak and a tenth of it otherwise, but at least 1. With the race
// detector, which sees no more in the hundredth round than in the thirtieth, it is a
// third of that.
func Count(tb testing.TB, n int) int {
	tb.Helper()
	switch {
	case Soak():
		return n
	case Race:
		return max(1, n/30)
	}
	return max(1, n/10)
}

// Dir is tb.TempDir in memory, where that is to be had: a disk that others use
// takes ten times as long to make and remove a few small files.
func Dir(tb testing.TB) string {
	tb.Helper()
	if os.Getenv(killTestEnv) != "" {
		return tb.TempDir() // where start has said
	}
	const memory, enough = "/dev/shm", 1 << 30
	var fs unix.Statfs_t
	if unix.Statfs(memory, &fs) != nil || int64(fs.Bavail)*int64(fs.Bsize) < enough {
		return tb.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "cache-tool-test-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// FlipBit changes one bit of the file name. A negative bit counts from the end.
func FlipBit(tb testing.TB, name string, bit int64) {
	tb.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	if bit < 0 {
		bit += 8 * int64(len(data))
	}
	if bit < 0 || bit >= 8*int64(len(data)) {
		tb.Fatalf("flip bit %d of %s: it has %d bytes", bit, name, len(data))
	}
	data[bit/8] ^= 1 << (bit % 8)
	overwrite(tb, name, data)
}

// CutShort leaves the first size bytes of the file name. A negative size
// counts from the end.
func CutShort(tb testing.TB, name string, size int64) {
	tb.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	if size < 0 {
		size += int64(len(data))
	}
	if size < 0 || size > int64(len(data)) {
		tb.Fatalf("cut %s to %d bytes: it has %d", name, size, len(data))
	}
	overwrite(tb, name, data[:size])
}

// overwrite puts a new file in the place of name: whoever has the old one
// mapped keeps it, and a file that must not be written is no obstacle.
func overwrite(tb testing.TB, name string, data []byte) {
	tb.Helper()
	fi, err := os.Stat(name)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(name, data, fi.Mode().Perm()); err != nil {
		tb.Fatal(err)
	}
}
