package action

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

func TestKeyLock(t *testing.T) {
	dir := t.TempDir()
	one, other := objects.ID{1}, objects.ID{2}
	held, waited, err := lockKey(t.Context(), dir, one, -1, func() { t.Error("waits for nobody") })
	if held == nil || waited || err != nil {
		t.Fatalf("first: %v, waited %t, %v", held, waited, err)
	}
	free, _, err := lockKey(t.Context(), dir, other, -1, func() { t.Error("keys share a lock") })
	if free == nil || err != nil {
		t.Errorf("another key: %v, %v", free, err)
	}
	free.unlock()
	notes := 0
	if l, waited, err := lockKey(t.Context(), dir, one, 5*time.Millisecond, func() { notes++ }); l != nil || !waited || err != nil || notes != 1 {
		t.Errorf("while it is held: %v, waited %t, %v, %d notes", l, waited, err, notes)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, _, err := lockKey(ctx, dir, one, time.Hour, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	got := make(chan *keyLock)
	if _, _, err := lockKey(t.Context(), dir, other, -1, func() {}); err != nil {
		t.Fatal(err)
	}
	go func() {
		l, _, err := lockKey(t.Context(), dir, one, time.Hour, held.unlock)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	if l := <-got; l == nil {
		t.Error("the lock was given back, and nobody got it")
	} else {
		l.unlock()
	}
}
