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
	"github.com/cache-tool/cache-tool/repo/action"
)

// A Policy settles what both sides of a merge changed.
type Policy uint8

// The policies of a merge.
const (
	Report Policy = iota // settle nothing: conflicts stop the merge
	Ours                 // what the branch has stays
	Theirs               // what comes in wins
	Newest               // the entry that was made last wins
)

// Merged is what a merge, a revert or a reset came to.
type Merged struct {
	Tip         objects.ID       // of the branch, now
	Changed     bool             // whether the tip moved
	FastForward bool             // whether it moved without a new commit
	Conflicts   []trees.Conflict // why it did not move: the entries in conflict
	Settled     []trees.Conflict // what the policy settled
}

// Merge brings the commit theirs into branch: three-way, entries taken whole.
// What is staged is committed first. With conflicts that policy leaves open
// nothing changes, and Merged names them. It is durable on return.
func (r *Repo) Merge(ctx context.Context, branch refs.Name, theirs objects.ID, policy Policy, message string) (Merged, error) {
	tip, _, err := r.FoldStage(ctx, branch, "")
	if err != nil {
		return Merged{}, err
	}
	if tip.IsZero() {
		return r.fastForward(ctx, branch, tip, theirs, message)
	}
	base, err := r.MergeBase(ctx, tip, theirs)
	switch {
	case err != nil:
		return Merged{}, err
	case base == theirs:
		return Merged{Tip: tip}, nil
	case base == tip:
		return r.fastForward(ctx, branch, tip, theirs, message)
	}
	baseTree := objects.EmptyTree // unrelated histories
	if !base.IsZero() {
		if baseTree, err = r.treeOf(ctx, base); err != nil {
			return Merged{}, err
		}
	}
	theirTree, err := r.treeOf(ctx, theirs)
	if err != nil {
		return Merged{}, err
	}
	return r.threeWay(ctx, threeWay{
		branch: branch, tip: tip, base: baseTree, theirs: theirTree,
		parents: []objects.ID{tip, theirs}, policy: policy, message: message, verb: "merge",
	})
}

// Revert takes out of branch what commit brought in, as a new commit. The first
// parent is what it is compared with; a commit without parents is taken back
// whole. What is staged is committed first. Conflicts are as in Merge: entries
// that were changed again since.
func (r *Repo) Revert(ctx context.Context, branch refs.Name, commit objects.ID, policy Policy, message string) (Merged, error) {
	tip, _, err := r.FoldStage(ctx, branch, "")
	if err != nil {
		return Merged{}, err
	}
	c, err := objects.ReadCommit(ctx, r.DB, commit)
	if err != nil {
		return Merged{}, err
	}
	before := objects.EmptyTree
	if len(c.Parents) > 0 {
		if before, err = r.treeOf(ctx, c.Parents[0]); err != nil {
			return Merged{}, err
		}
	}
	if message == "" {
		message = fmt.Sprintf("Revert %q\n\nThis reverts commit %s.\n", c.Subject(), commit)
	}
	return r.threeWay(ctx, threeWay{
		branch: branch, tip: tip, base: c.Tree, theirs: before,
		parents: parents(tip), policy: policy, message: message, verb: "revert",
	})
}

// Reset moves branch to commit. The reflog keeps what it was; the stage is left
// as it is.
func (r *Repo) Reset(ctx context.Context, branch refs.Name, commit objects.ID) (Merged, error) {
	if _, err := objects.ReadCommit(ctx, r.DB, commit); err != nil {
		return Merged{}, err
	}
	old, err := r.Refs.Get(ctx, branch)
	if err != nil && !errors.Is(err, refs.ErrNotFound) {
		return Merged{}, err
	}
	if old == commit {
		return Merged{Tip: commit}, nil
	}
	err = r.Refs.Apply(ctx, refs.Update{Name: branch, Old: old, New: commit, Reason: "reset: moving to " + commit.Short()})
	return Merged{Tip: commit, Changed: err == nil}, err
}

func (r *Repo) treeOf(ctx context.Context, commit objects.ID) (objects.ID, error) {
	c, err := objects.ReadCommit(ctx, r.DB, commit)
	return c.Tree, err
}

func (r *Repo) fastForward(ctx context.Context, branch refs.Name, tip, to objects.ID, message string) (Merged, error) {
	subject, _, _ := strings.Cut(message, "\n")
	err := r.Refs.Apply(ctx, refs.Update{Name: branch, Old: tip, New: to, Reason: "merge: fast-forward " + subject})
	return Merged{Tip: to, Changed: true, FastForward: true}, err
}

