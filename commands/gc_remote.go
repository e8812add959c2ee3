package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/gc"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// A cleaning is one gc of a bucket. Its commits and trees are brought to this machine,
// where it is planned what goes; nobody needs what is in the entries for that.
type cleaning struct {
	s *session
	r *repo.Repo
	m remoteStore
	o repo.CollectOptions

	there *bucket.Remote
	db    *odb.DB // commits and trees of the bucket
	meter *meter

	used   uses.Table // what is known of uses
	usedIn []string   // the files of the bucket that tell
}

// A cleaned is what became of a bucket, or would.
type cleaned struct {
	*gc.Plan
	bucket.Collected

	kept                  int64        // about what stays takes
	sizeBefore, sizeAfter int64        // of packs and indexes that count
	waiting               bucket.Files // packs that do not count any more, and are to be deleted
}

// collectThere collects a bucket.
func (s *session) collectThere(ctx context.Context, r *repo.Repo, name string, o repo.CollectOptions) error {
	m, err := s.remoteNamed(r, name)
	if err != nil {
		return err
	}
	if err := refuseToCollect(m); err != nil {
		return err
	}
	conn, err := s.connect(ctx, r, m, false)
	if err != nil {
		return err
	}
	there, ok := conn.(*bucket.Remote)
	if !ok {
		return fmt.Errorf("%s is no bucket", m)
	}
	c := &cleaning{s: s, r: r, m: m, o: o, there: there}
	began := time.Now()
	sum, err := c.run(ctx)
	if err != nil {
		return c.explain(err)
	}
	if s.json {
		if err := s.answer(cleanedOf(m, sum, o.DryRun)); err != nil {
			return err
		}
	} else {
		s.tellCleaned(m, sum, o, time.Since(began))
	}
	return tooBigThere(m, sum, o)
}

// refuseToCollect says where to collect what is no bucket.
func refuseToCollect(m remoteStore) error {
	scheme, rest, isURL := strings.Cut(m.url, "://")
	switch {
	case !isURL:
		rest = m.url
		fallthrough
	case scheme == "file":
		return withHint(fmt.Errorf("%s is a repository, and collected there", shown(m.String())), fmt.Sprintf("cache-tool --repo %s gc", shown(rest)))
	case m.isGit():
		return withHint(fmt.Errorf("%s is a Git server, which collects itself what no branch leads to", shown(m.String())),
			"history goes from there with the branches that lead to it: see docs/operations.md, A Git server")
	case scheme == "http", scheme == "https":
		return withHint(fmt.Errorf("%s is a server, and its repository is collected there", shown(m.String())),
			`"cache-tool --repo DIR gc" on that machine, with the DIR that is served: it may run meanwhile`)
	}
	return nil
}

// explain says more about an error.
func (c *cleaning) explain(err error) error {
	switch {
	case isLacking(err):
		err = withHint(fmt.Errorf("nothing was dropped: %w", err), "who has what is missing pushes it again, or deletes the branch that leads to it")
	case errors.Is(err, bucket.ErrBusy), errors.As(err, new(*refs.ConflictError)), errors.Is(err, remote.ErrStale):
		err = withHint(fmt.Errorf("nothing was dropped: others push all the time: %w", err), "run it again when there is less going on")
	}
	return remoteError(c.m, err)
}

// run plans and collects. What it has brought here stays for the next time, as far as
// that will need it; unless it may be what is wrong.
func (c *cleaning) run(ctx context.Context) (sum cleaned, err error) {
	c.meter = c.s.progress("gc "+c.m.String(), "object")
	defer c.meter.stop()
	dir := filepath.Join(bucketDir(c.r, c.m), "trees")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return sum, err
	}
	// One of a repository at a time: they share the directory.
	lock, err := durable.LockExclusive(ctx, filepath.Join(dir, "gc.lock"))
	if err != nil {
		return sum, err
	}
	defer lock.Unlock()
	dir = filepath.Join(dir, "packs")
	c.db, err = odb.Open(dir, odb.Options{NoMerge: true, Fetch: c.fetch, Warn: func(err error) { c.s.detail("%v", err) }})
	if err != nil {
		return sum, err
	}
	defer func() {
		err = errors.Join(err, c.db.Close())
		if isLacking(err) {
			_ = os.RemoveAll(dir)
		}
	}()
	const tries = 5
	for try := 1; ; try++ {
		before, err := c.there.State(ctx)
		if err != nil {
			return sum, err
		}
		if sum, err = c.collect(ctx); !isLacking(err) || try == tries {
			return sum, err
		}
		// Another collection may have taken away what this one was looking at.
		if now, e := c.there.State(ctx); e != nil || now.Unique == before.Unique {
			return sum, err
		}
	}
}

// isLacking reports whether something is missing or damaged, here or there.
func isLacking(err error) bool {
	return errors.As(err, new(*gc.BrokenError)) || errors.Is(err, objects.ErrNotFound) || errors.Is(err, remote.ErrNotFound) ||
		errors.Is(err, pack.ErrBadPack) || errors.Is(err, io.ErrUnexpectedEOF)
}

