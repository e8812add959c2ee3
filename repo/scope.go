package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// Branch returns the branch that is written to and read first: flag if it is
// set, else $CACHE_TOOL_BRANCH, else the one HEAD names. It need not exist yet.
func (r *Repo) Branch(ctx context.Context, flag string) (refs.Name, error) {
	if flag == "" {
		flag = os.Getenv("CACHE_TOOL_BRANCH")
	}
	if flag != "" {
		name := refs.Branch(flag)
		return name, name.Check()
	}
	return r.Refs.Head(ctx)
}

// Scope returns the branches that a lookup tries, in order: branch itself, its
// base (branch.<name>.base, else $CACHE_TOOL_BASE), then the default branch.
// Siblings are never among them, so that nobody reads what a stranger wrote.
func (r *Repo) Scope(ctx context.Context, branch refs.Name) ([]refs.Name, error) {
	scope := []refs.Name{branch}
	base := r.Config.get("branch." + branch.Short() + ".base")
	if base == "" {
		base = os.Getenv("CACHE_TOOL_BASE")
	}
	if base != "" {
		name := refs.Branch(base)
		if err := name.Check(); err != nil {
			return nil, fmt.Errorf("base of branch %s: %w", branch.Short(), err)
		}
		scope = append(scope, name)
	}
	head, err := r.Refs.Head(ctx)
	if err != nil {
		return nil, err
	}
	scope = append(scope, head)
	return unique(scope), nil
}

func unique(names []refs.Name) []refs.Name {
	var kept []refs.Name
	for _, n := range names {
		if !slices.Contains(kept, n) {
			kept = append(kept, n)
		}
	}
	return kept
}

// Tip returns the commit that branch points to and that commit's tree. A branch
// that does not exist yet has a zero commit and the empty tree.
func (r *Repo) Tip(ctx context.Context, branch refs.Name) (commit, tree objects.ID, err error) {
	commit, err = r.Refs.Get(ctx, branch)
	if errors.Is(err, refs.ErrNotFound) {
		return objects.ID{}, objects.EmptyTree, nil
	} else if err != nil {
		return objects.ID{}, objects.ID{}, err
	}
	c, err := objects.ReadCommit(ctx, r.DB, commit)
	if err != nil {
		return commit, objects.ID{}, fmt.Errorf("%s: %w", branch, err)
	}
	return commit, c.Tree, nil
}
