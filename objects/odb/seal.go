package odb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// sealCopy is the size below which staged packs are merged when they are sealed.
// Bigger ones are synced as they are.
const sealCopy = 4 << 20

// Seal makes all that is staged survive a power cut. It costs one stat(2) if
// nothing is.
func (db *DB) Seal(ctx context.Context) error {
	s, _, err := db.refresh(db.set.Load())
	if err != nil || len(s.staged()) == 0 {
		return err
	}
	lock, err := durable.LockExclusive(ctx, db.mergeLock())
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := db.seal(ctx); err != nil {
		return fmt.Errorf("seal packs: %w", err)
	}
	return nil
}

func (s *set) staged() []*stored {
	var staged []*stored
	for _, p := range s.packs {
		if p.isStaged() {
			staged = append(staged, p)
		}
	}
	return staged
}

func (db *DB) seal(ctx context.Context) error {
	s, _, err := db.refresh(db.set.Load())
	if err != nil {
		return err
	}
	var small, asIs []*stored
	for _, p := range s.staged() {
		switch _, err := db.open(p); {
		case err == nil && p.size < sealCopy:
			small = append(small, p)
		case err == nil:
			asIs = append(asIs, p)
		case errors.Is(err, errTorn):
			db.remove(p) // the power cut came first; db.open has told
		}
	}
	if len(small) > 0 {
		left, err := db.merge(ctx, small, Durable)
		if err != nil {
			return err
		}
		asIs = append(asIs, left...)
	}
	if len(asIs) == 0 {
		return nil
	}
	for _, p := range asIs {
		if err := db.sync(p); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(db.dir); err != nil {
		return err
	}
	_, _, err = db.refresh(db.set.Load())
	return err
}

// sync makes a staged pack a durable one, but for its name.
func (db *DB) sync(p *stored) error {
	to := db.path(p.name)
	for _, ext := range []string{indexExt, packExt} {
		f, err := os.Open(p.path + ext)
		if errors.Is(err, fs.ErrNotExist) && ext == indexExt {
			continue // it can be made again
		}
		if err != nil {
			return err
		}
		err = durable.SyncFile(f)
		f.Close()
		if err != nil {
			return err
		}
		if err := durable.Rename(p.path+ext, to+ext, durable.NoSync); err != nil {
			return err
		}
	}
	return nil
}

// tidy removes what killed processes left behind. The caller has the merge lock.
func (db *DB) tidy() {
	const age = time.Hour
	_ = durable.RemoveStale(db.dir, age)
	entries, err := os.ReadDir(db.dir)
	if err != nil {
		return
	}
	packs := map[string]bool{}
	for _, e := range entries {
		if base, ok := strings.CutSuffix(e.Name(), packExt); ok {
			packs[base] = true
		}
	}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), indexExt)
		if !ok || packs[base] {
			continue
		}
		// The pack of a young one may be about to come.
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > age {
			_ = durable.Remove(filepath.Join(db.dir, e.Name()))
		}
	}
}
