package odb

import (
	"context"
	"fmt"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// An assembly is a big blob that is being put together: it is proven by hashing its
// chunks in their order. Those that are received while its recipe waits are hashed as
// they come by, as long as they come in order. What came before, or in another order,
// a prover reads again from where it was stored.
type assembly struct {
	id     objects.ID
	record []byte
	recipe pack.BlobRecipe
	known  bool // the store has the blob; it is only to be proven

	mu   sync.Mutex
	sum  *objects.Hasher // guarded by mu, as is all below
	next int             // the chunk that is to be hashed next
	done bool            // the last one was
	at   chunkAt         // for a prover: where the next one is
}

func newAssembly(id objects.ID, record []byte) (*assembly, error) {
	recipe, err := pack.ParseRecipe(record)
	if err != nil {
		return nil, err
	}
	if recipe.ID != id {
		return nil, errWrongID(pack.Recipe)
	}
	return &assembly{id: id, record: record, recipe: recipe, sum: objects.NewHasher(objects.Blob, recipe.Size)}, nil
}

// isWhole reports whether there is no chunk left. a.mu is held.
func (a *assembly) isWhole() bool { return a.next == a.recipe.Len() }

// add hashes the next chunk. a.mu is held.
func (a *assembly) add(ctx context.Context, body []byte) error {
	if err := ctx.Err(); err != nil {
		return err // a stranger's recipe may be of one chunk, over and over
	}
	if piece := a.recipe.Piece(a.next); len(body) != int(piece.Size) {
		return fmt.Errorf("%w: blob %s: chunk %s has %d bytes, want %d", pack.ErrBadPack, a.id, piece.ID, len(body), piece.Size)
	}
	a.sum.Write(body)
	a.next++
	return nil
}

// prove keeps the recipe of a blob that is whole, if it hashes to its id.
func (b *Batch) prove(a *assembly) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done || !a.isWhole() {
		return nil
	}
	if got, err := a.sum.ID(); err != nil || got != a.id {
		return fmt.Errorf("%w: blob %s: its chunks do not hash to it", pack.ErrBadPack, a.id)
	}
	a.done = true
	if a.known {
		b.unwait(a.id)
		return nil
	}
	if err := b.recipes.put(pack.Record{ID: a.id, Type: pack.Recipe, Size: uint32(len(a.record))}, a.record); err != nil {
		return err
	}
	b.unwait(a.id)
	return nil
}

// await has a told when its next chunk comes by.
func (b *Batch) await(a *assembly) {
	a.mu.Lock()
	whole := a.isWhole()
	var next objects.ID
	if !whole {
		next = a.recipe.Piece(a.next).ID
	}
	a.mu.Unlock()
	if whole {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.awaited == nil {
		b.awaited = map[objects.ID][]*assembly{}
	}
	b.awaited[next] = append(b.awaited[next], a)
}

// passing adds a chunk that has come, and is proven, to the blobs that wait for it.
func (b *Batch) passing(ctx context.Context, id objects.ID, body []byte) error {
	for {
		b.mu.Lock()
		all := b.awaited[id]
		delete(b.awaited, id)
		b.mu.Unlock()
		if len(all) == 0 {
			return nil
		}
		for _, a := range all {
			if err := a.pass(ctx, id, body); err != nil {
				return err
			}
			if err := b.prove(a); err != nil {
				return err
			}
			b.await(a)
		}
	}
}

func (a *assembly) pass(ctx context.Context, id objects.ID, body []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.isWhole() && a.recipe.Piece(a.next).ID == id { // else a prover was faster
		if err := a.add(ctx, body); err != nil {
			return err
		}
	}
	return nil
}
