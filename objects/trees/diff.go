package trees

import (
	"cmp"
	"context"

	"github.com/cache-tool/cache-tool/objects"
)

// A Change is a path at which two trees differ. An entry without mode says that
// there is nothing on that side.
type Change struct {
	Path     string
	Old, New objects.Entry
}

// Added reports whether only the new tree has the path.
func (c Change) Added() bool { return c.Old.Mode == 0 }

// Deleted reports whether only the old tree has the path.
func (c Change) Deleted() bool { return c.New.Mode == 0 }

// DiffOptions are what Diff wants to know. The zero value works.
type DiffOptions struct {
	// Whole reports whether what stands at path is compared as one thing: then
	// it is shown as a whole, and not what differs in it. Without it trees are
	// never shown, but for empty ones.
	Whole func(path string) bool
}

// Diff calls fn for each path at which the trees a and b differ, in Git's order.
// Subtrees with one id are not read. A file that became a directory is deleted,
// and what is in the directory is added. Diff stops at the first error.
func Diff(ctx context.Context, r objects.Reader, a, b objects.ID, fn func(Change) error, o DiffOptions) error {
	d := differ{r: r, fn: fn, whole: o.Whole}
	if d.whole == nil {
		d.whole = func(string) bool { return false }
	}
	return d.trees(ctx, "", a, b)
}

type differ struct {
	r     objects.Reader
	fn    func(Change) error
	whole func(string) bool
}

func (d differ) trees(ctx context.Context, path string, a, b objects.ID) error {
	if a == b {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	older, err := entries(ctx, d.r, a)
	if err != nil {
		return atPath(path, err)
	}
	newer, err := entries(ctx, d.r, b)
	if err != nil {
		return atPath(path, err)
	}
	// A file and a directory of one name stand at different places and are two
	// steps here: one is deleted, the other added.
	for len(older) > 0 || len(newer) > 0 {
		var was, is objects.Entry
		switch c := compareHeads(older, newer); {
		case c < 0:
			was, older = older[0], older[1:]
		case c > 0:
			is, newer = newer[0], newer[1:]
		default:
			was, older = older[0], older[1:]
			is, newer = newer[0], newer[1:]
		}
		if err := d.entry(ctx, join(path, cmp.Or(was.Name, is.Name)), was, is); err != nil {
			return err
		}
	}
	return nil
}

// compareHeads orders the first entries of a and b; nothing comes last.
func compareHeads(a, b objects.Entries) int {
	switch {
	case len(a) == 0:
		return +1
	case len(b) == 0:
		return -1
	}
	return objects.CompareEntries(a[0], b[0])
}

func (d differ) entry(ctx context.Context, path string, was, is objects.Entry) error {
	switch {
	case was == is:
		return nil
	case !was.Mode.IsDir() && !is.Mode.IsDir() || d.whole(path):
		return d.fn(Change{path, was, is})
	}
	// One is a tree, and the other that tree before, or nothing. An empty tree
	// has no leaves to tell of it, so it is one.
	if empty(was) {
		if err := d.fn(Change{Path: path, Old: was}); err != nil {
			return err
		}
	}
	if empty(is) {
		if err := d.fn(Change{Path: path, New: is}); err != nil {
			return err
		}
	}
	return d.trees(ctx, path, was.ID, is.ID)
}

func empty(e objects.Entry) bool { return e.ID == objects.EmptyTree && e.Mode.IsDir() }
