// Package peer makes a remote of another repository that this process can reach
// by path. It goes through that repository's own locks and tables, as Git does,
// so that any number of others may use it at the same time.
//
// The native server serves one, too: what comes in is proven here, whoever
// brings it.
package peer

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A Remote is a repository as a remote.Remote and a remote.PathFetcher. It may be
// used from many goroutines at once, and for any number of conversations.
type Remote struct {
	db   *odb.DB
	refs refs.Store
	cuts Cuts
}

// Cuts are the commits of a repository whose parents were cut off.
type Cuts interface {
	Shallow() (map[objects.ID]bool, error)
	EditShallow(ctx context.Context, edit func(shallow map[objects.ID]bool)) error
}

// New returns the repository that has these objects and refs. Nil cuts are for one
// whose history is whole and stays so.
func New(db *odb.DB, store refs.Store, cuts Cuts) *Remote {
	if cuts == nil {
		cuts = noCuts{}
	}
	return &Remote{db, store, cuts}
}

// Refs yields the refs whose names begin with prefix. They are listed first, so
// that what is yielded is as near to one moment as it can be.
func (r *Remote) Refs(ctx context.Context, prefix string) iter.Seq2[refs.Ref, error] {
	return func(yield func(refs.Ref, error) bool) {
		all, err := r.snapshot(ctx, prefix)
		if err != nil {
			yield(refs.Ref{}, err)
			return
		}
		for _, ref := range all {
			if !yield(ref, nil) {
				return
			}
		}
	}
}

// snapshot lists refs until two lists in a row are the same: they move one file
// after the other, and several that move together must be seen together.
func (r *Remote) snapshot(ctx context.Context, prefix string) ([]refs.Ref, error) {
	const tries = 100
	before, err := r.list(ctx, prefix)
	for try := 0; err == nil && try < tries; try++ {
		var now []refs.Ref
		if now, err = r.list(ctx, prefix); err == nil && equal(before, now) {
			return now, nil
		}
		before = now
	}
	return before, err
}

func equal(a, b []refs.Ref) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (r *Remote) list(ctx context.Context, prefix string) ([]refs.Ref, error) {
	var all []refs.Ref
	for ref, err := range r.refs.All(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		all = append(all, ref)
	}
	return all, nil
}

// Missing returns those of ids that the repository lacks.
func (r *Remote) Missing(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r.db.Missing(ctx, ids)
}

// MissingBases returns those of ids that the repository does not keep as whole
// trees.
func (r *Remote) MissingBases(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	return r.db.MissingWhole(ctx, ids)
}

// Fetch returns a pack with what q asks for.
func (r *Remote) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	have := map[objects.ID]bool{} // trees, of those that may be bases of others
	for _, id := range q.Have {
		have[id] = true
	}
	ids, err := r.extent(ctx, q, have)
	if err != nil {
		return nil, err
	}
	return r.send(ctx, ids, odb.ParcelOptions{
		Size:       math.MaxInt64, // they go into one pack
		Base:       func(tree objects.ID) bool { return have[tree] },
		Neighbours: q.Neighbours,
	})
}

