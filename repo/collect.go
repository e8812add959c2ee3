package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/gc"
	"github.com/cache-tool/cache-tool/repo/stage"
)

// CollectOptions say what Collect keeps.
type CollectOptions struct {
	gc.Settings

	Grace   time.Duration // how long what nobody needs stays: see odb.SweepOptions
	Rewrite float64       // share of a pack that must be dead for it to be rewritten
	DryRun  bool          // change nothing
	Done    func(bytes int64)
}

// CollectSettings returns what the config says.
func (r *Repo) CollectSettings() CollectOptions {
	// All settings were checked when they were read.
	age := func(name string) time.Duration {
		d, _ := gc.ParseAge(r.Config.get(name))
		return d
	}
	var o CollectOptions
	o.MaxSize, _ = gc.ParseSize(r.Config.get("gc.maxSize"))
	o.MaxAge, o.KeepHistory, o.BranchTTL = age("gc.maxAge"), age("gc.keepHistory"), age("gc.branchTTL")
	o.Protected, _ = gc.ParsePatterns(r.Config.get("gc.protected"))
	o.Grace = age("gc.grace")
	percent, _ := strconv.Atoi(r.Config.get("gc.rewrite"))
	o.Rewrite = float64(percent) / 100
	return o
}

// Collected is what a Collect did, or would do.
type Collected struct {
	*gc.Plan
	odb.Swept

	SizeBefore, SizeAfter int64 // of the packs and their indexes
}

// Collect drops what nobody needs, and before that what the settings give up. Any
// number of others may read and write meanwhile: nothing that is reachable at the end
// is dropped, whoever made it so. What it gives up is gone when it returns; if it is
// interrupted, nothing is lost, and the next one goes on.
func (r *Repo) Collect(ctx context.Context, o CollectOptions) (Collected, error) {
	lock, err := durable.LockExclusive(ctx, r.path("gc.lock"))
	if err != nil {
		return Collected{}, err
	}
	defer lock.Unlock()
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	ctx = odb.Local(ctx) // what was promised need not be here
	if !o.DryRun {
		if err := r.settleStages(ctx); err != nil {
			return Collected{}, err
		}
	}
	before, err := r.DB.Usage()
	if err != nil {
		return Collected{}, err
	}
	sum, evictions := Collected{SizeBefore: before.Bytes}, map[refs.Name]eviction{}
	limit := o.MaxSize
	for range 3 {
		if err := r.collectOnce(ctx, o, evictions, &sum); err != nil || o.DryRun {
			return sum, err
		}
		over := sum.SizeAfter - limit
		if limit == 0 || over <= 0 || sum.Evicted == 0 || sum.Short > 0 || sum.Young >= over {
			break
		}
		// What is packed anew can come out bigger than it was.
		o.MaxSize = max(1, o.MaxSize-over-over/4)
	}
	return sum, nil
}

// collectOnce makes a plan and carries it out, and adds what came of it to sum, and to
// evictions.
func (r *Repo) collectOnce(ctx context.Context, o CollectOptions, evictions map[refs.Name]eviction, sum *Collected) error {
	before, err := r.DB.Usage()
	if err != nil {
		return err
	}
	c := &collector{
		repo: r, o: o, evictions: evictions,
		overhead: max(0, before.Bytes-before.Weight), tight: o.MaxSize > 0 && before.Bytes > o.MaxSize,
	}
	// In a lazy repository what is missed because others rename packs would pass for
	// promised, and what it leads to would go.
	var plan *gc.Plan
	err = r.DB.Still(ctx, func() (err error) {
		if plan, err = c.makePlan(ctx); err == nil {
			c.live = plan.Live
			err = c.young(ctx, plan)
		}
		return err
	})
	if err != nil {
		return err
	}
	swept, err := c.run(ctx, plan)
	if sum.Plan != nil {
		plan.Add(sum.Plan)
		swept.Add(sum.Swept)
	}
	sum.Plan, sum.Swept = plan, swept
	if sum.SizeAfter = before.Bytes - swept.Bytes; plan.Evicted > 0 {
		sum.SizeAfter = max(sum.SizeAfter, plan.Bytes+c.overhead) // new trees take the place of old ones
	}
	if err != nil || o.DryRun {
		return err
	}
	if err := r.DB.Consolidate(ctx); err != nil {
		return err
	}
	after, err := r.DB.Usage()
	sum.SizeAfter = after.Bytes
	return err
}