func (c *cleaning) collect(ctx context.Context) (sum cleaned, err error) {
	state, err := c.there.State(ctx)
	if err != nil {
		return sum, err
	}
	before, err := c.there.Usage(ctx)
	if err != nil {
		return sum, err
	}
	sum.sizeBefore = before.Packs.Bytes + before.Indexes.Bytes
	if sum.Plan, err = c.plan(ctx, state); err != nil {
		return sum, err
	}
	for _, b := range sum.Branches {
		sum.kept += b.Bytes
	}
	o := bucket.CollectOptions{
		Mark: c.mark, Grace: c.o.Grace, DryRun: c.o.DryRun,
		Rewrite: worthRewriting(c.o.MaxSize, sum.sizeBefore, sum.kept),
	}
	if c.o.Grace <= 1 {
		o.Grace = 0 // the shortest that one can write
	}
	if sum.Collected, err = c.apply(ctx, state, sum.Plan, o); err != nil {
		return sum, err
	}
	if c.o.DryRun {
		sum.foresee(before, o.Grace)
		return sum, nil
	}
	if o.Grace == 0 && sum.Condemned.N > 0 { // there is nobody to wait for
		again, err := c.there.Collect(ctx, bucket.CollectOptions{Mark: c.mark, Rewrite: 1})
		if err != nil && !errors.Is(err, bucket.ErrBusy) {
			return sum, err
		}
		sum.Deleted.N, sum.Deleted.Bytes = sum.Deleted.N+again.Deleted.N, sum.Deleted.Bytes+again.Deleted.Bytes
	}
	after, err := c.there.Usage(ctx)
	if err != nil {
		return sum, err
	}
	sum.sizeAfter, sum.waiting = after.Packs.Bytes+after.Indexes.Bytes, after.Condemned
	if err := errors.Join(c.there.FoldUses(ctx, c.used, c.usedIn, uses.Today(time.Now())-repo.UsesRemembered), c.sweep(ctx, sum.Live)); err != nil {
		c.s.detail("%v", err) // the next gc does it
	}
	return sum, nil
}

// apply does what was planned for a state of the bucket. If others are faster, it does
// so with what they have made of it: entries go as far as they are still the same, and
// branches if they have not moved.
func (c *cleaning) apply(ctx context.Context, planned *bucket.State, plan *gc.Plan, o bucket.CollectOptions) (bucket.Collected, error) {
	const tries = 10
	state := planned
	for try := 1; ; try++ {
		var done bucket.Collected
		o, err := c.changes(ctx, planned, state, plan, o)
		if err == nil {
			done, err = c.there.Collect(ctx, o)
		}
		overtaken := errors.As(err, new(*refs.ConflictError)) || errors.Is(err, remote.ErrStale)
		if !overtaken || try == tries {
			return done, err
		}
		if err := giveWay(ctx, try); err != nil {
			return done, err
		}
		if state, err = c.there.State(ctx); err != nil {
			return done, err
		}
	}
}

// foresee says what a bucket would take.
func (sum *cleaned) foresee(before bucket.Usage, grace time.Duration) {
	sum.sizeAfter = sum.sizeBefore - sum.Condemned.Bytes + sum.Made.Bytes
	sum.waiting = bucket.Files{N: before.Condemned.N + sum.Condemned.N - sum.Deleted.N, Bytes: before.Condemned.Bytes + sum.Condemned.Bytes - sum.Deleted.Bytes}
	if grace == 0 {
		sum.Deleted.N, sum.Deleted.Bytes = sum.Deleted.N+sum.waiting.N, sum.Deleted.Bytes+sum.waiting.Bytes
		sum.waiting = bucket.Files{}
	}
}

// sweep drops what the next gc will not need: all of it, for a tree that stays behind as
// the difference to one that goes would be found, and could not be read.
func (c *cleaning) sweep(ctx context.Context, live *reach.Set) error {
	_, err := c.db.Sweep(odb.Local(ctx), odb.SweepOptions{
		Live: live, NewSet: func() odb.Set { return new(reach.Set) }, Rewrite: 0,
		Mark: func(context.Context) ([]objects.ID, error) { return nil, nil },
	})
	return err
}

// worthRewriting returns from which share of waste on a pack is written anew: half is
// what one may have, as long as there is room for it.
func worthRewriting(limit, size, live int64) float64 {
	const most, least = 0.5, 1e-6
	if limit == 0 || size <= limit {
		return most
	}
	return min(most, max(least, float64(limit-live)/float64(limit)))
}

func (c *cleaning) options(shallow map[objects.ID]bool) transfer.Options {
	o := transfer.Options{Shallow: shallow, Staged: true}
	if c.meter != nil {
		o.Meter = c.meter
	}
	return o
}

