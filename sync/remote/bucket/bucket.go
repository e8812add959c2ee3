// Package bucket makes a remote of any place that can keep files and replace
// one of them by compare-and-swap: a remote.Bucket.
//
// A bucket holds three kinds of immutable files, and its root says which of
// them count:
//
//	packs/HASH-NONCE.pack   objects, as package pack writes them
//	indexes/HASH.idx        where in which pack each id is; see index.go
//	roots/HASH              what the bucket is at a moment; see State
//
// Beside them lies, in uses/, what is known of uses of entries; see uses.go.
//
// Writers put packs first, then an index of them, then a root that names both,
// and then swap the root. Who loses the swap reads the new root and does it
// again. No name is ever used a second time, so that a file that is about to be
// deleted cannot be needed again.
//
// Readers hold on to the root that they have read. What it names stays for a
// while: indexes for an hour after they were merged into others, the last
// sixteen roots, condemned packs for gc's period of grace. Who finds a file gone
// reads the root again.
package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A Remote is a bucket as a remote.Remote. It may be used from many goroutines
// at once, but is one conversation: for two pushes at the same time open two.
type Remote struct {
	b     remote.Bucket
	cache cache

	swapping chan struct{} // held by the goroutine that replaces the root
	began    atomic.Bool   // history was asked for

	mu      sync.Mutex
	view    *view                 // guarded by mu; the root as last read
	heads   map[objects.ID]*index // guarded by mu; of indexes that the view has
	relied  map[PackName]bool     // guarded by mu; what Missing found is in them
	stale   bool                  // guarded by mu; one of them is gone, and the caller has not begun anew
	told    *view                 // guarded by mu; of which the caller knows the refs; nil if of none
	pending []*upload             // guarded by mu; packs that the root does not name yet
	held    []*upload             // guarded by mu; and such that the next Update is to name
}

// Open returns the remote that b keeps. It reads nothing before it is asked to,
// and the bucket may be empty.
func Open(b remote.Bucket) *Remote {
	return &Remote{b: b, swapping: make(chan struct{}, 1), heads: map[objects.ID]*index{}, relied: map[PackName]bool{}}
}

// A view is a root as it was read.
type view struct {
	root remote.Root
	*State
	kept bool // in the cache: nobody has looked whether it is the current one
}

// load reads the root, and its file if that has changed.
func (r *Remote) load(ctx context.Context) (*view, error) {
	const tries = 10
	for try := 1; ; try++ {
		root, err := r.b.Root(ctx)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		v := r.view
		r.mu.Unlock()
		if v != nil && v.root == root && !v.kept {
			return v, nil
		}
		s, err := r.readState(ctx, root)
		if err == nil {
			v := &view{root: root, State: s}
			r.see(v)
			return v, nil
		}
		// Sixteen others can have been faster than we could read. What is damaged may
		// have been so on its way only.
		again := errors.Is(err, remote.ErrNotFound) && try < tries || errors.Is(err, ErrBadRoot) && try == 1
		if !again {
			return nil, fmt.Errorf("root %s: %w", root, err)
		}
	}
}

func (r *Remote) readState(ctx context.Context, root remote.Root) (*State, error) {
	if root.IsZero() {
		return newState(), nil
	}
	if v, ok := r.cache.root(); ok && v.root.Hash == root.Hash {
		return v.State, nil
	}
	data, err := r.readAll(ctx, rootFile(root.Hash), maxState+1)
	if err != nil {
		return nil, err
	}
	if len(data) > maxState {
		return nil, badRoot("longer than %d bytes", maxState)
	}
	if sum(data) != root.Hash {
		return nil, badRoot("its bytes do not hash to its name")
	}
	s, err := parseState(data)
	if err == nil {
		r.cache.keepRoot(root, data)
		r.cache.prune(s)
	}
	return s, err
}

// see remembers v, and forgets indexes that it does not have.
func (r *Remote) see(v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.view != nil && r.view.root.Seq > v.root.Seq {
		return
	}
	r.view = v
	maps.DeleteFunc(r.heads, func(hash objects.ID, _ *index) bool {
		return !slices.ContainsFunc(v.Indexes, func(x IndexInfo) bool { return x.Hash == hash })
	})
}

// known is load for those to whom the root as it was read in this conversation is
// good enough: Update says ErrStale if it was not.
func (r *Remote) known(ctx context.Context) (*view, error) {
	r.mu.Lock()
	v := r.view
	r.mu.Unlock()
	if v != nil && !v.kept {
		return v, nil
	}
	return r.load(ctx)
}

