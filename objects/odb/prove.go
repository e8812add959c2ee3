package odb

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// errWaits says that a record can't be proven yet.
var errWaits = errors.New("what it is made of is not here")

// A waiting record was received, and is not proven.
type waiting struct {
	t     pack.Type
	body  []byte
	known bool // the store has it; it is only to be proven
}

// wait keeps a record until it can be proven, and reports whether it is new.
func (b *Batch) wait(id objects.ID, w waiting) (fresh bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = map[objects.ID]waiting{}
	}
	if _, known := b.waiting[id]; known {
		return false, nil
	}
	if b.waits += len(w.body); b.o.Waiting > 0 && b.waits > b.o.Waiting {
		return false, fmt.Errorf("%s %s: %w: records of more than %d bytes are made of what is not here", w.t, id, pack.ErrBadPack, b.o.Waiting)
	}
	w.body = bytes.Clone(w.body)
	b.waiting[id] = w
	return !w.known, nil
}

// Prove takes those of the records that wait of which all parts are here, and
// returns the parts that others lack: chunks of big blobs, in their order, and bases
// of trees, each once. With wanted not nil only those parts count that objects lack for which it
// is true. What still waits at Commit is dropped.
func (b *Batch) Prove(ctx context.Context, wanted func(objects.ID) bool) (lacking []objects.ID, err error) {
	b.mu.Lock()
	all := b.waiting
	b.waiting, b.waits = nil, 0
	b.mu.Unlock()

	var recipes []objects.ID
	lacks := map[objects.ID]bool{}
	lack := func(id objects.ID, parts ...objects.ID) {
		if wanted != nil && !wanted(id) {
			return
		}
		for _, part := range parts {
			if !lacks[part] {
				lacks[part] = true
				lacking = append(lacking, part)
			}
		}
	}
	for id, w := range all {
		if w.t == pack.Recipe {
			recipes = append(recipes, id)
			continue
		}
		if err := b.proveWaitingDelta(ctx, id, w, lack); err != nil {
			return nil, err
		}
	}
	b.sortRecipes(recipes, all)
	var ready []objects.ID
	for _, id := range recipes {
		parts, err := b.lackingParts(ctx, all[id].body)
		if err != nil {
			return nil, fmt.Errorf("blob %s: %w", id, err)
		}
		if len(parts) == 0 {
			ready = append(ready, id)
			continue
		}
		lack(id, parts...)
		if _, err := b.wait(id, all[id]); err != nil {
			return nil, err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, id := range ready {
		group.Go(func() error { return b.proveRecipe(ctx, id, all[id]) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return lacking, nil
}

// sortRecipes puts recipes in the order in which their first chunks came, so that
// each block is decoded about once.
func (b *Batch) sortRecipes(recipes []objects.ID, all map[objects.ID]waiting) {
	type at struct {
		block  int
		record int32
	}
	where := make(map[objects.ID]at, len(recipes))
	for _, id := range recipes {
		recipe, err := pack.ParseRecipe(all[id].body)
		if err != nil || recipe.Len() == 0 {
			continue
		}
		first := recipe.Piece(0).ID
		if p, ok := b.seen.get(&first); ok && p.block != nil {
			where[id] = at{p.block.written(), p.record}
		}
	}
	slices.SortFunc(recipes, func(x, y objects.ID) int {
		p, q := where[x], where[y]
		return cmp.Or(cmp.Compare(p.block, q.block), cmp.Compare(p.record, q.record), x.Compare(y))
	})
}

func (b *Batch) proveWaitingDelta(ctx context.Context, id objects.ID, w waiting, lack func(objects.ID, ...objects.ID)) error {
	whole, err := b.proveDelta(ctx, id, w.body)
	if errors.Is(err, errWaits) {
		d, err := pack.ParseDelta(w.body)
		if err != nil {
			return err
		}
		lack(id, d.Base)
		_, err = b.wait(id, w)
		return err
	}
	if err != nil || w.known {
		return err
	}
	if whole != nil {
		return b.putWhole(id, whole)
	}
	return b.meta.put(pack.Record{ID: id, Type: pack.Delta, Size: uint32(len(w.body))}, w.body)
}

// proveDelta proves the delta that claims to be the tree id. If its base is a
// delta here, it must be kept whole, and is returned.
func (b *Batch) proveDelta(ctx context.Context, id objects.ID, record []byte) (whole []byte, err error) {
	d, err := pack.ParseDelta(record)
	if err != nil {
		return nil, err
	}
	t, _, err := b.rawRecord(ctx, d.Base)
	if err == nil && t != pack.Tree && t != pack.Delta {
		return nil, fmt.Errorf("%w: tree %s is a delta of a %s", pack.ErrBadPack, id, t)
	}
	if errors.Is(err, objects.ErrNotFound) {
		return nil, errWaits
	}
	if err != nil {
		return nil, err
	}
	tree, err := applyDelta(id, record, func(base objects.ID) ([]byte, error) { return objects.ReadKind(ctx, b, base, objects.Tree) })
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, err)
	}
	if _, err := objects.ParseTree(tree); err != nil {
		return nil, fmt.Errorf("%w: tree %s: %w", pack.ErrBadPack, id, err)
	}
	if t == pack.Tree {
		return nil, nil
	}
	return tree, nil
}

// lackingParts returns the chunks of a recipe that are not here.
func (b *Batch) lackingParts(ctx context.Context, record []byte) ([]objects.ID, error) {
	recipe, err := pack.ParseRecipe(record)
	if err != nil {
		return nil, err
	}
	ids := make([]objects.ID, recipe.Len())
	for i := range ids {
		ids[i] = recipe.Piece(i).ID
	}
	return b.Missing(ctx, ids)
}

// proveRecipe puts a big blob together, and keeps its recipe if it hashes to the
// blob's id.
func (b *Batch) proveRecipe(ctx context.Context, id objects.ID, w waiting) error {
	s, err := newStream(ctx, b, id, w.body)
	if err == nil {
		_, err = s.WriteTo(io.Discard)
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w: %w", id, pack.ErrBadPack, err)
	}
	if w.known {
		return nil
	}
	return b.recipes.put(pack.Record{ID: id, Type: pack.Recipe, Size: uint32(len(w.body))}, w.body)
}

// Waits reports whether an object was received, and is not proven.
func (b *Batch) Waits(id objects.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, waits := b.waiting[id]
	return waits
}
