package repo

import (
	"context"
	"errors"
	"fmt"
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
			commit, err := r.evict(ctx, b.Ref, plan)
			if err != nil {
				return fmt.Errorf("%s: %w", b.Ref.Short(), err)
			}
			if !commit.IsZero() {
				cut = append(cut, commit)
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

// evict commits to a branch that entries go which the plan gives up, as far as they
// are still the same. It returns the commit, zero if there is nothing to do.
func (r *Repo) evict(ctx context.Context, branch refs.Name, plan *gc.Plan) (objects.ID, error) {
	for {
		commit, err := r.evictOnce(ctx, branch, plan)
		if !errors.As(err, new(*refs.ConflictError)) {
			return commit, err
		}
	}
}

func (r *Repo) evictOnce(ctx context.Context, branch refs.Name, plan *gc.Plan) (objects.ID, error) {
	b, err := r.DB.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return objects.ID{}, err
	}
	defer b.Close()
	// Nobody is to be in the middle of a commit that would be cut off.
	fold, err := r.Stage(branch).Rotate(ctx)
	if err != nil {
		return objects.ID{}, err
	}
	defer fold.Close()
	tip, _, err := r.Tip(ctx, branch)
	if err != nil || tip.IsZero() {
		return objects.ID{}, err
	}
	commit, err := r.PutEviction(ctx, b, tip, plan)
	if err != nil || commit.IsZero() {
		return objects.ID{}, err
	}
	if err := b.Commit(ctx, odb.Durable); err != nil {
		return objects.ID{}, err
	}
	return commit, r.Refs.Apply(ctx, refs.Update{Name: branch, Old: tip, New: commit, Reason: "gc: evict"})
}

// PutEviction puts into b, which may be of another store, a commit upon tip without the
// entries that a plan gives up. It is zero if tip has none of them.
func (r *Repo) PutEviction(ctx context.Context, b *odb.Batch, tip objects.ID, plan *gc.Plan) (objects.ID, error) {
	body, err := objects.ReadCommit(ctx, b, tip)
	if err != nil {
		return objects.ID{}, err
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
		return objects.ID{}, err
	}
	tree, err := trees.Apply(ctx, b, wholeTrees{b}, body.Tree, edits)
	if err != nil {
		return objects.ID{}, err
	}
	return r.putCommit(b, tree, []objects.ID{tip}, r.withProvenance(evictMessage(edits)))
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
