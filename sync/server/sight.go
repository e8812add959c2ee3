package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// restrict holds a request to what the client may read: what the refs lead to
// that he may read. What lies beyond is not found, be it there or not.
//
// To find out takes a walk through all of that, which is remembered until one of
// the refs moves. Who may read everything is not made to wait for it.
func (x *exchange) restrict(ctx context.Context, store Store, q *remote.Request) error {
	if x.who.rules.ReadsAll() {
		q.Neighbours = true
		return nil
	}
	all, err := x.readable(ctx, store, "")
	if err != nil {
		return err
	}
	var tips []objects.ID
	for _, ref := range all {
		tips = append(tips, ref.ID)
	}
	seen, err := x.s.sights.get(ctx, store, tips)
	if err != nil {
		return err
	}
	for _, id := range q.Want {
		if !seen.Has(id) {
			return fmt.Errorf("%s: %w", id.Short(), objects.ErrNotFound)
		}
	}
	// What he claims to have, others are told as a difference to.
	q.Have = slices.DeleteFunc(q.Have, func(id objects.ID) bool { return !seen.Has(id) })
	return nil
}

// sights remember what tips lead to, for those who asked last.
type sights struct {
	walking chan struct{} // one at a time

	mu  sync.Mutex
	all []sight // guarded by mu; the newest first
}

type sight struct {
	tips [sha256.Size]byte
	seen *reach.Set
}

// maxSights is how many are remembered. Each takes about 30 bytes for an object.
const maxSights = 4

func (s *sights) get(ctx context.Context, store Store, tips []objects.ID) (*reach.Set, error) {
	slices.SortFunc(tips, objects.ID.Compare)
	tips = slices.Compact(tips)
	h := sha256.New()
	for _, id := range tips {
		h.Write(id[:])
	}
	key := [sha256.Size]byte(h.Sum(nil))
	if seen := s.find(key); seen != nil {
		return seen, nil
	}
	select {
	case s.walking <- struct{}{}:
		defer func() { <-s.walking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if seen := s.find(key); seen != nil {
		return seen, nil // somebody else wanted to know the same
	}
	seen, err := store.Reached(ctx, tips)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.Insert(s.all, 0, sight{key, seen})
	s.all = s.all[:min(len(s.all), maxSights)]
	return seen, nil
}

func (s *sights) find(key [sha256.Size]byte) *reach.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(one sight) bool { return one.tips == key })
	if i < 0 {
		return nil
	}
	one := s.all[i]
	s.all = slices.Insert(slices.Delete(s.all, i, i+1), 0, one)
	return one.seen
}
