package odb_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// TestLazy reads objects of a store that has none from one that has them all.
func TestLazy(t *testing.T) {
	s := newSample(t)
	var mu sync.Mutex
	var asked [][]objects.ID
	var down error
	var lazy *odb.DB
	lazy, err := odb.Open(test.Dir(t), odb.Options{Fetch: func(ctx context.Context, ids []objects.ID) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, slices.Clone(ids))
		if down != nil {
			return down
		}
		there, err := s.db.Missing(ctx, ids)
		if err != nil || len(there) > 0 {
			return errors.Join(err, objects.ErrNotFound)
		}
		all := slices.Clone(ids)
		if err := s.db.Chunks(ctx, ids, func(_, chunk objects.ID) error { all = append(all, chunk); return nil }); err != nil {
			return err
		}
		parcels, err := s.db.Parcels(ctx, all, odb.ParcelOptions{})
		if err != nil {
			return err
		}
		send(t, lazy, parcels, true)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lazy.Close() })
	ids := slices.Collect(func(yield func(objects.ID) bool) {
		for id := range s.all {
			if !yield(id) {
				return
			}
		}
	})

	// By itself it looks no further.
	local := odb.Local(t.Context())
	if missing, err := lazy.Missing(t.Context(), ids); err != nil || len(missing) != len(ids) {
		t.Errorf("%d of %d are missing, %v", len(missing), len(ids), err)
	}
	if _, _, err := lazy.ReadBytes(local, ids[0]); err != objects.ErrNotFound {
		t.Errorf("read locally: %v", err)
	}
	if len(asked) > 0 {
		t.Errorf("it was asked for %v", asked)
	}

	// One by one, then the rest at once.
	check(t, lazy, s.kinds[ids[0]], s.all[ids[0]])
	if len(asked) != 1 || !slices.Equal(asked[0], ids[:1]) {
		t.Errorf("it was asked for %v", asked)
	}
	seen := make([]bool, len(ids))
	err = lazy.ReadMany(t.Context(), ids, odb.ManyOptions{Parallel: 1}, func(i int, _ objects.Kind, body []byte) error {
		seen[i] = string(body) == string(s.all[ids[i]])
		return nil
	})
	if err != nil || slices.Contains(seen, false) || len(asked) != 2 || len(asked[1]) != len(ids)-1 {
		t.Errorf("%v, asked %d times", err, len(asked))
	}

	// What nobody has is a miss; so is what cannot be asked for, and it says why.
	nobody := objects.ID{7}
	if _, _, err := lazy.ReadBytes(t.Context(), nobody); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("%v", err)
	}
	down = errors.New("the line is down")
	_, _, err = lazy.ReadBytes(t.Context(), nobody)
	if !errors.Is(err, objects.ErrNotFound) || !errors.Is(err, down) || !errors.As(err, new(*odb.PromisedError)) {
		t.Errorf("%v", err)
	}
	if err := lazy.Prefetch(t.Context(), []objects.ID{nobody}); !errors.Is(err, down) {
		t.Errorf("Prefetch: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := lazy.ReadBytes(ctx, nobody); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
