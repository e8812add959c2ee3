package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/trees"
)

// A Promise brings into a lazy repository what it lacks, from the remote that has
// promised it. It may be used from many goroutines at once.
type Promise interface {
	// Fetch brings these objects.
	Fetch(ctx context.Context, ids []objects.ID) error

	// FetchPath brings the trees that lead from a root tree to path, and what is
	// there if it is small. Where that takes more than Fetch does it does nothing.
	FetchPath(ctx context.Context, root objects.ID, path string) error

	// FetchAll brings an object and all that it leads to.
	FetchAll(ctx context.Context, id objects.ID) error
}

// lazyRemote returns the remote that has promised what the repository lacks; empty
// if nothing is to be lacking.
func (c *Config) lazyRemote() string {
	for _, l := range c.file {
		if l.section == "remote" && l.key == "lazy" && c.get("remote."+l.subsection+".lazy") == "true" {
			return l.subsection
		}
	}
	return ""
}

// IsLazy reports whether a remote has promised what the repository lacks.
func (r *Repo) IsLazy() bool { return r.promise != nil }

// findPath is trees.Lookup, with one request for all trees on the way where the
// repository lacks one.
func (r *Repo) findPath(ctx context.Context, root objects.ID, path string) (objects.Entry, error) {
	if r.promise == nil {
		return trees.Lookup(ctx, r.DB, root, path)
	}
	e, err := trees.Lookup(odb.Local(ctx), r.DB, root, path)
	if !errors.Is(err, objects.ErrNotFound) || errors.Is(err, trees.ErrNoPath) {
		return e, err
	}
	if err := r.promise.FetchPath(ctx, root, path); err != nil {
		return e, fmt.Errorf("%w: %w", objects.ErrNotFound, err)
	}
	return trees.Lookup(ctx, r.DB, root, path)
}

// bring makes sure that all is here that id leads to.
func (r *Repo) bring(ctx context.Context, id objects.ID) error {
	if r.promise == nil {
		return nil
	}
	return r.promise.FetchAll(ctx, id)
}
