package odb

import (
	"context"
	"errors"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
)

type localKey struct{}

// Local returns a context with which a store looks no further than its own packs:
// what it lacks is missing, even if somebody has promised it.
func Local(ctx context.Context) context.Context {
	return context.WithValue(ctx, localKey{}, true)
}

// IsLocal reports whether ctx is one of Local.
func IsLocal(ctx context.Context) bool { return ctx.Value(localKey{}) != nil }

// A PromisedError says that an object is not here, and could not be fetched from
// where it is.
type PromisedError struct {
	ID  objects.ID
	Err error
}

func (e *PromisedError) Error() string {
	return fmt.Sprintf("object %s could not be fetched: %v", e.ID, e.Err)
}

// Unwrap returns both why it could not be fetched, and that it is not here.
func (e *PromisedError) Unwrap() []error { return []error{e.Err, objects.ErrNotFound} }

// isLazy reports whether what is missing may be fetched.
func (db *DB) isLazy(ctx context.Context) bool {
	return db.o.Fetch != nil && !IsLocal(ctx)
}

// isSure reports whether what is called missing must really be so: nobody is about
// to fetch it.
func (db *DB) isSure(ctx context.Context) bool {
	return db.o.Fetch == nil && !IsLocal(ctx)
}

// fetched fetches an object that no pack holds, and reports whether to look again.
func (db *DB) fetched(ctx context.Context, id objects.ID) (bool, error) {
	if !db.isLazy(ctx) {
		return false, nil
	}
	if err := db.o.Fetch(ctx, []objects.ID{id}); err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, &PromisedError{id, err}
	}
	_, _, err := db.refresh(db.set.Load())
	return true, err
}

// Prefetch fetches, if the store is lazy, those of ids that it lacks, all at once.
// What can't be had is no error: whoever opens it is told.
func (db *DB) Prefetch(ctx context.Context, ids []objects.ID) error {
	if !db.isLazy(ctx) {
		return nil
	}
	missing, err := db.Missing(ctx, ids)
	if err != nil || len(missing) == 0 {
		return err
	}
	if err := db.o.Fetch(ctx, missing); err != nil && !errors.Is(err, objects.ErrNotFound) {
		return &PromisedError{missing[0], err}
	}
	_, _, err = db.refresh(db.set.Load())
	return err
}
