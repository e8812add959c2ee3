package stage_test

import (
	"fmt"
	"testing"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/stage"
)

// filled returns the directory of a stage of n records, one append each.
func filled(b *testing.B, n int) string {
	dir := b.TempDir()
	s := open(b, dir, "main")
	for i := range n {
		appendTo(b, s, put(runPath(i), i))
	}
	return dir
}

func runPath(i int) string {
	return entry.Path(entry.Run, put(fmt.Sprint(i), i).ID.String())
}

// The first lookup of a process, which is what `run` does.
func BenchmarkFirstLookup(b *testing.B) {
	dir := filled(b, 4000)
	for _, path := range []string{runPath(17), runPath(4000)} {
		b.Run("", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := stage.Open(dir, "main", stage.Options{}).Lookup(ctx, path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Lookups of a gateway, which goes on.
func BenchmarkNextLookup(b *testing.B) {
	s := open(b, filled(b, 4000), "main")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := s.Lookup(ctx, runPath(17)); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, filled(b, 1), "main")
	record := put(runPath(1), 1)
	b.ReportAllocs()
	for b.Loop() {
		appendTo(b, s, record)
	}
}

func BenchmarkAll(b *testing.B) {
	s := open(b, filled(b, 4000), "main")
	for b.Loop() {
		all(b, s)
	}
}
