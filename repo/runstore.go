package repo

import (
	"context"
	"fmt"
	"iter"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/action"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

// A RunStore is the repository as package action sees it: one branch to write
// to, a scope of branches to read.
type RunStore struct {
	*odb.DB
	repo   *Repo
	branch refs.Name
	scope  []refs.Name
}

var _ action.Store = (*RunStore)(nil)

// Runs returns the store for runs on branch.
func (r *Repo) Runs(ctx context.Context, branch refs.Name) (*RunStore, error) {
	scope, err := r.Scope(ctx, branch)
	if err != nil {
		return nil, err
	}
	return &RunStore{DB: r.DB, repo: r, branch: branch, scope: scope}, nil
}

// Lookup returns the entry in the first branch of the scope that has it.
func (s *RunStore) Lookup(ctx context.Context, kind entry.Kind, key string) (objects.ID, error) {
	found, err := s.repo.Lookup(ctx, s.scope, kind, key)
	if err == nil {
		err = s.repo.bring(ctx, found.ID)
	}
	return found.ID, err
}

// Change starts a change of the branch.
func (s *RunStore) Change(ctx context.Context) (action.Change, error) {
	c, err := s.repo.Change(ctx, s.branch, odb.BatchOptions{})
	if err != nil {
		return nil, err
	}
	return runChange{batchWriter{c.Batch}, s, c, new(bool)}, nil
}

// Entries returns the entries of a kind in the scope; one that several branches
// have comes from the first.
func (s *RunStore) Entries(ctx context.Context, kind entry.Kind) iter.Seq2[action.Found, error] {
	return func(yield func(action.Found, error) bool) {
		seen := map[string]bool{}
		for _, branch := range s.scope {
			for found, err := range s.repo.Entries(ctx, branch, kind) {
				if err == nil && seen[found.Path] {
					continue
				}
				seen[found.Path] = true
				if !yield(action.Found{Key: found.Key, ID: found.ID}, err) {
					return
				}
			}
		}
	}
}

type runChange struct {
	batchWriter
	store  *RunStore
	change *Change
	staged *bool
}

func (c runChange) Set(kind entry.Kind, key string, id objects.ID) { c.change.Set(kind, key, id) }

func (c runChange) Stage(ctx context.Context) error {
	err := c.change.Stage(ctx)
	*c.staged = err == nil
	return err
}

// Close ends the change. When so much is staged that to look through it costs
// every run, that is committed. It comes after the change: a commit may have to
// wait until nobody writes.
func (c runChange) Close() error {
	c.change.Close()
	if *c.staged {
		c.store.foldWhenFull()
	}
	return nil
}

// foldWhenFull commits the stage if it has grown to stage.limit. The result that
// was just staged is safe without that, so an error is a warning.
func (s *RunStore) foldWhenFull() {
	ctx := context.Background()
	n, err := s.repo.Stage(s.branch).Count(ctx)
	if err == nil && n >= s.repo.stageLimit() {
		_, _, err = s.repo.FoldStage(ctx, s.branch, "")
	}
	if err != nil {
		s.repo.warn(fmt.Errorf("commit what is staged: %w", err))
	}
}

var _ worktree.Writer = batchWriter{}
