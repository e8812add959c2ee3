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
	"github.com/cache-tool/cache-tool/objects/reach"
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
	Baseless    bool             // history was cut off before what both sides may come from
}

// Merge brings the commit theirs into branch: three-way, entries taken whole.
// What is staged is committed first. With conflicts that policy leaves open
// nothing changes, and Merged names them. It is durable on return.
//
// Where history was cut off before the commit that both come from, it is compared
// with what a remote had when it was seen last: see lastSeen. What was added here
// since is then put upon theirs, as one commit. Were the branch's own commits a
// parent of that, the next push would bring to the remote again all that it has
// cut off and evicted.
func (r *Repo) Merge(ctx context.Context, branch refs.Name, theirs objects.ID, policy Policy, message string) (Merged, error) {
	return r.MergeCut(ctx, branch, theirs, nil, policy, message)
}

// MergeCut is Merge with a commit of a remote whose history ends at the commits cut,
// though it may be known here what came before.
func (r *Repo) MergeCut(ctx context.Context, branch refs.Name, theirs objects.ID, cut map[objects.ID]bool, policy Policy, message string) (Merged, error) {
	tip, _, err := r.FoldStage(ctx, branch, "")
	if err != nil {
		return Merged{}, err
	}
	if tip.IsZero() {
		return r.fastForward(ctx, branch, tip, theirs, message)
	}
	base, from, err := r.base(ctx, tip, theirs)
	switch {
	case err != nil:
		return Merged{}, err
	case base == theirs:
		return Merged{Tip: tip}, nil
	case base == tip:
		return r.fastForward(ctx, branch, tip, theirs, message)
	case from == fromHistory && !base.IsZero() && len(cut) > 0:
		led, err := r.leads(ctx, theirs, base, cut)
		if err != nil {
			return Merged{}, err
		}
		if !led {
			from = fromSeen
		}
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
	t := threeWay{
		branch: branch, tip: tip, base: baseTree, theirs: theirTree,
		parents: []objects.ID{tip, theirs}, policy: policy, message: message, verb: "merge",
	}
	if from == fromSeen {
		t.parents = []objects.ID{theirs}
		if t.message, err = r.describeSince(ctx, message, tip, base, theirs); err != nil {
			return Merged{}, err
		}
	}
	merged, err := r.threeWay(ctx, t)
	merged.Baseless = from == fromNowhere
	return merged, err
}

// An origin says how the base of a merge was found.
type origin uint8

const (
	fromHistory origin = iota // or the histories are unrelated
	fromSeen                  // as the last that was seen of a remote
	fromNowhere               // history was cut off, and nothing was seen
)

// base returns the commit that tip and theirs are compared with, zero if there is none.
func (r *Repo) base(ctx context.Context, tip, theirs objects.ID) (base objects.ID, from origin, err error) {
	base, cut, err := r.mergeBase(ctx, tip, theirs)
	if err != nil || base == theirs || !cut {
		return base, fromHistory, err // if there is none, somebody has begun the branch anew
	}
	last, err := r.lastSeen(ctx, tip, theirs)
	switch {
	case err != nil || last == base && !base.IsZero():
		return base, fromHistory, err
	case !last.IsZero() && base.IsZero():
		return last, fromSeen, nil
	case !last.IsZero():
		// History can lead around the place where it was cut off, to an older commit.
		if again, err := r.MergeBase(ctx, last, base); err != nil || again == base {
			return last, fromSeen, err
		}
	case base.IsZero():
		return base, fromNowhere, nil
	}
	return base, fromHistory, nil
}

// leads reports whether history leads from one commit to another, if it ends at the
// commits cut.
func (r *Repo) leads(ctx context.Context, from, to objects.ID, cut map[objects.ID]bool) (bool, error) {
	shallow, err := r.Shallow()
	if err != nil {
		return false, err
	}
	seen := map[objects.ID]bool{}
	for next := []objects.ID{from}; len(next) > 0; {
		id := next[0]
		next = next[1:]
		if id == to {
			return true, nil
		}
		if seen[id] || cut[id] || shallow[id] {
			continue
		}
		seen[id] = true
		c, err := objects.ReadCommit(ctx, r.DB, id)
		if err != nil {
			return false, err
		}
		next = append(next, c.Parents...)
	}
	return false, nil
}

// lastSeen returns the last commit that a remote's branch was seen at before it was
// at theirs, and that tip descends from; zero if there is none. The reflogs of the refs
// that remember remotes tell, so that it makes no difference whether theirs has
// just come or was fetched some time ago.
func (r *Repo) lastSeen(ctx context.Context, tip, theirs objects.ID) (objects.ID, error) {
	ours := map[objects.ID]bool{}
	for c, err := range r.Log(ctx, tip) {
		if err != nil {
			return objects.ID{}, err
		}
		ours[c.ID] = true
	}
	for ref, err := range r.Refs.All(ctx, "refs/remotes/") {
		if err != nil {
			continue // who asks for that ref is told
		}
		moves, err := r.Refs.Log(ctx, ref.Name)
		if err != nil {
			continue
		}
		before := len(moves)
		for before > 0 && moves[before-1].New != theirs {
			before--
		}
		for _, m := range slices.Backward(moves[:before]) {
			for _, id := range []objects.ID{m.New, m.Old} {
				if id != theirs && ours[id] {
					return id, nil
				}
			}
		}
	}
	return objects.ID{}, ctx.Err()
}

// describeSince adds to the message of a merge what commits it stands for.
func (r *Repo) describeSince(ctx context.Context, message string, tip, base, theirs objects.ID) (string, error) {
	shallow, err := r.Shallow()
	if err != nil {
		return "", err
	}
	const most = 20
	var lines []string
	err = reach.Since(ctx, r.DB, []objects.ID{tip}, []objects.ID{base}, reach.Options{
		Commits: true,
		Shallow: func(id objects.ID) bool { return shallow[id] },
		Visit: func(id objects.ID, _ objects.Kind) error {
			c, err := objects.ReadCommit(ctx, r.DB, id)
			lines = append(lines, fmt.Sprintf("    %s %s\n", id.Short(), c.Subject()))
			return err
		},
	})
	if n := len(lines); n > most {
		lines = append(lines[:most], fmt.Sprintf("    and %d more\n", n-most))
	}
	return fmt.Sprintf("%s\n\nHistory was cut off between %s and %s. This stands for:\n\n%s",
		strings.TrimRight(message, "\n"), base.Short(), theirs.Short(), strings.Join(lines, "")), err
}

// Revert takes out of branch what commit brought in, as a new commit. The first
// parent is what it is compared with; a commit without parents is taken back
// whole, and one whose parents were cut off is ErrCut. What is staged is committed
// first. Conflicts are as in Merge: entries that were changed again since.
func (r *Repo) Revert(ctx context.Context, branch refs.Name, commit objects.ID, policy Policy, message string) (Merged, error) {
	tip, _, err := r.FoldStage(ctx, branch, "")
	if err != nil {
		return Merged{}, err
	}
	c, err := r.Commit(ctx, commit)
	if err != nil {
		return Merged{}, err
	}
	if c.Cut {
		return Merged{}, fmt.Errorf("what commit %s changed is not known any more: %w", commit.Short(), ErrCut)
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
	if tree == ours && slices.Equal(t.parents, parents(t.tip)) {
		return Merged{Tip: t.tip}, nil
	}
	if len(t.parents) == 1 && t.parents[0] != t.tip && tree == t.theirs {
		merged, err := r.fastForward(ctx, t.branch, t.tip, t.parents[0], t.message)
		merged.Settled = settled
		return merged, err
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