// extent returns what a request comes to, and adds to have what it finds out.
func (r *Remote) extent(ctx context.Context, q remote.Request, have map[objects.ID]bool) ([]objects.ID, error) {
	if q.Extent == remote.Only {
		return q.Want, ctx.Err()
	}
	shallow, err := r.cuts.Shallow()
	if err != nil {
		return nil, err
	}
	theirs := setOf(q.Shallow)
	var ids []objects.ID
	err = reach.Since(ctx, r.db, q.Want, q.Have, reach.Options{
		Commits:      q.Extent == remote.History,
		Beside:       func(tree objects.ID) { have[tree] = true },
		Shallow:      func(id objects.ID) bool { return shallow[id] },
		ShallowThere: func(id objects.ID) bool { return theirs[id] },
		Visit: func(id objects.ID, _ objects.Kind) error {
			if id != objects.EmptyTree {
				ids = append(ids, id)
			}
			return nil
		},
	})
	if err != nil || q.Extent != remote.Closure || len(q.Have) > 0 {
		return ids, err
	}
	// Who has nothing has none of the chunks either: it need not ask for them, and
	// what shares their blocks travels with them.
	if err := r.db.Prefetch(ctx, ids); err != nil {
		return nil, err
	}
	var chunks []objects.ID
	seen := map[objects.ID]bool{}
	err = r.db.Chunks(ctx, ids, func(_, chunk objects.ID) error {
		if !seen[chunk] {
			seen[chunk] = true
			chunks = append(chunks, chunk)
		}
		return nil
	})
	return append(ids, chunks...), err
}

// send returns a pack with the objects that ids name.
func (r *Remote) send(ctx context.Context, ids []objects.ID, o odb.ParcelOptions) (io.ReadCloser, error) {
	// What was promised to this store comes at once, and not one by one.
	if err := r.db.Prefetch(ctx, ids); err != nil {
		return nil, err
	}
	parcels, err := r.db.Parcels(ctx, ids, o)
	if err != nil {
		return nil, err
	}
	// Commits and trees first: where the connection breaks, they tell what else is
	// missing, and what has come need not come again.
	slices.SortStableFunc(parcels, func(a, b *odb.Parcel) int {
		switch {
		case a.Last() == b.Last():
			return 0
		case a.Last():
			return -1
		}
		return 1
	})
	ctx, cancel := context.WithCancel(ctx)
	pipe := pack.NewPipe()
	go func() {
		err := ctx.Err()
		for _, p := range parcels {
			if err == nil {
				err = p.Blocks(ctx, pipe.Append)
			}
		}
		pipe.End(err)
	}()
	return &body{pipe, cancel}, nil
}

// body is a pack that is being made. Closing it ends that.
type body struct {
	*pack.Pipe
	cancel func()
}

func (b *body) Close() error {
	b.cancel()
	return b.Pipe.Close()
}

// Upload adds the objects of a pack, each proven, those that are here already as
// well.
func (r *Remote) Upload(ctx context.Context, p io.ReaderAt, size int64) error {
	return r.add(ctx, func(b *odb.Batch) error {
		if _, err := b.Receive(ctx, io.NewSectionReader(p, 0, size)); err != nil {
			return err
		}
		lacking, err := b.Prove(ctx, nil)
		if err == nil && len(lacking) > 0 {
			err = fmt.Errorf("%d parts of its objects are neither in it nor here: %s …: %w", len(lacking), lacking[0].Short(), objects.ErrNotFound)
		}
		return err
	})
}

// Take adds what is in parcels of a store in this process. Their blocks are copied
// as they are, and proven when they are read.
func (r *Remote) Take(ctx context.Context, parcels []*odb.Parcel, done func(*odb.Parcel)) error {
	for _, p := range parcels {
		// One after the other, so that a push that is broken off costs one.
		if err := r.add(ctx, func(b *odb.Batch) error { return b.Adopt(ctx, p) }); err != nil {
			return err
		}
		done(p)
	}
	return nil
}

// maxWaiting is how many bytes of a pack may be recipes, and deltas of what the
// repository lacks.
const maxWaiting = 128 << 20

func (r *Remote) add(ctx context.Context, fill func(*odb.Batch) error) error {
	b, err := r.db.NewBatch(ctx, odb.BatchOptions{Waiting: maxWaiting, ProveKnown: true})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := fill(b); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	return b.Commit(ctx, odb.Durable)
}

var (
	_ remote.Remote      = (*Remote)(nil)
	_ remote.PathFetcher = (*Remote)(nil)
	_ remote.BaseProber  = (*Remote)(nil)
	_ remote.Cutter      = (*Remote)(nil)
)
