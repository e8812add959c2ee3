package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
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

// ServesObjects reports whether the remote at a URL can be asked for single objects. A
// Git server cannot: what it is to bring back must not be taken away here.
func ServesObjects(url string) bool { return !strings.HasPrefix(url, "git+") }

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
	if r.promise == nil || odb.IsLocal(ctx) {
		return trees.Lookup(ctx, r.DB, root, path)
	}
	e, err := trees.Lookup(odb.Local(ctx), r.DB, root, path)
	if !errors.Is(err, objects.ErrNotFound) || errors.Is(err, trees.ErrNoPath) {
		return e, err
	}
	id, rest := r.edge(ctx, root, path)
	if err := r.promise.FetchPath(ctx, id, rest); err != nil {
		return e, fmt.Errorf("%w: %w", objects.ErrNotFound, err)
	}
	return trees.Lookup(ctx, r.DB, root, path)
}

// edge follows a path as far as the trees are here. It returns the first one that is
// not, and what is left of the path: of the trees before it the remote may know
// nothing, as they were made here.
func (r *Repo) edge(ctx context.Context, root objects.ID, path string) (id objects.ID, rest string) {
	id, rest = root, path
	for rest != "" {
		name, below, _ := strings.Cut(rest, "/")
		e, err := trees.Lookup(odb.Local(ctx), r.DB, id, name)
		if err != nil {
			break
		}
		id, rest = e.ID, below
	}
	return id, rest
}

// bring makes sure that all is here that id leads to. Where that takes no remote
// none is asked. What cannot be had is objects.ErrNotFound.
func (r *Repo) bring(ctx context.Context, id objects.ID) error {
	if r.promise == nil {
		return nil
	}
	err := reach.Walk(odb.Local(ctx), r.DB, []objects.ID{id}, reach.Options{CheckBlobs: true})
	if !errors.Is(err, objects.ErrNotFound) || odb.IsLocal(ctx) {
		return err
	}
	if err := r.promise.FetchAll(ctx, id); err != nil {
		return fmt.Errorf("%w: %w", objects.ErrNotFound, err)
	}
	return nil
}
