package odb

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
)

// maxExpanded bounds how many ids Expand looks at in one pack.
const maxExpanded = 1000

// Expand returns the objects whose ids begin with these hexadecimal digits, by
// id; chunks are not objects. It reads indexes only. A thousand or more are not
// all returned.
func (db *DB) Expand(ctx context.Context, digits string) ([]objects.ID, error) {
	low, high, err := bounds(digits)
	if err != nil {
		return nil, err
	}
	s, err := db.packs()
	if err != nil {
		return nil, err
	}
	var ids []objects.ID
	for _, p := range s.packs {
		x, err := db.open(p)
		if err != nil {
			continue // it was warned of; what it holds counts as missing
		}
		more, err := x.Between(low, high, maxExpanded)
		if err != nil {
			continue
		}
		ids = append(ids, more...)
	}
	slices.SortFunc(ids, objects.ID.Compare)
	ids = slices.Compact(ids)
	return slices.DeleteFunc(ids, func(id objects.ID) bool {
		k, _, err := db.Stat(ctx, id)
		return err != nil || !k.Valid()
	}), ctx.Err()
}

// bounds returns the first and the last id that begin with digits.
func bounds(digits string) (low, high objects.ID, err error) {
	if digits == "" || len(digits) > 2*objects.IDSize {
		return low, high, fmt.Errorf("id prefix %q: want 1 to %d hexadecimal digits", digits, 2*objects.IDSize)
	}
	fill := func(id *objects.ID, with string) error {
		_, err := hex.Decode(id[:], []byte(digits+strings.Repeat(with, 2*objects.IDSize-len(digits))))
		return err
	}
	if err := fill(&low, "0"); err != nil {
		return low, high, fmt.Errorf("id prefix %q: %w", digits, err)
	}
	return low, high, fill(&high, "f")
}
