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

// A view is what a client may know of who may not read everything: what the refs
// lead to that he may read, and what he has brought himself. What lies beyond is
// not there for him, whatever he asks; else whoever knows or guesses an id could
// find out whether it is, or point a ref of his own to it and then read it.
type view struct {
	seen  *reach.Set
	owned *reach.Set // nil if it is nothing
}

func (v *view) has(id objects.ID) bool {
	return id == objects.EmptyTree || v.seen.Has(id) || v.owned != nil && v.owned.Has(id)
}

// leads reports whether the client may know of all that an object leads to. What only he
// has brought may lead anywhere: nobody has looked.
func (v *view) leads(id objects.ID) bool {
	return id == objects.EmptyTree || v.seen.Has(id)
}

// view returns what the client may know of, or nil if that is everything. To find
// out takes a walk through all that his refs lead to, once, and then what is new
// whenever one of them moves.
func (x *exchange) view(ctx context.Context, store Store) (*view, error) {
	if x.who.rules.ReadsAll() {
		return nil, nil
	}
	all, err := x.readable(ctx, store, "")
	if err != nil {
		return nil, err
	}
	var tips []objects.ID
	for _, ref := range all {
		tips = append(tips, ref.ID)
	}
	seen, err := x.s.sights.get(ctx, store, tips)
	if err != nil {
		return nil, err
	}
	return &view{seen, x.s.owned.of(x.who.key)}, nil
}

// restrict holds a request to what the client may know of.
func (x *exchange) restrict(ctx context.Context, store Store, q *remote.Request) error {
	v, err := x.view(ctx, store)
	if v == nil || err != nil {
		q.Neighbours = err == nil // what lies beside it is for him, too
		return err
	}
	may := v.has
	if q.Extent != remote.Only {
		may = v.leads
	}
	for _, id := range q.Want {
		if !may(id) {
			return fmt.Errorf("%s: %w", id.Short(), objects.ErrNotFound)
		}
	}
	// What he claims to have, others are told as a difference to.
	q.Have = slices.DeleteFunc(q.Have, func(id objects.ID) bool { return !v.leads(id) })
	return nil
}

// lacking asks the store a question about those of ids that the client may know
// of. To him it lacks the others.
func (v *view) lacking(ctx context.Context, ids []objects.ID, question func(context.Context, []objects.ID) ([]objects.ID, error)) ([]objects.ID, error) {
	var known, all []objects.ID
	for _, id := range ids {
		if v.has(id) {
			known = append(known, id)
		}
	}
	lacking, err := question(ctx, known)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		switch {
		case !v.has(id):
			all = append(all, id)
		case len(lacking) > 0 && lacking[0] == id: // they are in the same order
			all, lacking = append(all, id), lacking[1:]
		}
	}
	return all, nil
}

// sights remember what tips lead to, for those who asked last.
type sights struct {
	walking chan struct{} // one at a time

	mu  sync.Mutex
	all []sight // guarded by mu; the newest first
}

type sight struct {
	key  objects.ID // of tips and cuts
	cuts objects.ID // of the commits whose parents were cut off
	tips []objects.ID
	seen *reach.Set
}

// maxSights is how many are remembered. Each takes about 30 bytes for an object.
const maxSights = 4

func (s *sights) get(ctx context.Context, store Store, tips []objects.ID) (*reach.Set, error) {
	slices.SortFunc(tips, objects.ID.Compare)
	tips = slices.Compact(tips)
	// Where history is cut off, or put together again, tips lead to something else.
	shallow, err := store.Shallow(ctx)
	if err != nil {
		return nil, err
	}
	cuts := sumOf(shallow)
	key := sumOf(slices.Concat(tips, []objects.ID{cuts}))
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
	seen, err := s.begin(ctx, store, tips, cuts)
	if err == nil {
		err = store.Reach(ctx, tips, seen, nil)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.Insert(s.all, 0, sight{key, cuts, tips, seen})
	s.all = s.all[:min(len(s.all), maxSights)]
	return seen, nil
}

// begin returns what is known already of what tips lead to: as a rule they have
// moved on from where they were.
func (s *sights) begin(ctx context.Context, store Store, tips []objects.ID, cuts objects.ID) (*reach.Set, error) {
	s.mu.Lock()
	before := slices.Clone(s.all)
	s.mu.Unlock()
	for _, one := range before {
		if one.cuts != cuts {
			continue
		}
		old := slices.DeleteFunc(slices.Clone(one.tips), func(id objects.ID) bool { return slices.Contains(tips, id) })
		covered, err := store.Covers(ctx, tips, old)
		if err != nil {
			return nil, err
		}
		if covered {
			return one.seen.Clone(), nil
		}
	}
	return new(reach.Set), nil
}

// sumOf returns what stands for ids.
func sumOf(ids []objects.ID) objects.ID {
	h := sha256.New()
	for _, id := range ids {
		h.Write(id[:])
	}
	return objects.ID(h.Sum(nil))
}

func (s *sights) find(key objects.ID) *reach.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(one sight) bool { return one.key == key })
	if i < 0 {
		return nil
	}
	one := s.all[i]
	s.all = slices.Insert(slices.Delete(s.all, i, i+1), 0, one)
	return one.seen
}