type threeWay struct {
	branch       refs.Name
	tip          objects.ID
	base, theirs objects.ID // trees
	parents      []objects.ID
	policy       Policy
	message      string
	verb         string
}

func (r *Repo) threeWay(ctx context.Context, t threeWay) (Merged, error) {
	ours, err := r.treeOf(ctx, t.tip)
	if err != nil {
		return Merged{}, err
	}
	batch, err := r.DB.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return Merged{}, err
	}
	defer batch.Close()
	var settled []trees.Conflict
	tree, conflicts, err := trees.Merge(ctx, batch, batch, t.base, ours, t.theirs, r.mergeOptions(batch, t.policy, &settled))
	if err != nil {
		return Merged{}, fmt.Errorf("%s into %s: %w", t.verb, t.branch.Short(), err)
	}
	if len(conflicts) > 0 {
		return Merged{Tip: t.tip, Conflicts: conflicts}, nil
	}
	if tree == ours && len(t.parents) < 2 {
		return Merged{Tip: t.tip}, nil
	}
	commit, err := r.putCommit(batch, tree, t.parents, r.withProvenance(t.message))
	if err != nil {
		return Merged{}, err
	}
	if err := batch.Commit(ctx, odb.Durable); err != nil {
		return Merged{}, err
	}
	subject, _, _ := strings.Cut(t.message, "\n")
	err = r.Refs.Apply(ctx, refs.Update{Name: t.branch, Old: t.tip, New: commit, Reason: t.verb + ": " + subject})
	return Merged{Tip: commit, Changed: err == nil, Settled: settled}, err
}

// mergeOptions are the rules of a merge of branches: entries whole, equal but
// for times and provenance is equal, and what its client rewrites goes by age. What
// policy decides is added to settled.
func (r *Repo) mergeOptions(batch *odb.Batch, policy Policy, settled *[]trees.Conflict) trees.MergeOptions {
	return trees.MergeOptions{
		Whole: entry.IsPath,
		Same: func(ctx context.Context, a, b objects.Entry) (bool, error) {
			return entry.Same(ctx, batch, a.ID, b.ID)
		},
		Resolve: func(ctx context.Context, c trees.Conflict) (objects.Entry, error) {
			e, byPolicy, err := resolveConflict(ctx, batch, c, policy)
			if byPolicy && err == nil {
				*settled = append(*settled, c)
			}
			return e, err
		},
	}
}

func resolveConflict(ctx context.Context, batch *odb.Batch, c trees.Conflict, policy Policy) (e objects.Entry, byPolicy bool, err error) {
	both := c.Ours.Mode.IsDir() && c.Theirs.Mode.IsDir()
	if both {
		if merged, ok, err := mergeByKind(ctx, batch, c); ok || err != nil {
			return merged, false, err
		}
	}
	switch {
	case policy == Ours:
		return c.Ours, true, nil
	case policy == Theirs:
		return c.Theirs, true, nil
	case policy == Newest && both:
		e, err := newest(ctx, batch, c)
		return e, true, err
	case policy == Newest && c.Ours.Mode == 0: // deleted here, changed there: what exists is newer
		return c.Theirs, true, nil
	case policy == Newest:
		return c.Ours, true, nil
	}
	return objects.Entry{}, false, trees.ErrConflict
}

// mergeByKind settles what needs no policy: entries that their client rewrites,
// and sets of inputs, of which both count.
func mergeByKind(ctx context.Context, batch *odb.Batch, c trees.Conflict) (objects.Entry, bool, error) {
	_, ours, err := entry.Read(ctx, batch, c.Ours.ID)
	if err != nil {
		return objects.Entry{}, false, err
	}
	_, theirs, err := entry.Read(ctx, batch, c.Theirs.ID)
	if err == nil && ours.Kind == action.Deps && theirs.Kind == action.Deps {
		id, err := action.MergeDeps(ctx, batch, c.Ours.ID, c.Theirs.ID)
		return objects.Entry{Mode: objects.ModeDir, ID: id}, true, err
	}
	if err != nil || !ours.Latest || !theirs.Latest {
		return objects.Entry{}, false, err
	}
	e, err := newest(ctx, batch, c)
	return e, true, err
}

func newest(ctx context.Context, r objects.Reader, c trees.Conflict) (objects.Entry, error) {
	id, err := entry.Newer(ctx, r, c.Ours.ID, c.Theirs.ID)
	if id == c.Theirs.ID {
		return c.Theirs, err
	}
	return c.Ours, err
}
