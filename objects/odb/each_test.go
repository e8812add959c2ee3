package odb_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

func TestEach(t *testing.T) {
	db := open(t, t.TempDir())
	small, big := []byte("small"), noise(1, 4<<20)
	commit(t, db, odb.Durable, func(b *odb.Batch) {
		put(t, b, objects.Blob, small)
		put(t, b, objects.Blob, big)
		put(t, b, objects.Tree, nil)
	})
	ids := []objects.ID{objects.Sum(objects.Blob, big), {1}, objects.EmptyTree, objects.Sum(objects.Blob, small)}
	want := []struct {
		kind objects.Kind
		body string
		err  error
	}{
		{kind: objects.Blob}, {err: objects.ErrNotFound}, {kind: objects.Tree}, {kind: objects.Blob, body: "small"},
	}
	var mu sync.Mutex
	seen := map[int]int{}
	err := db.Each(context.Background(), ids, func(i int, k objects.Kind, body []byte, err error) error {
		mu.Lock()
		defer mu.Unlock()
		seen[i]++
		if k != want[i].kind || string(body) != want[i].body || !errors.Is(err, want[i].err) {
			t.Errorf("%d: %s %.20q, %v; want %v", i, k, body, err, want[i])
		}
		return nil
	})
	if err != nil || len(seen) != len(ids) {
		t.Errorf("shown %v, %v", seen, err)
	}
}