// plan brings what a plan needs, and makes it.
func (c *cleaning) plan(ctx context.Context, state *bucket.State) (*gc.Plan, error) {
	tips := slices.SortedFunc(maps.Values(state.Refs), objects.ID.Compare)
	if err := c.mark(ctx, tips, state.Shallow, new(reach.Set)); err != nil {
		return nil, err
	}
	weights, err := c.there.Weights(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.readUses(ctx); err != nil {
		return nil, err
	}
	store := gc.Store{
		Objects: c.db,
		Shallow: func(id objects.ID) bool { return state.Shallow[id] },
		Weigh: func(_ context.Context, id objects.ID, add func(objects.ID) bool) (int64, error) {
			return weights.Of(id, add), nil
		},
		Overhead: weights.Overhead,
		Used: func(path string) (gc.Day, bool) {
			day, ok := c.used.Day(path)
			return gc.Day(day), ok
		},
	}
	set := c.o.Settings
	if set.Head, err = c.r.Refs.Head(ctx); err != nil {
		return nil, err
	}
	if set.Now.IsZero() {
		set.Now = time.Now()
	}
	for _, name := range slices.Sorted(maps.Keys(state.Refs)) {
		ref := gc.Ref{Ref: refs.Ref{Name: name, ID: state.Refs[name]}, Moved: set.Now}
		if commit, err := objects.ReadCommit(ctx, c.db, ref.ID); err == nil {
			ref.Moved = commit.Committer.When // a bucket has no reflog
		}
		store.Refs = append(store.Refs, ref)
	}
	return gc.MakePlan(ctx, store, set)
}

// readUses reads what the bucket was told of uses, and what is known here besides.
func (c *cleaning) readUses(ctx context.Context) (err error) {
	if c.used, c.usedIn, err = c.there.Uses(ctx); err != nil {
		return err
	}
	here, err := c.r.Uses()
	if err != nil {
		c.s.warn("%v", err) // what others know counts all the same
	}
	c.used.Merge(here)
	return nil
}

// mark brings the commits and trees that tips lead to, and says what is needed.
func (c *cleaning) mark(ctx context.Context, tips []objects.ID, shallow map[objects.ID]bool, live *reach.Set) error {
	_, err := transfer.FetchTrees(ctx, c.db, c.there, tips, live, c.options(shallow))
	return err
}

// changes adds to o what is to become of refs and history. What takes out entries is sent
// to the bucket before.
func (c *cleaning) changes(ctx context.Context, planned, state *bucket.State, plan *gc.Plan, o bucket.CollectOptions) (bucket.CollectOptions, error) {
	o.Updates, o.Shallow = nil, slices.Clone(plan.Cut)
	var tips []objects.ID
	for _, b := range plan.Branches {
		u := refs.Update{Name: b.Ref, Old: state.Refs[b.Ref], Reason: "gc"}
		isSame := u.Old == planned.Refs[b.Ref]
		switch {
		case u.Old.IsZero(): // somebody has deleted it
			continue
		case plan.EvictsOf(b.Ref) > 0:
			if !isSame {
				if err := c.mark(ctx, []objects.ID{u.Old}, state.Shallow, plan.Before); err != nil {
					return o, err
				}
			}
			commit, err := c.evict(ctx, u.Old, plan)
			if err != nil {
				return o, fmt.Errorf("%s: %w", b.Ref.Short(), err)
			}
			if commit.IsZero() {
				continue
			}
			u.New, o.Shallow = commit, append(o.Shallow, commit)
			tips = append(tips, commit)
		case !b.Expired || !isSame:
			continue
		}
		o.Updates = append(o.Updates, u)
	}
	if len(tips) == 0 || o.DryRun {
		return o, nil
	}
	send := c.options(maps.Clone(state.Shallow))
	for _, id := range o.Shallow {
		send.Shallow[id] = true
	}
	send.ShallowThere = state.Shallow
	_, err := transfer.Send(ctx, c.db, c.there, tips, slices.Collect(maps.Values(state.Refs)), send)
	return o, err
}

// evict makes a commit upon tip, without the entries that go.
func (c *cleaning) evict(ctx context.Context, tip objects.ID, plan *gc.Plan) (objects.ID, error) {
	b, err := c.db.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return objects.ID{}, err
	}
	defer b.Close()
	commit, err := c.r.PutEviction(ctx, b, tip, plan)
	if err != nil {
		return objects.ID{}, err
	}
	return commit, b.Commit(ctx, odb.Staged)
}

// fetch brings what else is wanted than commits and trees: metas, for their dates. What
// can't be had is told to whoever opens it.
func (c *cleaning) fetch(ctx context.Context, ids []objects.ID) error {
	lacking, err := c.there.Missing(ctx, ids)
	if err != nil {
		return err
	}
	gone := map[objects.ID]bool{}
	for _, id := range lacking {
		gone[id] = true
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(id objects.ID) bool { return gone[id] })
	if len(ids) == 0 {
		return nil
	}
	if len(ids) == 1 {
		_, err := transfer.FetchObjects(ctx, c.db, c.there, ids, c.options(nil))
		return err
	}
	b, err := c.db.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return err
	}
	defer b.Close()
	err = c.there.Blobs(ctx, ids, func(_ objects.ID, body []byte) error {
		c.meter.Done(1, int64(len(body)))
		_, err := b.PutBytes(objects.Blob, body)
		return err
	})
	if err != nil && !errors.Is(err, pack.ErrBadPack) { // which are left can be had one by one
		return err
	}
	return b.Commit(ctx, odb.Staged)
}
