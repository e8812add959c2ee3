package trees

import (
	"context"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
)

// A Step says how a walk goes on.
type Step uint8

const (
	Continue Step = iota
	SkipTree      // not into the tree that was just shown
)

// Walk calls fn for all that is below root, each tree before what it holds, in
// Git's order; not for the root itself. It stops at the first error, its own or
// fn's, and returns it.
func Walk(ctx context.Context, r objects.Reader, root objects.ID, fn func(path string, e objects.Entry) (Step, error)) error {
	return WalkAt(ctx, r, "", root, fn)
}

// WalkAt is Walk with the paths of all that is below the tree id beginning with
// path.
func WalkAt(ctx context.Context, r objects.Reader, path string, id objects.ID, fn func(path string, e objects.Entry) (Step, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tree, err := entries(ctx, r, id)
	if err != nil {
		return atPath(path, err)
	}
	for _, e := range tree {
		below := join(path, e.Name)
		step, err := fn(below, e)
		if err != nil {
			return err
		}
		if step == SkipTree || !e.Mode.IsDir() {
			continue
		}
		if err := WalkAt(ctx, r, below, e.ID, fn); err != nil {
			return err
		}
	}
	return nil
}

// atPath says where in a tree an error happened.
func atPath(path string, err error) error {
	if path == "" {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}
