package odb

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// leaveOut makes the index of p anew, without what is damaged in the pack. From
// then on that is missing to every process, and not there but of no use: so it
// is stored again as soon as somebody has it. It is done once, whatever else in
// the pack is found damaged.
func (db *DB) leaveOut(p *stored, damage error) {
	if !errors.Is(damage, pack.ErrBadPack) || errors.As(damage, new(*fs.PathError)) {
		return // a disk that can't be read now may be read tomorrow
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.index.Load()
	if p.purged || x == nil {
		return
	}
	p.purged = true
	db.NoteLoss()
	var out bytes.Buffer
	n, err := x.Prune(&out, p.file)
	if err == nil && n > 0 {
		err = durable.WriteFile(p.path+indexExt, out.Bytes(), durable.NoSync)
	}
	if err == nil && n > 0 {
		x, err = pack.ParseIndex(out.Bytes())
	}
	if err != nil {
		db.warn(fmt.Errorf("index of pack %s: %w", p.base, err))
		return
	}
	p.index.Store(x)
}

// lostName is a file whose time says when something was found damaged or missing
// last.
const lostName = "lost"

// NoteLoss is called when something that should be there is not.
func (db *DB) NoteLoss() {
	if err := durable.WriteFile(filepath.Join(db.dir, lostName), nil, durable.NoSync); err != nil {
		db.warn(err)
	}
}

// LastLoss returns when something was found damaged or missing last, in any
// process; zero if that never happened. Trees that were stored before may not be
// whole, though the objects at their top are there.
func (db *DB) LastLoss() time.Time {
	fi, err := os.Stat(filepath.Join(db.dir, lostName))
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}