// seen is load for those to whom any root is good enough that was read before.
func (r *Remote) seen(ctx context.Context) (*view, error) {
	r.mu.Lock()
	v := r.view
	r.mu.Unlock()
	if v != nil {
		return v, nil
	}
	if v, ok := r.cache.root(); ok {
		r.see(v)
		return v, nil
	}
	return r.load(ctx)
}

// State returns what the root says now. It belongs to r: nobody may change it.
func (r *Remote) State(ctx context.Context) (*State, error) {
	v, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	return v.State, nil
}

// Refs yields the refs whose names begin with prefix, as they are in one root.
func (r *Remote) Refs(ctx context.Context, prefix string) iter.Seq2[refs.Ref, error] {
	return func(yield func(refs.Ref, error) bool) {
		v, err := r.load(ctx)
		if err != nil {
			yield(refs.Ref{}, err)
			return
		}
		r.tell(v)
		for _, name := range slices.Sorted(maps.Keys(v.Refs)) {
			if strings.HasPrefix(string(name), prefix) && !yield(refs.Ref{Name: name, ID: v.Refs[name]}, nil) {
				return
			}
		}
	}
}

// dropAfter is how long an index stays that others have taken in.
const dropAfter = time.Hour

// change replaces the root by what edit makes of it, as often as it takes. Edit
// gets the state that it may change, and reports whether it did.
func (r *Remote) change(ctx context.Context, edit func(v *view, s *State) (bool, error)) error {
	for try := 0; ; try++ {
		v, err := r.load(ctx)
		if err != nil {
			return err
		}
		s := v.clone()
		changed, err := edit(v, s)
		if err != nil || !changed {
			return err
		}
		garbage := s.succeed(v)
		won, err := r.swap(ctx, v, s)
		if err != nil {
			return err
		}
		if won {
			r.discard(ctx, garbage...)
			return nil
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// succeed makes s the state that follows v's. It returns the files that nobody
// needs any more then.
func (s *State) succeed(v *view) (garbage []string) {
	s.Unique = rand.Uint64()
	if !v.root.IsZero() {
		s.Past = slices.Insert(s.Past, 0, v.root.Hash)
	}
	for len(s.Past) > maxPast {
		last := len(s.Past) - 1
		garbage = append(garbage, rootFile(s.Past[last]))
		s.Past = s.Past[:last]
	}
	for hash, since := range s.Dropped {
		if time.Since(since) > dropAfter {
			garbage = append(garbage, indexFile(hash))
			delete(s.Dropped, hash)
		}
	}
	return garbage
}

// swap tries once to put s in the place of v. If it returns an error, nobody
// knows what became of it.
func (r *Remote) swap(ctx context.Context, v *view, s *State) (won bool, err error) {
	data := s.encode()
	if len(data) > maxState {
		return false, fmt.Errorf("the root of the bucket would have %d bytes, more than %d: too many refs", len(data), maxState)
	}
	hash := sum(data)
	if err := r.b.Put(ctx, rootFile(hash), bytes.NewReader(data), int64(len(data))); err != nil {
		return false, err
	}
	next := v.root.Next(hash)
	failed := r.b.Swap(ctx, v.root, next)
	if failed == nil {
		r.see(&view{root: next, State: s})
		r.cache.keepRoot(next, data)
		return true, nil
	}
	// Lost, they say; but a reply can have been lost instead.
	now, err := r.load(ctx)
	if err != nil {
		return false, fmt.Errorf("%w; and what became of it: %w", failed, err)
	}
	switch ahead := now.root.Seq - v.root.Seq; {
	case now.root == next:
		return true, nil
	case now.root == v.root:
		return false, failed
	case ahead > maxPast && (!errors.Is(failed, remote.ErrLost) || errors.Is(failed, remote.ErrUnsure)):
		return false, failed // our root may have come and gone
	case slices.Contains(now.Past, hash):
		return true, nil
	}
	r.discard(ctx, rootFile(hash))
	return false, nil
}

// discard deletes files that nobody needs. What it does not come to is left for
// gc.
func (r *Remote) discard(ctx context.Context, names ...string) {
	for _, name := range names {
		_ = r.b.Delete(ctx, name)
	}
}

// pause waits longer the more often somebody was faster, and never as long as
// the others do.
func pause(ctx context.Context, try int) error {
	longest := min(time.Second, time.Millisecond<<min(try, 10))
	timer := time.NewTimer(rand.N(longest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
