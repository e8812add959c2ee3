// Package trees works on whole trees of objects: it looks paths up, edits, walks,
// compares and merges them.
//
// What it knows that no other package does: that two trees with one id are the
// same however much hangs below, so that all of this costs what differs or is
// asked for, and not what there is.
//
// A path is names joined by slashes, without one in front or at the end; the
// empty path is the root. A zero root is the empty tree. Trees keep empty
// directories.
package trees

import (
	"context"
	"fmt"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
)

// A TreeWriter keeps trees. Base is an earlier version of the same tree, which
// the new one may be stored as a difference from; it may be zero.
type TreeWriter interface {
	PutTree(body []byte, base objects.ID) (objects.ID, error)
}

// ErrNoPath says that a tree has nothing at a path. It is objects.ErrNotFound too.
var ErrNoPath = fmt.Errorf("no such path: %w", objects.ErrNotFound)

// Lookup returns what stands at path below root; its name is the last of the
// path's. It reads the trees on the way and no other. Where there is nothing the
// error is ErrNoPath.
func Lookup(ctx context.Context, r objects.Reader, root objects.ID, path string) (objects.Entry, error) {
	e := objects.Entry{Mode: objects.ModeDir, ID: root}
	for rest, more := path, path != ""; more; {
		if !e.Mode.IsDir() {
			return objects.Entry{}, ErrNoPath
		}
		var name string
		name, rest, more = strings.Cut(rest, "/")
		body, err := readTree(ctx, r, e.ID)
		if err != nil {
			return objects.Entry{}, err
		}
		found, ok, err := find(body, name)
		if err != nil {
			return objects.Entry{}, fmt.Errorf("tree %s: %w", e.ID, err)
		}
		if !ok {
			return objects.Entry{}, ErrNoPath
		}
		e = objects.Entry{Mode: found.Mode, Name: name, ID: found.ID}
	}
	return e, nil
}

// find scans the body of a tree for name.
func find(body []byte, name string) (e objects.RawEntry, ok bool, err error) {
	for len(body) > 0 {
		if e, body, err = objects.CutEntry(body); err != nil {
			return e, false, err
		}
		if string(e.Name) == name {
			return e, true, nil
		}
	}
	return e, false, nil
}

// readTree returns the body of the tree id. The empty tree need not be stored.
func readTree(ctx context.Context, r objects.Reader, id objects.ID) ([]byte, error) {
	if id.IsZero() || id == objects.EmptyTree {
		return nil, nil
	}
	return objects.ReadKind(ctx, r, id, objects.Tree)
}

// entries is readTree and ParseTree.
func entries(ctx context.Context, r objects.Reader, id objects.ID) (objects.Entries, error) {
	if id.IsZero() {
		return nil, nil
	}
	return objects.ReadTree(ctx, r, id)
}

// join appends a name to a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

// CheckPath refuses what is no path: empty names, "." and "..", NUL.
func CheckPath(path string) error {
	for name := range strings.SplitSeq(path, "/") {
		if err := objects.CheckName(name); err != nil {
			return fmt.Errorf("path %q: %w", path, err)
		}
	}
	return nil
}
