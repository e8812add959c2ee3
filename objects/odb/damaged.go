package odb

import (
	"errors"
	"fmt"
	"io/fs"

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
	if p.purged || p.index.Load() == nil {
		return
	}
	p.purged = true
	x, err := db.rebuild(p)
	if err != nil {
		db.warn(fmt.Errorf("index of pack %s: %w", p.base, err))
		return
	}
	p.index.Store(x)
}