// settleStages makes an end of folds that somebody did not come to the end of. Whether
// their records are in a commit can't be told any more when that is cut off.
func (r *Repo) settleStages(ctx context.Context) error {
	branches, err := stage.Branches(r.path("stage"))
	if err != nil {
		return err
	}
	for _, branch := range branches {
		fold, err := r.Stage(refs.Branch(branch)).Rotate(ctx)
		if err != nil {
			return err
		}
		fold.Close()
	}
	return nil
}

// A collector is one round of a Collect.
type collector struct {
	repo     *Repo
	o        CollectOptions
	overhead int64 // bytes of the store that are no object's
	tight    bool  // there is more than there should be: nothing dead is worth keeping

	live      *reach.Set
	evictions map[refs.Name]eviction // of earlier rounds, too
}

func (c *collector) makePlan(ctx context.Context) (*gc.Plan, error) {
	r := c.repo
	shallow, err := r.Shallow()
	if err != nil {
		return nil, err
	}
	used, err := r.Uses()
	if err != nil {
		r.warn(err) // then the day counts on which entries were made
		used = uses.Table{}
	}
	store := gc.Store{
		Objects:  r.DB,
		Shallow:  func(id objects.ID) bool { return shallow[id] },
		Weigh:    r.DB.Weigh,
		Overhead: c.overhead,
		Lazy:     r.Config.lazyRemote() != "",
		Upstream: r.upstream(ctx),
		Used: func(path string) (gc.Day, bool) {
			day, ok := used.Day(path)
			return gc.Day(day), ok
		},
	}
	if store.Refs, err = c.refs(ctx); err != nil {
		return nil, err
	}
	staged, err := r.stagedIDs(ctx)
	if err != nil {
		return nil, err
	}
	store.Staged = staged
	if c.o.Head, err = r.Refs.Head(ctx); err != nil {
		return nil, err
	}
	plan, err := gc.MakePlan(ctx, store, c.o.Settings)
	if broken := (*gc.BrokenError)(nil); errors.As(err, &broken) {
		r.noteLoss(broken.Missing)
	}
	return plan, err
}

// refs lists all refs, with what a plan wants to know of them.
func (c *collector) refs(ctx context.Context) ([]gc.Ref, error) {
	var list []gc.Ref
	for ref, err := range c.repo.Refs.All(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref.Name, err)
		}
		one := gc.Ref{Ref: ref, Moved: c.o.Now}
		tracking := !ref.Name.IsBranch() && !ref.Name.IsTag()
		if tracking || ref.Name.IsBranch() && c.o.BranchTTL > 0 {
			if err := c.past(ctx, &one); err != nil {
				return nil, err
			}
		}
		list = append(list, one)
	}
	return list, nil
}

// past finds out where a ref was, and since when it is where it is. A branch with
// something staged moves.
func (c *collector) past(ctx context.Context, ref *gc.Ref) error {
	r := c.repo
	log, err := r.Refs.Log(ctx, ref.Name)
	if err != nil {
		return fmt.Errorf("reflog of %s: %w", ref.Name.Short(), err)
	}
	for _, e := range slices.Backward(log) {
		ref.Past = append(ref.Past, e.New)
	}
	n := 0
	if ref.Name.IsBranch() {
		if n, err = r.Stage(ref.Name).Count(ctx); err != nil {
			return err
		}
	}
	switch commit, err := objects.ReadCommit(ctx, r.DB, ref.ID); {
	case n > 0:
	case len(log) > 0:
		ref.Moved = log[len(log)-1].Who.When
	case err == nil:
		ref.Moved = commit.Committer.When
	}
	return nil
}

// stagedIDs returns the entries that wait for a commit, whatever their branch.
func (r *Repo) stagedIDs(ctx context.Context) ([]objects.ID, error) {
	branches, err := stage.Branches(r.path("stage"))
	if err != nil {
		return nil, err
	}
	var ids []objects.ID
	for _, branch := range branches {
		records, err := r.Staged(ctx, refs.Branch(branch))
		if err != nil {
			return nil, err
		}
		for _, record := range records {
			if !record.ID.IsZero() {
				ids = append(ids, record.ID)
			}
		}
	}
	return ids, nil
}

