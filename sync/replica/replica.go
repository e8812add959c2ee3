// Package replica serves what is in a bucket, as a server.Store. Of its own it has
// nothing but a cache: any number of them serve one bucket, each may be killed at any
// moment, and what a client was told is in the bucket by then.
//
// Refs move by the bucket's own compare-and-swap. Before one moves the replica looks,
// in the same conversation, whether the bucket has all that is new behind it: a
// collection that takes something away meanwhile makes that conversation stale, and
// the look is taken again. What comes in is proven before the bucket gets it. What
// goes out passes through the cache, where it is proven, too.
//
// It knows no part of the bucket by heart that could be wrong: for each request it
// reads the root.
package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
)

// Options of a replica.
type Options struct {
	// Bucket is what is served.
	Bucket remote.Bucket

	// KeepIn, if not empty, is a directory for copies of indexes of this bucket, as of
	// bucket.Remote.KeepIn.
	KeepIn string

	// Dir is a directory for the cache. Others may use it, too.
	Dir string

	// Size is about how many bytes the cache may take. Zero is 10 GB.
	Size int64

	// Warn is told of what went wrong and does no harm; it may be nil.
	Warn func(error)
}

// A Replica serves a bucket.
type Replica struct {
	o      Options
	counts counts
	cache  *cache
}

// New returns a replica with an empty cache. Close drops that.
func New(o Options) (*Replica, error) {
	if o.Size <= 0 {
		o.Size = 10 << 30
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	r := &Replica{o: o}
	var err error
	r.cache, err = newCache(o, r.connect)
	return r, err
}

// connect begins a conversation with the bucket.
func (r *Replica) connect() *bucket.Remote {
	there := bucket.Open(counted{r.o.Bucket, &r.counts})
	if r.o.KeepIn != "" {
		there.KeepIn(r.o.KeepIn)
	}
	return there
}

// Close drops the cache.
func (r *Replica) Close() error { return r.cache.close() }

// Healthy reports whether the bucket can be read.
func (r *Replica) Healthy(ctx context.Context) error {
	_, err := r.connect().State(ctx)
	return err
}

// Store returns the store for one request.
func (r *Replica) Store() *Store { return &Store{replica: r, Remote: r.connect()} }

// A Store is a conversation with the bucket. What it does not say itself the bucket
// answers.
type Store struct {
	*bucket.Remote
	replica *Replica
}

// Fetch returns a pack with what q asks for.
func (s *Store) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	g := s.replica.cache.use()
	p, err := s.fetchFrom(ctx, g, q)
	if err != nil {
		g.release()
		return nil, err
	}
	return &released{p, g}, nil
}

func (s *Store) fetchFrom(ctx context.Context, g *generation, q remote.Request) (io.ReadCloser, error) {
	// What a client claims to have may be unknown here. Nobody is to look for it one by
	// one.
	unknown, err := s.Missing(ctx, q.Have)
	if err != nil {
		return nil, err
	}
	q.Have = without(q.Have, unknown)
	local, err := s.local(ctx, g)
	if err != nil {
		return nil, err
	}
	if q.Extent == remote.Closure {
		if err := g.warm(ctx, q.Want, q.Have, s.isCut(ctx)); err != nil {
			return nil, err
		}
	}
	return local.Fetch(ctx, q)
}

// released is a pack that is made of what is in the cache.
type released struct {
	io.ReadCloser
	g *generation
}

func (r *released) Close() error {
	err := r.ReadCloser.Close()
	if r.g != nil {
		r.g.release()
		r.g = nil
	}
	return err
}

// FetchPaths returns a pack with the trees that lead to paths, and what is there.
func (s *Store) FetchPaths(ctx context.Context, paths []remote.Path, budget int64) (io.ReadCloser, error) {
	g := s.replica.cache.use()
	local, err := s.local(ctx, g)
	var p io.ReadCloser
	if err == nil {
		p, err = local.FetchPaths(ctx, paths, budget)
	}
	if err != nil {
		g.release()
		return nil, err
	}
	return &released{p, g}, nil
}

// local is the cache as a store that has all that the bucket has.
func (s *Store) local(ctx context.Context, g *generation) (*peer.Remote, error) {
	shallow, err := s.Shallow(ctx)
	if err != nil {
		return nil, err
	}
	return peer.New(g.db, nil, cuts(setOf(shallow))), nil
}

// cuts are those of the bucket, which only a swap of its root changes.
type cuts map[objects.ID]bool

func (c cuts) Shallow() (map[objects.ID]bool, error) { return maps.Clone(c), nil }

func (c cuts) EditShallow(context.Context, func(map[objects.ID]bool)) error {
	return errors.New("a cache has no cuts of its own")
}

// isCut returns which commits of the bucket have lost their parents. That nobody can
// say is found out elsewhere.
func (s *Store) isCut(ctx context.Context) map[objects.ID]bool {
	shallow, _ := s.Shallow(ctx)
	return setOf(shallow)
}

// Upload adds a pack to the bucket, after all that is in it is proven.
func (s *Store) Upload(ctx context.Context, p io.ReaderAt, size int64) error {
	return s.upload(ctx, p, size, s.Remote.Upload)
}

func (s *Store) upload(ctx context.Context, p io.ReaderAt, size int64, put func(context.Context, io.ReaderAt, int64) error) error {
	g := s.replica.cache.use()
	defer g.release()
	if err := g.prove(ctx, p, size); err != nil {
		return err
	}
	parts, err := partsOf(p, size)
	if err != nil {
		return err
	}
	// That they are in the cache says nothing.
	missing, err := s.Missing(ctx, parts)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("upload: %d parts of its objects are neither in it nor here: %s …: %w", len(missing), missing[0].Short(), objects.ErrNotFound)
	}
	return put(ctx, p, size)
}

