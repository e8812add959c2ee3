package repo

import (
	"context"
	"errors"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/objects/trees"
)

// holes knows of trees and blobs whether they are whole: whether all is here that
// they lead to. It looks at each once, however many lead to it.
type holes struct {
	db *odb.DB

	// Promised reports whether what is not here counts as if it were; nil if nothing does.
	promised func(objects.ID) bool

	whole  reach.Set
	broken map[objects.ID]bool
}

func newHoles(db *odb.DB, promised func(objects.ID) bool) *holes {
	return &holes{db: db, promised: promised, broken: map[objects.ID]bool{}}
}

// isWhole reports whether all is here that an object leads to. An error is not about
// what is missing or damaged.
func (h *holes) isWhole(ctx context.Context, id objects.ID, k objects.Kind) (bool, error) {
	if id == objects.EmptyTree || h.whole.Has(id) {
		return true, nil
	}
	if h.broken[id] {
		return false, nil
	}
	whole, err := h.look(ctx, id, k)
	switch {
	case err != nil:
		return false, err
	case whole:
		h.whole.Add(id)
	default:
		h.broken[id] = true
	}
	return whole, nil
}

func (h *holes) look(ctx context.Context, id objects.ID, k objects.Kind) (bool, error) {
	if k == objects.Blob {
		got, err := h.db.KindOf(ctx, id)
		if errors.Is(err, objects.ErrNotFound) {
			return h.isPromised(id), nil
		}
		return got == objects.Blob, err
	}
	tree, err := objects.ReadTree(ctx, h.db, id)
	if errors.Is(err, objects.ErrNotFound) {
		return h.isPromised(id), nil
	}
	if err != nil {
		return false, err
	}
	whole := true
	for _, e := range tree {
		ok, err := h.isWhole(ctx, e.ID, e.Mode.Kind())
		if err != nil {
			return false, err
		}
		whole = whole && ok
	}
	return whole, nil
}

func (h *holes) isPromised(id objects.ID) bool { return h.promised != nil && h.promised(id) }

// edits returns what takes out of the tree at path whatever is not whole: entries as
// a whole, and all that was below a tree that is lost. The path of the root is empty.
func (h *holes) edits(ctx context.Context, path string, id objects.ID) ([]trees.Edit, error) {
	if ok, err := h.isWhole(ctx, id, objects.Tree); ok || err != nil {
		return nil, err
	}
	tree, err := objects.ReadTree(ctx, h.db, id)
	if errors.Is(err, objects.ErrNotFound) || entry.IsPath(path) {
		return []trees.Edit{{Path: path}}, nil
	}
	if err != nil {
		return nil, err
	}
	var edits []trees.Edit
	for _, e := range tree {
		at := strings.TrimPrefix(path+"/"+e.Name, "/")
		if e.Mode.IsDir() {
			below, err := h.edits(ctx, at, e.ID)
			if err != nil {
				return nil, err
			}
			edits = append(edits, below...)
			continue
		}
		if ok, err := h.isWhole(ctx, e.ID, e.Mode.Kind()); err != nil {
			return nil, err
		} else if !ok {
			edits = append(edits, trees.Edit{Path: at})
		}
	}
	return edits, nil
}
