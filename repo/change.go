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
	"github.com/cache-tool/cache-tool/repo/stage"
)

// A Change gathers entries for one branch and adds them at once, to its stage or
// as a commit. It holds the writers' lock from its first "is it here?" to the
// record that names the result, so that nothing it relies on is collected.
//
// Put objects into Batch, name them with Set, then call Stage or Commit once,
// and Close in any case. Batch may be used concurrently, the rest may not.
type Change struct {
	Batch *odb.Batch

	repo   *Repo
	branch refs.Name
	edits  []trees.Edit
}

// Change starts a change of branch.
func (r *Repo) Change(ctx context.Context, branch refs.Name, o odb.BatchOptions) (*Change, error) {
	batch, err := r.DB.NewBatch(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("write to %s: %w", r.Dir, err)
	}
	return &Change{Batch: batch, repo: r, branch: branch}, nil
}

// Close ends the change; one that was neither staged nor committed leaves no trace.
func (c *Change) Close() { c.Batch.Close() }

// Set names the tree id as the entry of this kind and key.
func (c *Change) Set(kind entry.Kind, key string, id objects.ID) {
	c.edits = append(c.edits, trees.Edit{Path: entry.Path(kind, key), Mode: objects.ModeDir, ID: id})
}

// Delete takes the entry of this kind and key out.
func (c *Change) Delete(kind entry.Kind, key string) {
	c.edits = append(c.edits, trees.Edit{Path: entry.Path(kind, key)})
}

// Stage adds the change to the branch's stage, in one step. It then survives
// the end of this process, but not yet a power cut: Commit does.
func (c *Change) Stage(ctx context.Context) error {
	if err := c.Batch.Commit(ctx, odb.Staged); err != nil {
		return err
	}
	return c.record(ctx)
}

// record notes the change in the stage. Its objects are in the store.
func (c *Change) record(ctx context.Context) error {
	records := make([]stage.Record, len(c.edits))
	for i, e := range c.edits {
		records[i] = stage.Record{Path: e.Path, Mode: e.Mode, ID: e.ID}
	}
	return c.repo.Stage(c.branch).Append(ctx, records...)
}

// Commit adds what is staged and then the change to the branch, as one commit,
// and returns the branch's tip. Where all of it is there already no commit is
// made. It is durable on return. Several processes may commit at once.
func (c *Change) Commit(ctx context.Context, message string) (tip objects.ID, changed bool, err error) {
	fold, err := c.repo.Stage(c.branch).Rotate(ctx)
	if err != nil {
		return objects.ID{}, false, err
	}
	defer fold.Close()
	edits, err := c.repo.complete(ctx, fold.Records)
	if err != nil {
		return objects.ID{}, false, err
	}
	message = describe(message, edits, c.edits)
	message = c.repo.withProvenance(message)
	edits = append(edits, c.edits...)
	if fold.Seq > 0 {
		message = addTrailer(message, stageTrailer, c.repo.stageMark(fold.Seq))
	}

	tip, tree, err := c.repo.Tip(ctx, c.branch)
	if err != nil {
		return objects.ID{}, false, err
	}
	newTree, err := trees.Apply(ctx, c.Batch, c.Batch, tree, edits)
	if err != nil {
		return objects.ID{}, false, fmt.Errorf("%s: %w", c.branch.Short(), err)
	}
	if newTree == tree {
		return tip, false, fold.Done(ctx)
	}
	tip, err = c.advance(ctx, tip, newTree, message, edits)
	if err != nil {
		return objects.ID{}, false, err
	}
	return tip, true, fold.Done(ctx)
}

// CommitOrStage is Commit; but in a lazy repository whose remote does not give the
// trees that a commit takes, the change is staged, with a warning: it is kept, and
// a later commit takes it along.
func (c *Change) CommitOrStage(ctx context.Context, message string) (tip objects.ID, changed, staged bool, err error) {
	tip, changed, err = c.Commit(ctx, message)
	if !errors.As(err, new(*odb.PromisedError)) {
		return tip, changed, false, err
	}
	failed := c.Stage(ctx)
	if errors.Is(failed, odb.ErrClosed) { // it came as far as to the ref, and somebody else was faster
		failed = c.record(ctx)
	}
	if failed != nil {
		return tip, false, false, err
	}
	c.repo.warn(fmt.Errorf("staged, and not committed yet: %w", err))
	return objects.ID{}, true, true, nil
}

// advance moves the branch from tip to a new commit of tree. Objects first, ref
// last: a ref that names a missing object would break every reader.
func (c *Change) advance(ctx context.Context, tip, tree objects.ID, message string, edits []trees.Edit) (objects.ID, error) {
	for {
		commit, err := c.repo.putCommit(c.Batch, tree, parents(tip), message)
		if err != nil {
			return objects.ID{}, err
		}
		if err := c.Batch.Commit(ctx, odb.Durable); err != nil {
			return objects.ID{}, err
		}
		subject, _, _ := strings.Cut(message, "\n")
		err = c.repo.Refs.Apply(ctx, refs.Update{Name: c.branch, Old: tip, New: commit, Reason: "commit: " + subject})
		var conflict *refs.ConflictError
		if !errors.As(err, &conflict) {
			return commit, err
		}
		// Somebody else moved the branch: add our edits to theirs.
		if tip, tree, err = c.repo.Tip(ctx, c.branch); err != nil {
			return objects.ID{}, err
		}
		if c.Batch, err = c.Batch.Next(odb.BatchOptions{}); err != nil {
			return objects.ID{}, err
		}
		if tree, err = trees.Apply(ctx, c.Batch, c.Batch, tree, edits); err != nil {
			return objects.ID{}, err
		}
	}
}

func parents(tip objects.ID) []objects.ID {
	if tip.IsZero() {
		return nil
	}
	return []objects.ID{tip}
}

func (r *Repo) putCommit(b *odb.Batch, tree objects.ID, parents []objects.ID, message string) (objects.ID, error) {
	who := r.Identity()
	body := objects.CommitBody{Tree: tree, Parents: parents, Author: who, Committer: who, Message: message}
	return b.PutBytes(objects.Commit, body.Encode())
}

// complete returns the staged records as edits, without those whose entry is
// not there any more: they were misses already.
func (r *Repo) complete(ctx context.Context, records []stage.Record) ([]trees.Edit, error) {
	ids := make([]objects.ID, 0, len(records))
	for _, record := range records {
		if !record.ID.IsZero() {
			ids = append(ids, record.ID)
		}
	}
	missing, err := r.DB.Missing(ctx, ids)
	if err != nil {
		return nil, err
	}
	gone := make(map[objects.ID]bool, len(missing))
	for _, id := range missing {
		gone[id] = true
	}
	edits := make([]trees.Edit, 0, len(records))
	for _, record := range records {
		if gone[record.ID] {
			r.warn(fmt.Errorf("staged entry %s is incomplete: left out", record.Path))
			continue
		}
		edits = append(edits, trees.Edit{Path: record.Path, Mode: record.Mode, ID: record.ID})
	}
	return edits, nil
}

// FoldStage commits what is staged for branch. An empty message makes one.
func (r *Repo) FoldStage(ctx context.Context, branch refs.Name, message string) (tip objects.ID, changed bool, err error) {
	c, err := r.Change(ctx, branch, odb.BatchOptions{})
	if err != nil {
		return objects.ID{}, false, err
	}
	defer c.Close()
	return c.Commit(ctx, message)
}
