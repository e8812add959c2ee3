// Package odb makes one store of many packs: it looks objects up in all of
// them, keeps blocks that are read often, adds packs, and merges small ones so
// that their number stays small.
//
// The directory of packs holds:
//
//	<name>.pack, <name>.idx              a pack that survives a power cut, and its index
//	new-<boot>-<name>.pack, ….idx        one that survives kill -9 only, until it is sealed
//	lock, gate                           held shared by batches: see lock.go
//	merge.lock                           held by whoever merges or seals packs
//	lost                                 empty: made when something is found damaged or missing
//	tmp-…                                pending files of package durable
//
// where <name> is the SHA-256 that ends the pack, and <boot> says during which
// run of the system it was written: packs that were not synced, and are older
// than that, are checked as a whole before anything in them is believed.
//
// Packs come and go by renaming and removing, at any time and without locks. A
// reader that finds one gone lists the directory again; what was in it is in
// another one by then. Merging never loses an object, so it need not wait for
// writers. Only what drops objects must: it takes the lock exclusively.
package odb

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
)

// Options of a DB. The zero Options work.
type Options struct {
	// Warn is told of damage that was passed over or mended. It may be called
	// from many goroutines at once.
	Warn func(error)

	// NoMerge leaves small packs to Consolidate and Sweep, as long as there are not too
	// many of them. Otherwise who adds a pack merges some in passing, if that takes at
	// most a twentieth of the time since Began; if that is zero, since the batch began.
	NoMerge bool
	Began   time.Time

	// CacheSize bounds the decoded blocks that are kept. Zero is DefaultCache.
	CacheSize int64

	// Fetch, if not nil, is called when objects are wanted that no pack holds, and
	// adds those to the store that it can get: it makes a lazy store of it. It may
	// be called from many goroutines at once, and calls the DB with Local.
	Fetch func(ctx context.Context, ids []objects.ID) error
}

// A DB is the objects in one directory of packs. It may be used from many
// goroutines at once, and by many processes.
type DB struct {
	dir   string
	o     Options
	cache *cache
	bad   sync.Map // objects.ID of those found damaged, until they are put again

	set atomic.Pointer[set]
	mu  sync.Mutex // held while the directory is listed

	shut atomic.Int64 // nanoseconds: for how long the gate is to be shut next, if it was in vain before
}

// A set is the packs that were there when the directory was listed.
type set struct {
	packs   []*stored // newest first; never changed
	mtime   time.Time // of the directory
	listed  time.Time
	settled bool // nobody changed the directory meanwhile: what is not listed was not there
}

// Open returns the store in dir, which need not exist yet. It reads nothing
// before it is asked to.
func Open(dir string, o Options) (*DB, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if o.CacheSize == 0 {
		o.CacheSize = DefaultCache
	}
	return &DB{dir: dir, o: o, cache: newCache(o.CacheSize)}, nil
}

// Close gives back what the DB keeps in memory. Open bodies stay readable.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.set.Store(nil)
	db.cache.clear()
	return nil
}

func (db *DB) warn(err error) {
	if db.o.Warn != nil {
		db.o.Warn(err)
	}
}

// packs returns the packs as they were last listed, which happens at first use.
func (db *DB) packs() (*set, error) {
	if s := db.set.Load(); s != nil {
		return s, nil
	}
	s, _, err := db.refresh(nil)
	return s, err
}

// tick is more than the coarsest clock that directories are stamped with.
const tick = 20 * time.Millisecond

// refresh lists the directory, unless it has not changed since seen was listed,
// and reports whether there are other packs now than in seen.
func (db *DB) refresh(seen *set) (*set, bool, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if s := db.set.Load(); s != nil && s != seen {
		return s, true, nil // somebody else was quicker
	}
	s := &set{listed: time.Now()}
	mtime, err := db.mtime()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.settled = true
	case err != nil:
		return nil, false, err
	default:
		s.mtime = mtime
		if seen != nil && seen.settled && s.mtime.Equal(seen.mtime) {
			return seen, false, nil
		}
		if s.packs, err = db.list(seen); err != nil {
			return nil, false, err
		}
		after, err := db.mtime()
		s.settled = err == nil && after.Equal(s.mtime) && s.listed.Sub(s.mtime) > tick
	}
	db.set.Store(s)
	return s, seen == nil || !slices.Equal(s.packs, seen.packs), nil
}

// mtime returns when the directory was changed last.
func (db *DB) mtime() (time.Time, error) {
	var st unix.Stat_t
	if err := unix.Stat(db.dir, &st); err != nil {
		return time.Time{}, &os.PathError{Op: "stat", Path: db.dir, Err: err}
	}
	return time.Unix(st.Mtim.Unix()), nil
}

// settle lists the directory when nobody has changed it for a moment. A listing
// that is made while others rename files may lack some under either name.
func (db *DB) settle(ctx context.Context) error {
	const tries = 25 // or else others never stop
	s, err := db.packs()
	for try := 0; err == nil && !s.settled && try < tries; try++ {
		select {
		case <-time.After(tick + time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		s, _, err = db.refresh(s)
	}
	return err
}

// list returns the packs in the directory, newest first. Those that are in old
// already, and in order, are taken over.
func (db *DB) list(old *set) ([]*stored, error) {
	d, err := os.Open(db.dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	known := map[string]*stored{}
	if old != nil {
		for _, p := range old.packs {
			if p.usable() {
				known[p.base] = p
			}
		}
	}
	var packs []*stored
	for _, name := range names {
		base, ok := strings.CutSuffix(name, packExt)
		if !ok {
			continue
		}
		p := known[base]
		if p == nil {
			if p = db.newStored(base); p == nil {
				continue
			}
		}
		packs = append(packs, p)
	}
	slices.SortFunc(packs, func(a, b *stored) int {
		if c := b.mtime.Compare(a.mtime); c != 0 {
			return c
		}
		return strings.Compare(a.base, b.base)
	})
	return packs, nil
}
