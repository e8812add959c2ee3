package repo

import (
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// Resolve returns the commit that a revision names; see refs.Resolver for what
// it may be. A *refs.RevisionError says why it names none.
func (r *Repo) Resolve(ctx context.Context, rev string) (objects.ID, error) {
	resolver, err := r.resolver(ctx)
	if err != nil {
		return objects.ID{}, err
	}
	return resolver.ResolveCommit(ctx, rev)
}

func (r *Repo) resolver(ctx context.Context) (*refs.Resolver, error) {
	head, err := r.Refs.Head(ctx)
	if err != nil {
		return nil, err
	}
	shallow, err := r.Shallow()
	if err != nil {
		return nil, err
	}
	return &refs.Resolver{
		Shallow: shallow,
		Refs:    r.Refs, Objects: r.DB, Head: head, IDs: r.DB,
		Warn: func(text string) { r.warn(errors.New(text)) },
	}, nil
}
