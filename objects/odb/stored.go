package odb

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"golang.org/x/sys/unix"
)

const (
	packExt   = ".pack"
	indexExt  = ".idx"
	newPrefix = "new-"
)

// A stored is a pack in the directory. Its index is opened at first use.
type stored struct {
	base  string // file name without extension
	name  objects.ID
	boot  string // of packs that were not synced: when they were written
	path  string // without extension
	mtime time.Time
	size  int64
	file  *pack.File

	index atomic.Pointer[pack.Index]
	stuck atomic.Bool // merging it failed

	mu      sync.Mutex
	err     error // why there is no index
	checked bool  // the index was proven, or made anew
	purged  bool  // the index was made anew because of damage in the pack
}

// errTorn says that a pack was staged when the power was cut, and is not whole.
// It holds nothing that was promised.
var errTorn = errors.New("the system stopped while the pack was written")

// newStored returns the pack whose files are called base, nil if that is not the
// name of a pack, or the pack is gone.
func (db *DB) newStored(base string) *stored {
	p := &stored{base: base, path: filepath.Join(db.dir, base)}
	digits := base
	if rest, ok := strings.CutPrefix(base, newPrefix); ok {
		if p.boot, digits, ok = strings.Cut(rest, "-"); !ok {
			return nil
		}
	}
	var err error
	if p.name, err = objects.ParseID(digits); err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Stat(p.path+packExt, &st) != nil {
		return nil
	}
	p.mtime, p.size = time.Unix(st.Mtim.Unix()), st.Size
	p.file = pack.NewFile(p.path + packExt)
	return p
}

// isStaged reports whether the pack may be lost in a power cut.
func (p *stored) isStaged() bool { return p.boot != "" }

// usable reports whether it makes sense to look at p again.
func (p *stored) usable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !errors.Is(p.err, fs.ErrNotExist)
}

// bootID names this run of the system. Two runs never share one; where it can't
// be had, no run is known to be this one.
var bootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(id) < 8 {
		return "unknown"
	}
	return string(id[:8])
})

func (p *stored) isForeign() bool {
	return p.isStaged() && (p.boot != bootID() || p.boot == "unknown")
}

// open returns the index of p. If there is none, or a damaged one, it is made
// from the pack. A pack that is gone is fs.ErrNotExist.
func (db *DB) open(p *stored) (*pack.Index, error) {
	if x := p.index.Load(); x != nil {
		return x, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if x := p.index.Load(); x != nil || p.err != nil {
		return x, p.err
	}
	x, err := db.openIndex(p)
	if err != nil {
		p.err = err
		return nil, err
	}
	p.index.Store(x)
	return x, nil
}

func (db *DB) openIndex(p *stored) (*pack.Index, error) {
	if p.isForeign() {
		if err := checkSum(p); err != nil {
			if !errors.Is(err, pack.ErrBadPack) {
				return nil, err // gone, or not to be read now
			}
			db.warn(fmt.Errorf("pack %s was not finished before the system stopped: %w", p.base, err))
			return nil, errTorn
		}
	}
	x, err := pack.OpenIndex(p.path + indexExt)
	if err == nil && x.Name() != p.name {
		err = fmt.Errorf("%w: it is that of another pack", pack.ErrBadIndex)
	}
	switch {
	case err == nil, errors.As(err, new(*pack.VersionError)):
		return x, err
	case !errors.Is(err, fs.ErrNotExist):
		db.warn(fmt.Errorf("index of pack %s is made anew: %w", p.base, err))
	}
	return db.rebuild(p)
}

func checkSum(p *stored) error {
	size, err := p.file.Size()
	if err != nil {
		return err
	}
	name, err := pack.CheckSum(p.file, size)
	if err == nil && name != p.name {
		err = fmt.Errorf("%w: it is another pack", pack.ErrBadPack)
	}
	return err
}

// rebuild makes the index of p from the pack. If it can't be kept on disk, it is
// good for as long as the DB is.
func (db *DB) rebuild(p *stored) (*pack.Index, error) {
	size, err := p.file.Size()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	damaged, err := pack.Rebuild(&out, p.file, size, p.name)
	if err != nil {
		return nil, fmt.Errorf("index of pack %s: %w", p.base, err)
	}
	if damaged != nil {
		db.warn(fmt.Errorf("pack %s: %w", p.base, damaged))
	}
	p.checked = true
	if err := durable.WriteFile(p.path+indexExt, out.Bytes(), durable.NoSync); err == nil {
		if _, err := os.Stat(p.path + packExt); errors.Is(err, fs.ErrNotExist) {
			_ = durable.Remove(p.path + indexExt) // merged meanwhile
		}
	}
	return pack.ParseIndex(out.Bytes())
}

// suspect is called when what an index led to is not what it said. It reports
// whether the index was at fault, and has been made anew.
func (db *DB) suspect(p *stored) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.index.Load()
	if p.checked || x == nil {
		return false
	}
	p.checked = true
	err := x.Check()
	if err == nil {
		return false
	}
	db.warn(fmt.Errorf("index of pack %s is made anew: %w", p.base, err))
	if x, err = db.rebuild(p); err != nil {
		return false
	}
	p.index.Store(x)
	return true
}

// suspectAll is suspect for all packs.
func (db *DB) suspectAll() (mended bool) {
	s, err := db.packs()
	if err != nil {
		return false
	}
	for _, p := range s.packs {
		mended = db.suspect(p) || mended
	}
	return mended
}
