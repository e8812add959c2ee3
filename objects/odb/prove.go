package odb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// errWaits says that a record can't be proven yet.
var errWaits = errors.New("what it is made of is not here")

// A waiting record was received, and is not proven.
type waiting struct {
	t     pack.Type
	body  []byte
	blob  *assembly // of a recipe
	known bool      // the store has it; it is only to be proven
}

// wait keeps a record until it can be proven, and reports whether it is new.
func (b *Batch) wait(id objects.ID, w waiting) (fresh bool, err error) {
	w.body = bytes.Clone(w.body)
	if w.t == pack.Recipe {
		if w.blob, err = newAssembly(id, w.body); err != nil {
			return false, fmt.Errorf("blob %s: %w", id, err)
		}
		w.blob.known = w.known
	}
	kept, err := b.keepWaiting(id, w)
	if kept && w.blob != nil {
		b.await(w.blob)
	}
	return kept && !w.known, err
}

func (b *Batch) keepWaiting(id objects.ID, w waiting) (kept bool, err error) {
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
	b.waiting[id] = w
	return true, nil
}

// unwait drops a record that need not wait any more.
func (b *Batch) unwait(id objects.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waits -= len(b.waiting[id].body)
	delete(b.waiting, id)
}

// Prove takes those of the records that wait of which all parts are here, and
// returns the parts that others lack: chunks of big blobs, in their order, and bases
// of trees, each once. With wanted not nil only those parts count that objects lack for which it
// is true. What still waits at Commit is dropped.
func (b *Batch) Prove(ctx context.Context, wanted func(objects.ID) bool) (lacking []objects.ID, err error) {
	b.mu.Lock()
	all := maps.Clone(b.waiting)
	b.mu.Unlock()

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
	var ready []*assembly
	for _, id := range slices.SortedFunc(maps.Keys(all), objects.ID.Compare) {
		w := all[id]
		if w.t != pack.Recipe {
			if err := b.proveWaitingDelta(ctx, id, w, lack); err != nil {
				return nil, err
			}
			continue
		}
		parts, err := b.lackingParts(ctx, w.blob)
		if err != nil {
			return nil, fmt.Errorf("blob %s: %w", id, err)
		}
		if len(parts) == 0 {
			ready = append(ready, w.blob)
		}
		lack(id, parts...)
	}
	return lacking, b.proveAll(ctx, ready)
}

func (b *Batch) proveWaitingDelta(ctx context.Context, id objects.ID, w waiting, lack func(objects.ID, ...objects.ID)) error {
	whole, err := b.proveDelta(ctx, id, w.body)
	if errors.Is(err, errWaits) {
		d, err := pack.ParseDelta(w.body)
		if err != nil {
			return err
		}
		lack(id, d.Base)
		return nil
	}
	switch {
	case err != nil || w.known:
	case whole != nil:
		err = b.putWhole(id, whole)
	default:
		err = b.meta.put(pack.Record{ID: id, Type: pack.Delta, Size: uint32(len(w.body))}, w.body)
	}
	if err == nil {
		b.unwait(id)
	}
	return err
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

// lackingParts returns the chunks of a blob that are not here.
func (b *Batch) lackingParts(ctx context.Context, a *assembly) ([]objects.ID, error) {
	a.mu.Lock()
	ids := make([]objects.ID, 0, a.recipe.Len()-a.next) // what is hashed is here
	for i := a.next; i < a.recipe.Len(); i++ {
		ids = append(ids, a.recipe.Piece(i).ID)
	}
	a.mu.Unlock()
	return b.Missing(ctx, ids)
}

// Waits reports whether an object was received, and is not proven.
func (b *Batch) Waits(id objects.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, waits := b.waiting[id]
	return waits
}
