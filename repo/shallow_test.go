package repo

import (
	"context"
	"maps"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
)

func TestEditShallow(t *testing.T) {
	ctx := context.Background()
	r, err := Init(ctx, t.TempDir()+"/r", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := map[objects.ID]bool{}
	var edits sync.WaitGroup
	for i := range byte(20) {
		id := objects.ID{i, 1}
		want[id] = true
		edits.Go(func() {
			if err := r.EditShallow(ctx, func(shallow map[objects.ID]bool) { shallow[id] = true }); err != nil {
				t.Error(err)
			}
		})
	}
	edits.Wait()
	if got, err := r.Shallow(); err != nil || !maps.Equal(got, want) {
		t.Errorf("%d commits, %v, want %d", len(got), err, len(want))
	}
	if err := r.EditShallow(ctx, func(shallow map[objects.ID]bool) { clear(shallow) }); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Shallow(); err != nil || len(got) != 0 {
		t.Errorf("after all were taken out: %v, %v", got, err)
	}
}
