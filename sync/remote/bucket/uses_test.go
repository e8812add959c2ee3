package bucket_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

func TestUses(t *testing.T) {
	memory := new(remotetest.Memory)
	r := bucket.Open(memory)
	today := uses.Today(time.Now())
	want := func(files int, what uses.Table) []string {
		t.Helper()
		got, names, err := bucket.Open(memory).Uses(t.Context())
		if err != nil || len(names) != files || !maps.Equal(got, what) {
			t.Errorf("%d files tell %v, %v; want %d and %v", len(names), got, err, files, what)
		}
		return names
	}
	want(0, uses.Table{})
	for _, table := range []uses.Table{{1: today, 2: today - 9}, {1: today - 1, 3: today + 5}, {}} {
		if err := r.NoteUses(t.Context(), table); err != nil {
			t.Fatal(err)
		}
	}
	names := want(2, uses.Table{1: today, 2: today - 9})
	memory.Damage(names[0], 12)
	memory.Damage(names[1], 2)
	want(2, uses.Table{})

	// A collection leaves them, though no root names them, and a fold makes one of them.
	for i := range 20 {
		if err := r.NoteUses(t.Context(), uses.Table{uint64(i): today - int32(i)}); err != nil {
			t.Fatal(err)
		}
	}
	memory.Age(100 * day)
	w := &world{T: t, all: map[objects.ID]remotetest.Item{}}
	if _, err := r.Collect(t.Context(), w.options(bucket.CollectOptions{})); err != nil {
		t.Fatal(err)
	}
	table, names, err := r.Uses(t.Context())
	if err != nil || len(names) != 22 || len(table) != 20 {
		t.Fatalf("%d files tell %d uses: %v", len(names), len(table), err)
	}
	if err := r.FoldUses(t.Context(), table, names, today-9); err != nil {
		t.Fatal(err)
	}
	folded := uses.Table{}
	for i := range 10 {
		folded[uint64(i)] = today - int32(i)
	}
	names = want(1, folded)
	if err := r.FoldUses(t.Context(), folded, names, today); err != nil || fmt.Sprint(want(1, folded)) != fmt.Sprint(names) {
		t.Errorf("one file was folded: %v", err)
	}
}
