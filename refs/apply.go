package refs

import (
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// Apply makes all updates or none, and survives kill -9 and power cuts at any
// point: one ref moves by the rename of its file, several by that of the
// journal.
func (f *Files) Apply(ctx context.Context, updates ...Update) error {
	if err := check(updates); err != nil {
		return err
	}
	l, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer l.Unlock()
	if err := f.finish(); err != nil {
		return err
	}
	moves, err := f.prepare(ctx, updates)
	switch {
	case err != nil || len(moves) == 0:
		return err
	case len(moves) == 1:
		return f.moveOne(moves[0])
	}
	err = durable.WriteFile(f.journal, moves.encode(), durable.Synced)
	if err != nil && !f.hasJournal() {
		return err
	}
	// The moves have happened. Should anything go wrong from here on, readers go
	// by the journal, and the next Apply begins with what is left to do. (If the
	// journal was named, but could not be synced, finishing makes up for it.)
	if finishErr := f.finish(); finishErr == nil {
		return nil
	}
	return err
}

// prepare compares, and returns what is to be swapped.
func (f *Files) prepare(ctx context.Context, updates []Update) (journal, error) {
	var moves journal
	who := f.who()
	for _, u := range updates {
		is, err := f.read(u.Name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if is != u.Old {
			return nil, &ConflictError{Name: u.Name, Is: is, Expected: u.Old}
		}
		if u.New != u.Old {
			moves = append(moves, move{u.Name, LogEntry{Old: u.Old, New: u.New, Who: who, Reason: u.Reason}})
		}
	}
	return moves, f.checkPlaces(ctx, moves)
}

// moveOne moves a single ref, for which no journal is needed: first the line in
// the log, then the ref. A line whose move never came is known by what the ref
// is.
func (f *Files) moveOne(m move) error {
	dirs := dirSet{}
	if m.New.IsZero() {
		if err := f.remove(m.name, dirs); err != nil {
			return err
		}
		if err := dirs.sync(); err != nil {
			return err
		}
		f.tidy(m.name)
		return nil
	}
	err := f.log(m, dirs)
	if err == nil {
		err = dirs.sync()
	}
	if err == nil {
		err = f.write(m.name, m.New, dirs)
	}
	if err == nil {
		return dirs.sync()
	}
	if is, readErr := f.read(m.name); is == m.Old && (readErr == nil || errors.Is(readErr, ErrNotFound)) {
		f.unlog(m)
	}
	return err
}

// Rescue gives a damaged ref the last value that its reflog knows, and returns
// that. If the ref is not damaged it does nothing.
func (f *Files) Rescue(ctx context.Context, name Name) (objects.ID, error) {
	if err := name.Check(); err != nil {
		return objects.ID{}, err
	}
	l, err := f.lock(ctx)
	if err != nil {
		return objects.ID{}, err
	}
	defer l.Unlock()
	if err := f.finish(); err != nil {
		return objects.ID{}, err
	}
	id, err := f.read(name)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.LastGood.IsZero() {
		return id, err
	}
	dirs := dirSet{}
	if err := f.write(name, damaged.LastGood, dirs); err != nil {
		return objects.ID{}, err
	}
	return damaged.LastGood, dirs.sync()
}
