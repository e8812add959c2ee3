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
	case scheme == "http", scheme == "https":
		return withHint(fmt.Errorf("%s is a server, and its repository is collected there", shown(m.String())),
			`"cache-tool --repo DIR gc" on that machine, with the DIR that is served: it may run meanwhile`)
	}
	return nil
}

// explain says more about an error.
func (c *cleaning) explain(err error) error {
	switch {
	case errors.As(err, new(*gc.BrokenError)), errors.Is(err, objects.ErrNotFound), errors.Is(err, remote.ErrNotFound),
		errors.Is(err, pack.ErrBadPack), errors.Is(err, io.ErrUnexpectedEOF):
		err = withHint(fmt.Errorf("nothing was dropped: %w", err), "who has what is missing pushes it again, or deletes the branch that leads to it")
	case errors.Is(err, bucket.ErrBusy), errors.As(err, new(*refs.ConflictError)), errors.Is(err, remote.ErrStale):
		err = withHint(fmt.Errorf("nothing was dropped: others push all the time: %w", err), "run it again when there is less going on")
	}
	return remoteError(c.m, err)
}

// run plans and collects, again if others moved what was planned for.
func (c *cleaning) run(ctx context.Context) (cleaned, error) {
	const tries = 5
	c.meter = c.s.progress("gc "+c.m.String(), "object")
	defer c.meter.stop()
	// One of a machine at a time: they would do the same, and share the directory.
	dir := filepath.Join(bucketDir(c.r, c.m), "trees")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return cleaned{}, err
	}
	lock, err := durable.LockExclusive(ctx, filepath.Join(dir, "gc.lock"))
	if err != nil {
		return cleaned{}, err
	}
	defer lock.Unlock()
	for try := 1; ; try++ {
		sum, err := c.once(ctx, filepath.Join(dir, "packs"))
		again := errors.As(err, new(*refs.ConflictError)) || errors.Is(err, remote.ErrStale)
		if !again || try == tries {
			return sum, err
		}
		if err := giveWay(ctx, 5*try); err != nil {
			return cleaned{}, err
		}
	}
}

