package odb

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// Writers hold the file lock shared, as many as there are; who drops objects holds
// it exclusively. With no more than that the last would never come to it where
// writers come and go. So all pass through the file gate on their way, and who
// waits for the lock holds that.

func (db *DB) lockPath() string { return filepath.Join(db.dir, "lock") }
func (db *DB) gatePath() string { return filepath.Join(db.dir, "gate") }

// lockShared keeps away whoever wants to drop objects.
func (db *DB) lockShared(ctx context.Context) (*durable.Lock, error) {
	if ctx.Value(withinKey{}) == db {
		return durable.LockShared(ctx, db.lockPath())
	}
	gate, err := durable.LockShared(ctx, db.gatePath())
	if err != nil {
		return nil, err
	}
	defer gate.Unlock()
	return durable.LockShared(ctx, db.lockPath())
}

// How long the gate may be shut, and then stays open. Somebody who has the lock may
// come to it once more without a context from Within, as a batch that fetches what it
// needs does, and is stuck as long as it is shut. But all those who have the lock must come to an end while it is:
// where they are many, and slow, it is shut for longer and longer.
const (
	gateShut = time.Second // the first time
	maxShut  = 4 * time.Second
	gateOpen = 100 * time.Millisecond // the first time; then longer and longer
	maxOpen  = 5 * time.Second
)

type withinKey struct{}

// Within returns a context for what is done in the batch's store as long as the batch
// is open: it does not wait for somebody who waits for the batch.
func (b *Batch) Within(ctx context.Context) context.Context {
	return context.WithValue(ctx, withinKey{}, b.db)
}

// lockExclusive keeps writers away.
func (db *DB) lockExclusive(ctx context.Context) (*durable.Lock, error) {
	for open := gateOpen; ; open = min(2*open, maxOpen) {
		shut := max(gateShut, time.Duration(db.shut.Load()))
		lock, err := db.tryExclusive(ctx, shut)
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return lock, err
		}
		db.shut.Store(int64(min(2*shut, maxShut)))
		select {
		case <-time.After(open):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (db *DB) tryExclusive(ctx context.Context, shut time.Duration) (*durable.Lock, error) {
	gate, err := durable.LockExclusive(ctx, db.gatePath())
	if err != nil {
		return nil, err
	}
	defer gate.Unlock()
	ctx, cancel := context.WithTimeout(ctx, shut)
	defer cancel()
	return durable.LockExclusive(ctx, db.lockPath())
}

// Alone calls fn while nobody adds objects, or is about to name some.
func (db *DB) Alone(ctx context.Context, fn func() error) error {
	lock, err := db.lockExclusive(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return fn()
}

// Still calls fn while nobody merges packs or gives them other names. Who lists them at
// such a moment can miss some, and take for missing what is there.
func (db *DB) Still(ctx context.Context, fn func() error) error {
	lock, err := durable.LockExclusive(ctx, db.mergeLock())
	if errors.Is(err, fs.ErrNotExist) {
		return fn() // no store yet
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return fn()
}
