package repo_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// Values of 2 KiB, each got once by a process, as the go command does: all hits, in a
// branch of a thousand entries; by processes that know nothing of each other, and by
// ones that remember.
func BenchmarkValuesGet(b *testing.B) {
	ctx := context.Background()
	r, err := repo.Init(ctx, filepath.Join(b.TempDir(), "repo"), repo.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	const entries = 1000
	open := func(known string) *repo.Values {
		v, err := r.Values(ctx, refs.Branch("main"), repo.ValuesOptions{Known: known})
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
	v := open("")
	for i := range entries {
		key := fmt.Sprintf("%064x", i)
		if err := v.Put(ctx, tool, key, entry.Value{Size: 2 << 10, Body: strings.NewReader(strings.Repeat(key, 32))}); err != nil {
			b.Fatal(err)
		}
	}
	closeValues(b, v)
	commitStage(b, r, "main")
	for _, bench := range []struct{ name, known string }{
		{"anew", ""},
		{"known", filepath.Join(b.TempDir(), "known")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(2 << 10)
			v := open(bench.known)
			n := 0
			for b.Loop() {
				if n > 0 && n%entries == 0 {
					closeValues(b, v)
					v = open(bench.known)
				}
				if _, err := v.Get(ctx, tool, fmt.Sprintf("%064x", n%entries)); err != nil {
					b.Fatal(err)
				}
				n++
			}
			closeValues(b, v)
		})
	}
}