// upstream returns the remote that has what branches were pushed to it: the one that
// promised what is not here, else that of the default branch, else origin, else any.
// Empty if there is none.
func (r *Repo) upstream(ctx context.Context) string {
	var names []string
	if name := r.Config.lazyRemote(); name != "" {
		names = append(names, name)
	}
	if head, err := r.Refs.Head(ctx); err == nil {
		names = append(names, r.Config.get("branch."+head.Short()+".remote"))
	}
	names = append(names, "origin")
	for _, pair := range r.Config.List() {
		if rest, ok := strings.CutPrefix(pair[0], "remote."); ok && strings.HasSuffix(rest, ".url") {
			names = append(names, strings.TrimSuffix(rest, ".url"))
		}
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if at := r.Config.get("remote." + name + ".url"); at == "" || !ServesObjects(at) {
			continue
		}
		for range r.Refs.All(ctx, "refs/remotes/"+name+"/") {
			return name
		}
	}
	return ""
}

// run does what the plan says. What it returns is what was planned: the same whether
// it is done or not.
func (c *collector) run(ctx context.Context, plan *gc.Plan) (odb.Swept, error) {
	sweep := odb.SweepOptions{
		Live: plan.Live, NewSet: func() odb.Set { return new(reach.Set) },
		Grace: c.o.Grace, Rewrite: c.o.Rewrite, DryRun: true,
	}
	if plan.Before != nil {
		sweep.Before = plan.Before
	}
	if c.tight {
		sweep.Rewrite = 0
	}
	planned, err := c.repo.DB.Sweep(ctx, sweep)
	if err != nil || c.o.DryRun {
		return planned, err
	}
	if err := c.apply(ctx, plan); err != nil {
		return planned, err
	}
	sweep.DryRun, sweep.Mark, sweep.Done = false, c.mark, c.o.Done
	if _, err := c.repo.DB.Sweep(ctx, sweep); err != nil {
		return planned, err
	}
	if err := c.pruneShallow(ctx); err != nil {
		return planned, err
	}
	return planned, uses.Compact(ctx, c.repo.Dir, uses.Today(time.Now())-UsesRemembered)
}

// pruneShallow forgets cut commits that are gone.
func (c *collector) pruneShallow(ctx context.Context) error {
	shallow, err := c.repo.Shallow()
	if err != nil || len(shallow) == 0 {
		return err
	}
	gone, err := c.repo.DB.Missing(ctx, slices.Collect(maps.Keys(shallow)))
	if err != nil || len(gone) == 0 {
		return err
	}
	return c.repo.DB.Alone(ctx, func() error { // some may be about to come
		if gone, err = c.repo.DB.Missing(ctx, gone); err != nil {
			return err
		}
		return c.repo.EditShallow(ctx, func(shallow map[objects.ID]bool) {
			for _, id := range gone {
				delete(shallow, id)
			}
		})
	})
}

// young lets stay what came only just, with all that it leads to: a push may be about
// to name it.
func (c *collector) young(ctx context.Context, plan *gc.Plan) error {
	known := plan.Before
	if known == nil {
		known = plan.Live
	}
	ids, err := c.repo.DB.Young(ctx, c.o.Grace, known)
	if err != nil || len(ids) == 0 {
		return err
	}
	return reach.Walk(ctx, c.repo.DB, ids, reach.Options{
		Seen: plan.Live, Unplaced: true,
		Missing: func(reach.Missing) error { return nil },
	})
}

// mark adds to what is live what refs and stage lead to now, and returns what is new.
func (c *collector) mark(ctx context.Context) ([]objects.ID, error) {
	r := c.repo
	shallow, err := r.Shallow()
	if err != nil {
		return nil, err
	}
	staged, err := r.stagedIDs(ctx)
	if err != nil {
		return nil, err
	}
	var tips []objects.ID
	for ref, err := range r.Refs.All(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref.Name, err)
		}
		tips = append(tips, ref.ID)
	}
	var fresh []objects.ID
	o := reach.Options{
		Seen:     c.live,
		Unplaced: true,
		Shallow:  func(id objects.ID) bool { return shallow[id] },
		Visit: func(id objects.ID, _ objects.Kind) error {
			fresh = append(fresh, id)
			return nil
		},
		Missing: func(m reach.Missing) error {
			if r.Config.lazyRemote() != "" && errors.Is(m, objects.ErrNotFound) && !errors.As(m.Err, new(*objects.DamagedError)) {
				return nil
			}
			return m
		},
	}
	if err := reach.Walk(ctx, r.DB, tips, o); err != nil {
		return nil, err
	}
	o.Missing = func(reach.Missing) error { return nil } // a staged entry that is not whole is a miss
	return fresh, reach.Walk(ctx, r.DB, staged, o)
}