// partsOf returns of what objects in a pack are made that is not in it.
func partsOf(p io.ReaderAt, size int64) (parts []objects.ID, err error) {
	in, asked := map[objects.ID]bool{}, map[objects.ID]bool{}
	err = pack.Scan(p, size, func(_ pack.BlockInfo, d *pack.Data, err error) error {
		for i := 0; err == nil && i < d.Len(); i++ {
			t, body := d.Record(i)
			var id objects.ID
			if id, err = pack.RecordID(t, body); err != nil {
				break
			}
			in[id] = true
			switch t {
			case pack.Recipe:
				var recipe pack.BlobRecipe
				recipe, err = pack.ParseRecipe(body)
				for i := 0; err == nil && i < recipe.Len(); i++ {
					asked[recipe.Piece(i).ID] = true
				}
			case pack.Delta:
				var delta pack.TreeDelta
				delta, err = pack.ParseDelta(body)
				asked[delta.Base] = true
			}
		}
		return err
	})
	for id := range asked {
		if !in[id] {
			parts = append(parts, id)
		}
	}
	return parts, err
}

// Update moves refs.
func (s *Store) Update(ctx context.Context, updates ...refs.Update) error {
	return s.UpdateCut(ctx, nil, updates...)
}

// UpdateCut moves refs, if the bucket has all that they lead to then.
func (s *Store) UpdateCut(ctx context.Context, cut []objects.ID, updates ...refs.Update) error {
	const tries = 5
	for try := 1; ; try++ {
		err := s.update(ctx, cut, updates)
		if !errors.Is(err, remote.ErrStale) || try == tries {
			return err
		}
		s.Remote = s.replica.connect() // which has counted on nothing yet
	}
}

func (s *Store) update(ctx context.Context, cut []objects.ID, updates []refs.Update) error {
	g := s.replica.cache.use()
	defer g.release()
	have, err := s.known(ctx, updates)
	if err != nil {
		return err
	}
	var tips []objects.ID
	for _, u := range updates {
		if u.New.IsZero() || u.New == u.Old {
			continue
		}
		if err := s.fits(ctx, g, u); err != nil {
			return err
		}
		tips = append(tips, u.New)
	}
	if len(tips) > 0 {
		if err := s.complete(ctx, g, tips, have, cut); err != nil {
			return err
		}
	}
	return s.Remote.UpdateCut(ctx, cut, updates...)
}

// someTips is how many refs a new commit is compared with. More make it no safer, only
// quicker where it comes from one of them.
const someTips = 32

// known returns commits that the bucket has with all that they lead to: where the refs
// are that are to be moved, and some others.
func (s *Store) known(ctx context.Context, updates []refs.Update) ([]objects.ID, error) {
	moved := map[refs.Name]bool{}
	for _, u := range updates {
		moved[u.Name] = true
	}
	var first, others []objects.ID
	for ref, err := range s.Refs(ctx, "refs/") {
		switch {
		case err != nil:
			return nil, err
		case moved[ref.Name]:
			first = append(first, ref.ID)
		case len(others) < someTips && ref.Name.IsBranch():
			others = append(others, ref.ID)
		}
	}
	return append(first, others...), nil
}

// fits refuses to make a branch of what is no commit.
func (s *Store) fits(ctx context.Context, g *generation, u refs.Update) error {
	k, _, err := g.db.Stat(ctx, u.New)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %s: %w", u.Name, u.New.Short(), err)
	case u.Name.IsBranch() && k != objects.Commit:
		return fmt.Errorf("%s: %w: %s is a %s", u.Name, remote.ErrNotCommit, u.New.Short(), k)
	}
	return nil
}

// maxAsk is how many ids are looked for at once.
const maxAsk = 32 << 10

// complete looks whether the bucket has all that tips lead to and have do not.
func (s *Store) complete(ctx context.Context, g *generation, tips, have, cut []objects.ID) error {
	shallow, err := s.Shallow(ctx)
	if err != nil {
		return err
	}
	there, theirs := setOf(shallow), setOf(cut)
	isCut := func(id objects.ID) bool { return there[id] || theirs[id] }
	all := maps.Clone(there)
	maps.Copy(all, theirs)
	if err := g.warm(ctx, tips, have, all); err != nil {
		return err
	}
	var ids []objects.ID
	look := func() error {
		missing, err := s.Missing(ctx, ids)
		if err == nil && len(missing) > 0 {
			err = fmt.Errorf("%s: %w in the bucket", missing[0].Short(), objects.ErrNotFound)
		}
		ids = ids[:0]
		return err
	}
	err = reach.Since(ctx, g.db, tips, have, reach.Options{
		Shallow:      isCut,
		ShallowThere: func(id objects.ID) bool { return there[id] },
		Visit: func(id objects.ID, _ objects.Kind) error {
			if id == objects.EmptyTree {
				return nil
			}
			if ids = append(ids, id); len(ids) < maxAsk {
				return nil
			}
			return look()
		},
	})
	if err != nil {
		return err
	}
	return look()
}

// Refs yields refs as they are in one root.
func (s *Store) Refs(ctx context.Context, prefix string) iter.Seq2[refs.Ref, error] {
	return s.Remote.Refs(ctx, prefix)
}

// NoteUses notes when entries were used.
func (s *Store) NoteUses(ctx context.Context, t uses.Table) error {
	return s.Remote.NoteUses(ctx, t)
}

func setOf(ids []objects.ID) map[objects.ID]bool {
	set := make(map[objects.ID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

func without(ids, others []objects.ID) (left []objects.ID) {
	drop := setOf(others)
	for _, id := range ids {
		if !drop[id] {
			left = append(left, id)
		}
	}
	return left
}
