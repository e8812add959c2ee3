package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/gc"
)

// apply makes true what a plan gives up. Nothing is dropped yet: each step alone
// leaves a repository that is whole.
func (c *collector) apply(ctx context.Context, plan *gc.Plan) error {
	r := c.repo
	for _, b := range plan.Branches {
		if b.Expired {
			if err := r.expire(ctx, b.Ref); err != nil {
				return err
			}
		}
	}
	cut := plan.Cut
	if plan.Shed && plan.Evicted > 0 {
		// From now on what is not here counts as promised, and not as damaged.
		if err := r.Config.Set(ctx, "remote."+r.upstream(ctx)+".lazy", "true"); err != nil {
			return err
		}
	} else {
		for _, b := range plan.Branches {
			if plan.EvictsOf(b.Ref) == 0 {
				continue
			}
			done, err := r.evict(ctx, b.Ref, plan, c.evictions[b.Ref])
			if err != nil {
				return fmt.Errorf("%s: %w", b.Ref.Short(), err)
			}
			if !done.commit.IsZero() {
				c.evictions[b.Ref] = done
				cut = append(cut, done.commit)
			}
		}
	}
	return r.EditShallow(ctx, func(shallow map[objects.ID]bool) {
		for _, id := range cut {
			shallow[id] = true
		}
	})
}

// expire deletes a branch that nobody has moved for long, unless somebody does now.
func (r *Repo) expire(ctx context.Context, name refs.Name) error {
	id, err := r.Refs.Get(ctx, name)
	if errors.Is(err, refs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if name.IsBranch() {
		if n, err := r.Stage(name).Count(ctx); err != nil || n > 0 {
			return err
		}
	}
	err = r.Refs.Apply(ctx, refs.Update{Name: name, Old: id, Reason: "gc: idle"})
	if errors.As(err, new(*refs.ConflictError)) {
		return nil
	}
	return err
}

// An eviction is a commit without the entries that went, and what it was made upon.
type eviction struct {
	commit, parent objects.ID
	removed        []trees.Edit
}

// evict commits to a branch that entries go which the plan gives up, as far as they
// are still the same. The commit takes the place of one that an earlier round made:
// nobody who knows only what was before could tell that it descends from that. It is
// zero if there is nothing to do.
func (r *Repo) evict(ctx context.Context, branch refs.Name, plan *gc.Plan, earlier eviction) (eviction, error) {
	for {
		done, err := r.evictOnce(ctx, branch, plan, earlier)
		if !errors.As(err, new(*refs.ConflictError)) {
			return done, err
		}
	}
}

func (r *Repo) evictOnce(ctx context.Context, branch refs.Name, plan *gc.Plan, earlier eviction) (eviction, error) {
	b, err := r.DB.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return eviction{}, err
	}
	defer b.Close()
	// Nobody is to be in the middle of a commit that would be cut off.
	fold, err := r.Stage(branch).Rotate(ctx)
	if err != nil {
		return eviction{}, err
	}
	defer fold.Close()
	tip, _, err := r.Tip(ctx, branch)
	if err != nil || tip.IsZero() {
		return eviction{}, err
	}
	if tip != earlier.commit {
		earlier = eviction{parent: tip}
	}
	done, err := r.putEviction(ctx, b, tip, plan, earlier)
	if err != nil || done.commit.IsZero() {
		return eviction{}, err
	}
	if err := b.Commit(ctx, odb.Durable); err != nil {
		return eviction{}, err
	}
	return done, r.Refs.Apply(ctx, refs.Update{Name: branch, Old: tip, New: done.commit, Reason: "gc: evict"})
}

// PutEviction puts into b, which may be of another store, a commit upon tip without the
// entries that a plan gives up. It is zero if tip has none of them.
func (r *Repo) PutEviction(ctx context.Context, b *odb.Batch, tip objects.ID, plan *gc.Plan) (objects.ID, error) {
	done, err := r.putEviction(ctx, b, tip, plan, eviction{parent: tip})
	return done.commit, err
}

// putEviction puts into b a commit of what tip has, without the entries that a plan
// gives up; its parent is that of earlier.
func (r *Repo) putEviction(ctx context.Context, b *odb.Batch, tip objects.ID, plan *gc.Plan, earlier eviction) (eviction, error) {
	body, err := objects.ReadCommit(ctx, b, tip)
	if err != nil {
		return eviction{}, err
	}
	var edits []trees.Edit
	err = trees.Walk(ctx, b, body.Tree, func(path string, e objects.Entry) (trees.Step, error) {
		if !entry.IsPath(path) {
			return trees.Continue, nil
		}
		if plan.Evicts(e.ID) {
			edits = append(edits, trees.Edit{Path: path})
		}
		return trees.SkipTree, nil
	})
	if err != nil || len(edits) == 0 {
		return eviction{}, err
	}
	tree, err := trees.Apply(ctx, b, wholeTrees{b}, body.Tree, edits)
	if err != nil {
		return eviction{}, err
	}
	earlier.removed = slices.Concat(earlier.removed, edits)
	message := evictMessage(earlier.removed)
	earlier.commit, err = r.putCommit(b, tree, []objects.ID{earlier.parent}, r.withProvenance(message))
	return earlier, err
}

// wholeTrees keeps trees whole. As differences to those that go they would hold these.
type wholeTrees struct{ *odb.Batch }

func (w wholeTrees) PutTree(body []byte, _ objects.ID) (objects.ID, error) {
	return w.PutBytes(objects.Tree, body)
}

// evictMessage says what a commit takes out.
func evictMessage(edits []trees.Edit) string {
	var text strings.Builder
	what := "entries"
	if len(edits) == 1 {
		what = "entry"
	}
	fmt.Fprintf(&text, "gc: %d %s not used for longest\n\n", len(edits), what)
	for i, e := range edits {
		if i == maxNamed {
			fmt.Fprintf(&text, "and %d more\n", len(edits)-i)
			break
		}
		name := e.Path
		if kind, key, err := entry.ParsePath(e.Path); err == nil {
			name = fmt.Sprintf("%s %s", kind, key)
		}
		fmt.Fprintf(&text, "remove %s\n", name)
	}
	return text.String()
}
