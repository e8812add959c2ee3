package commands

import (
	"context"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/repo"
)

// An entryChange is an entry that differs between two versions.
type entryChange struct {
	Status string      `json:"status"` // A added, M another version, D deleted
	Kind   entry.Kind  `json:"kind"`
	Key    string      `json:"key"`
	Old    *objects.ID `json:"old,omitempty"`
	New    *objects.ID `json:"new,omitempty"`
}

// A fileChange is a file that differs between two versions of an entry.
type fileChange struct {
	Status string    `json:"status"` // A, M, D as above; T another type or mode, the same bytes or not
	Path   string    `json:"path"`
	Old    *fileSide `json:"old,omitempty"`
	New    *fileSide `json:"new,omitempty"`
}

type fileSide struct {
	Mode string     `json:"mode"`
	ID   objects.ID `json:"id"`
	Size int64      `json:"size"`
}

// diffEntries calls fn for each entry that differs between the root trees a and b.
func diffEntries(ctx context.Context, r *repo.Repo, a, b objects.ID, fn func(entryChange) error) error {
	return trees.Diff(ctx, r.DB, a, b, func(c trees.Change) error {
		e, ok := asEntryChange(ctx, r, c)
		if !ok {
			return nil // an empty tree above the entries
		}
		return fn(e)
	}, trees.DiffOptions{Whole: entry.IsPath})
}

func asEntryChange(ctx context.Context, r *repo.Repo, c trees.Change) (entryChange, bool) {
	kind, key, err := entry.ParsePath(c.Path)
	if err != nil {
		return entryChange{}, false
	}
	e := entryChange{Status: status(c), Kind: kind}
	id := c.New.ID
	if !c.Deleted() {
		e.New = &c.New.ID
	}
	if !c.Added() {
		e.Old = &c.Old.ID
		if c.Deleted() {
			id = c.Old.ID
		}
	}
	if e.Key, err = entry.Key(ctx, r.DB, c.Path, id); err != nil {
		e.Key = key
	}
	return e, true
}

func status(c trees.Change) string {
	switch {
	case c.Added():
		return "A"
	case c.Deleted():
		return "D"
	case c.Old.Mode != c.New.Mode:
		return "T"
	}
	return "M"
}

// diffFiles calls fn for each file that differs between two versions of an
// entry, either of which may be zero. Meta, which differs in every version, is
// left out.
func diffFiles(ctx context.Context, r *repo.Repo, a, b objects.ID, fn func(fileChange) error) error {
	side := func(e objects.Entry) (*fileSide, error) {
		if e.Mode == 0 {
			return nil, nil
		}
		f := &fileSide{Mode: fmt.Sprintf("%06o", uint32(e.Mode)), ID: e.ID}
		var err error
		if !e.Mode.IsDir() {
			_, f.Size, err = r.DB.Stat(ctx, e.ID)
		}
		return f, err
	}
	return trees.Diff(ctx, r.DB, a, b, func(c trees.Change) error {
		if c.Path == entry.MetaName {
			return nil
		}
		f := fileChange{Status: status(c), Path: unescapePath(c.Path)}
		var err error
		if f.Old, err = side(c.Old); err != nil {
			return fmt.Errorf("%s: %w", shown(f.Path), err)
		}
		if f.New, err = side(c.New); err != nil {
			return fmt.Errorf("%s: %w", shown(f.Path), err)
		}
		return fn(f)
	}, trees.DiffOptions{})
}

func (s *session) printEntryChange(e entryChange) {
	s.printf("%s  %s\n", e.Status, shown(shownPath(e.Kind, e.Key)))
}

func (s *session) printFileChange(f fileChange) {
	var detail string
	switch {
	case f.Old == nil:
		detail = size(f.New.Size)
	case f.New == nil:
		detail = size(f.Old.Size)
	case f.Old.Mode != f.New.Mode:
		detail = f.Old.Mode + " -> " + f.New.Mode
	default:
		detail = size(f.Old.Size) + " -> " + size(f.New.Size)
	}
	s.printf("%s  %s  (%s)\n", f.Status, shown(f.Path), detail)
}
