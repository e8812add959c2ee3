package odb

import (
	"context"

	"github.com/cache-tool/cache-tool/objects"
)

// Each is ReadMany for those who go on where something is missing or damaged: fn
// is called once for each of ids, with what is stored or with the reason why
// nothing is to be had. Of a blob in chunks it is shown the kind and no body.
// Package reach looks for it.
func (db *DB) Each(ctx context.Context, ids []objects.ID, fn func(i int, k objects.Kind, body []byte, err error) error) error {
	return db.ReadMany(ctx, ids, ManyOptions{
		Big:  func(i int, _ objects.ID, _ int64) error { return fn(i, objects.Blob, nil, nil) },
		Lost: func(i int, _ objects.ID, err error) error { return fn(i, 0, nil, err) },
	}, func(i int, k objects.Kind, body []byte) error { return fn(i, k, body, nil) })
}
