package odb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A hit is a copy of an object: a record in a pack.
type hit struct {
	pack  *stored
	index *pack.Index
	entry pack.Entry
}

// relists bounds how often a reader lists the directory again because packs were
// merged away under it.
const relists = 20

// errTooBig says that an object does not fit into memory.
var errTooBig = errors.New("too many bytes to read at once")

// errSkip says that a copy is not of the sort that is wanted.
var errSkip = errors.New("another copy is wanted")

// eachCopy calls use with one copy of the object after another until it returns
// nil. A damaged copy is passed over. If all are, the error is a
// *objects.DamagedError; if there is none, objects.ErrNotFound.
//
// Who asks here has the id from somewhere: before it is called missing, every
// index is proven. Damage to an id in one hides the object, and no more.
func (db *DB) eachCopy(ctx context.Context, id objects.ID, use func(hit) error) error {
	err := db.eachShown(ctx, id, use)
	if err == objects.ErrNotFound && db.suspectAll() {
		err = db.eachShown(ctx, id, use)
	}
	if err == objects.ErrNotFound && db.isSure(ctx) {
		if err := db.settle(ctx); err != nil {
			return err
		}
		err = db.eachShown(ctx, id, use)
	}
	if err != objects.ErrNotFound {
		return err
	}
	again, fetchErr := db.fetched(ctx, id)
	switch {
	case fetchErr != nil:
		return fetchErr
	case !again:
		return err
	}
	return db.eachShown(ctx, id, use)
}

// eachShown is eachCopy for the copies that the indexes show.
func (db *DB) eachShown(ctx context.Context, id objects.ID, use func(hit) error) error {
	s, err := db.packs()
	if err != nil {
		return err
	}
	var damage, unread error
	var damaged *stored
	for range relists {
		damage, unread = nil, nil
		gone := false
		for _, p := range s.packs {
			err := db.tryCopy(p, &id, use)
			switch {
			case err == nil:
				return nil
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, errTooBig):
				return err
			case errors.Is(err, objects.ErrNotFound), errors.Is(err, errSkip), errors.Is(err, errTorn):
			case errors.Is(err, fs.ErrNotExist):
				gone = true
			case errors.As(err, new(*pack.VersionError)):
				unread = fmt.Errorf("pack %s: %w", p.base, err)
			default:
				damage, damaged = err, p
			}
		}
		next, changed, err := db.refresh(s)
		if err != nil {
			return err
		}
		if !changed && !gone {
			break
		}
		s = next
	}
	switch {
	case damage != nil:
		db.bad.Store(id, true)
		db.warn(fmt.Errorf("object %s: %w", id, damage))
		db.leaveOut(damaged, damage)
		return &objects.DamagedError{ID: id, Reason: damage.Error()}
	case unread != nil:
		return unread
	}
	return objects.ErrNotFound
}

// tryCopy calls use with the copy in p, or returns objects.ErrNotFound.
func (db *DB) tryCopy(p *stored, id *objects.ID, use func(hit) error) error {
	for {
		x, err := db.open(p)
		if err != nil {
			return err
		}
		e, ok, err := x.Find(id)
		if err == nil {
			if !ok {
				return objects.ErrNotFound
			}
			if err = use(hit{p, x, e}); err == nil || errors.Is(err, errSkip) || errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if !db.suspect(p) {
			return err
		}
	}
}

// has reports whether some pack holds id. It reads indexes only.
func (db *DB) has(ctx context.Context, id *objects.ID) (bool, error) {
	s, err := db.packs()
	if err != nil {
		return false, err
	}
	if db.holds(s.packs, id) {
		return true, nil
	}
	err = db.eachShown(ctx, *id, func(hit) error { return nil })
	if errors.Is(err, objects.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// holds reports whether one of packs holds id. A pack that can't be asked holds
// nothing.
func (db *DB) holds(packs []*stored, id *objects.ID) bool {
	for _, p := range packs {
		x := p.index.Load()
		if x == nil {
			var err error
			if x, err = db.open(p); err != nil {
				continue
			}
		}
		if _, ok, err := x.Find(id); ok && err == nil {
			return true
		}
	}
	return false
}

// isKept reports whether an object need not be stored, because a copy is there
// that is not known to be damaged. It does not look for packs that came after
// the batch began: a second copy does no harm.
func (db *DB) isKept(id *objects.ID) (bool, error) {
	s, err := db.packs()
	if err != nil || !db.holds(s.packs, id) {
		return false, err
	}
	_, bad := db.bad.LoadAndDelete(*id)
	return !bad, nil
}

// Missing returns those of ids that no pack holds, in order. It looks at
// indexes only: what is damaged is not missing.
func (db *DB) Missing(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	missing, err := db.lacks(ctx, ids)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	mended := db.suspectAll()
	if db.isSure(ctx) {
		if err := db.settle(ctx); err != nil {
			return nil, err
		}
		mended = true
	}
	if mended {
		return db.lacks(ctx, missing)
	}
	return missing, nil
}

// lacks returns those of ids that the indexes do not show. Whether there are other
// packs by now is looked at once for all of them.
func (db *DB) lacks(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	for {
		s, err := db.packs()
		if err != nil {
			return nil, err
		}
		var missing []objects.ID
		for i := range ids {
			if !db.holds(s.packs, &ids[i]) {
				missing = append(missing, ids[i])
			}
		}
		if len(missing) == 0 {
			return nil, ctx.Err()
		}
		if ok, err := db.has(ctx, &missing[0]); err != nil {
			return nil, err
		} else if now, err := db.packs(); !ok && (err != nil || slices.Equal(now.packs, s.packs)) {
			return missing, err
		}
		ids = missing
	}
}
