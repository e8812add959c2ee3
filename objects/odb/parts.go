package odb

import (
	"context"
	"errors"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// Chunks calls fn for each chunk of those blobs among ids that are stored in
// chunks, in their order. Other objects are passed over.
func (db *DB) Chunks(ctx context.Context, ids []objects.ID, fn func(blob, chunk objects.ID) error) error {
	for _, id := range ids {
		t, err := db.typeOf(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		if t != pack.Recipe {
			continue
		}
		_, record, err := db.rawRecord(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		recipe, err := pack.ParseRecipe(record)
		if err != nil {
			return fmt.Errorf("blob %s: %w", id, err)
		}
		for i := range recipe.Len() {
			if err := fn(id, recipe.Piece(i).ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// MissingWhole returns those of ids that are not stored as whole trees, in order.
func (db *DB) MissingWhole(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	var missing []objects.ID
	for _, id := range ids {
		err := db.eachCopy(ctx, id, func(h hit) error {
			if h.entry.Type != pack.Tree {
				return errSkip
			}
			return nil
		})
		switch {
		case errors.Is(err, objects.ErrNotFound):
			missing = append(missing, id)
		case err != nil:
			return nil, err
		}
	}
	return missing, nil
}

// Bases returns the bases of those of ids that are stored as deltas, each once.
func (db *DB) Bases(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	var bases []objects.ID
	seen := map[objects.ID]bool{}
	for _, id := range ids {
		err := db.eachCopy(ctx, id, func(h hit) error {
			if h.entry.Type != pack.Delta {
				return nil
			}
			base, err := db.baseOf(h)
			if err == nil && !seen[base] {
				seen[base] = true
				bases = append(bases, base)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
	}
	return bases, nil
}