// once plans and collects. What it has brought here stays for the next time, as far as
// that will need it; after an error nothing stays: it may be what is wrong.
func (c *cleaning) once(ctx context.Context, dir string) (sum cleaned, err error) {
	c.db, err = odb.Open(dir, odb.Options{NoMerge: true, Fetch: c.fetch, Warn: func(err error) { c.s.detail("%v", err) }})
	if err != nil {
		return sum, err
	}
	defer func() {
		err = errors.Join(err, c.db.Close())
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
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
	collect, err := c.changes(ctx, state, sum.Plan)
	if err != nil {
		return sum, err
	}
	for _, b := range sum.Branches {
		sum.kept += b.Bytes
	}
	collect.Rewrite = worthRewriting(c.o.MaxSize, sum.sizeBefore, sum.kept)
	if sum.Collected, err = c.there.Collect(ctx, collect); err != nil {
		return sum, err
	}
	if c.o.DryRun {
		sum.foresee(before, collect.Grace)
		return sum, nil
	}
	if collect.Grace == 0 && sum.Condemned.N > 0 { // there is nobody to wait for
		again, err := c.there.Collect(ctx, bucket.CollectOptions{Mark: c.mark, Rewrite: 1})
		if err != nil {
			return sum, err
		}
		sum.Deleted.N, sum.Deleted.Bytes = sum.Deleted.N+again.Deleted.N, sum.Deleted.Bytes+again.Deleted.Bytes
	}
	after, err := c.there.Usage(ctx)
	if err != nil {
		return sum, err
	}
	sum.sizeAfter, sum.waiting = after.Packs.Bytes+after.Indexes.Bytes, after.Condemned
	if err := c.there.FoldUses(ctx, c.used, c.usedIn, uses.Today(time.Now())-repo.UsesRemembered); err != nil {
		return sum, err
	}
	return sum, c.sweep(ctx, sum.Live)
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

// sweep drops what the next gc will not need.
func (c *cleaning) sweep(ctx context.Context, live *reach.Set) error {
	_, err := c.db.Sweep(odb.Local(ctx), odb.SweepOptions{
		Live: live, NewSet: func() odb.Set { return new(reach.Set) }, Rewrite: 0.5,
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

// changes returns what is to become of the bucket. What takes out entries is sent to it
// before.
func (c *cleaning) changes(ctx context.Context, state *bucket.State, plan *gc.Plan) (bucket.CollectOptions, error) {
	o := bucket.CollectOptions{Mark: c.mark, Grace: c.o.Grace, DryRun: c.o.DryRun, Shallow: plan.Cut}
	if c.o.Grace <= 1 {
		o.Grace = 0 // the shortest that one can write
	}
	var tips []objects.ID
	for _, b := range plan.Branches {
		u := refs.Update{Name: b.Ref, Old: state.Refs[b.Ref], Reason: "gc"}
		switch {
		case plan.EvictsOf(b.Ref) > 0:
			commit, err := c.evict(ctx, u.Old, plan)
			if err != nil {
				return o, fmt.Errorf("%s: %w", b.Ref.Short(), err)
			}
			u.New, o.Shallow = commit, append(o.Shallow, commit)
			tips = append(tips, commit)
		case !b.Expired:
			continue
		}
		o.Updates = append(o.Updates, u)
	}
	if len(tips) == 0 || c.o.DryRun {
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

// tooBigThere is the error that says why a bucket is bigger than was asked for.
func tooBigThere(m remoteStore, sum cleaned, o repo.CollectOptions) error {
	if o.MaxSize == 0 || sum.sizeAfter <= o.MaxSize {
		return nil
	}
	text := fmt.Sprintf("%s: %s stay, more than %s", m, size(sum.sizeAfter), size(o.MaxSize))
	if held := holding(sum.Holds); held != "" {
		text += ": " + held + " must stay"
	}
	if o.Grace > 1 && sum.Plan.Short == 0 {
		return withHint(errors.New(text), fmt.Sprintf("packs younger than %s stay, since somebody may be about to need them: a later run drops them", ageOf(o.Grace)))
	}
	return withHint(errors.New(text), "delete tags, or change gc.protected")
}

// A cleanedJSON is what --json says of a bucket.
type cleanedJSON struct {
	Remote     string      `json:"remote"`
	DryRun     bool        `json:"dryRun"`
	Branches   []gc.Branch `json:"branches"`
	Evicted    int         `json:"evictedEntries"`
	Condemned  filesJSON   `json:"condemned"` // packs that do not count any more
	Made       filesJSON   `json:"made"`      // packs of what was still needed of them
	Deleted    filesJSON   `json:"deleted"`   // packs that were condemned before, and what was left over
	Waiting    filesJSON   `json:"waiting"`   // condemned packs that are deleted after the grace
	Damaged    int         `json:"damagedPacks,omitempty"`
	KeptBytes  int64       `json:"keptBytes"`
	SizeBefore int64       `json:"sizeBefore"` // without condemned packs
	SizeAfter  int64       `json:"sizeAfter"`
	Holds      []gc.Hold   `json:"holds,omitempty"`
}

type filesJSON struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

func cleanedOf(m remoteStore, sum cleaned, dryRun bool) cleanedJSON {
	files := func(f bucket.Files) filesJSON { return filesJSON{f.N, f.Bytes} }
	branches := sum.Branches
	if branches == nil {
		branches = []gc.Branch{}
	}
	return cleanedJSON{
		Remote: m.String(), DryRun: dryRun, Branches: branches, Evicted: sum.Evicted,
		Condemned: files(sum.Condemned), Made: files(sum.Made), Deleted: files(sum.Deleted), Waiting: files(sum.waiting), Damaged: sum.Damaged,
		KeptBytes: sum.kept, SizeBefore: sum.sizeBefore, SizeAfter: sum.sizeAfter, Holds: sum.Holds,
	}
}

// tellCleaned says what was kept and dropped, branch by branch.
func (s *session) tellCleaned(m remoteStore, sum cleaned, o repo.CollectOptions, took time.Duration) {
	for _, b := range sum.Branches {
		s.say("%s", branchLine(b, false))
	}
	verb, made, deleted := "condemned", "made", "deleted"
	if o.DryRun {
		verb, made, deleted = "would condemn", "make", "delete"
	}
	files := func(f bucket.Files, what string) string {
		if f.N == 0 {
			return counted(0, what)
		}
		return fmt.Sprintf("%s, %s", counted(f.N, what), size(f.Bytes))
	}
	text := fmt.Sprintf("%s: %s %s", shown(m.String()), verb, files(sum.Condemned, "pack"))
	if sum.Made.N > 0 {
		text += fmt.Sprintf("; %s %s of what is needed of them", made, files(sum.Made, "pack"))
	}
	if sum.Deleted.N > 0 {
		text += fmt.Sprintf("; %s %s", deleted, files(sum.Deleted, "file"))
	}
	text += fmt.Sprintf(": %s -> %s", size(sum.sizeBefore), size(sum.sizeAfter))
	if !o.DryRun {
		text += fmt.Sprintf(", %.1f s", took.Seconds())
	}
	s.say("%s", text)
	if sum.waiting.N > 0 {
		s.say("%s: %s of condemned packs wait besides, for readers: a gc deletes them %s after they were condemned", shown(m.String()), size(sum.waiting.Bytes), ageOf(o.Grace))
	}
	if sum.Damaged > 0 {
		s.warn("%s: %s can't be read, though they are needed, and stay: who has what is in them pushes it again", m, counted(sum.Damaged, "pack"))
	}
}

// ageOf writes a period as people give it.
func ageOf(d time.Duration) string {
	for _, unit := range []struct {
		d    time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d%unit.d == 0 {
			return fmt.Sprintf("%d%s", d/unit.d, unit.name)
		}
	}
	return d.String()
}
