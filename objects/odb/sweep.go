package odb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A Set holds ids. It may be used concurrently.
type Set interface {
	Add(id objects.ID) bool
	Has(id objects.ID) bool
}

// SweepOptions say what a Sweep may drop.
type SweepOptions struct {
	// Live are the objects that stay, Before those that somebody needed until now, or
	// nil. What they are made of counts as they do: the sweep finds it.
	Live, Before Set

	// NewSet makes an empty set.
	NewSet func() Set

	// Mark adds to Live what has come to be needed since, and returns that. It is
	// called again and again, also while nobody can write.
	Mark func(ctx context.Context) ([]objects.ID, error)

	// Grace is how long an object stays that is not live and was not before: somebody
	// may be about to make it reachable. It counts from when its pack came.
	Grace time.Duration

	// Rewrite is the share of a pack, by bytes, that must be dead for it to be written
	// anew without that. One in which all is dead always goes.
	Rewrite float64

	// DryRun drops nothing, and tells what would be.
	DryRun bool

	// Done, if not nil, is told of bytes of packs that were dealt with.
	Done func(bytes int64)
}

// Swept is what a Sweep dropped and what it left. Of a pack that was not worth to be
// written anew nothing is dropped.
type Swept struct {
	Objects   int   // dropped, chunks among them
	Bytes     int64 // about what they took, compressed
	Dead      int64 // bytes of what is left though nobody needs it
	Young     int64 // bytes of what is left only because of the grace
	Removed   int   // packs that are gone
	Rewritten int   // of these, packs that were written anew
}

// Add adds what a sweep before dropped.
func (s *Swept) Add(before Swept) {
	s.Objects += before.Objects
	s.Bytes += before.Bytes
	s.Removed += before.Removed
	s.Rewritten += before.Rewritten
}

// Sweep drops objects that nobody needs. It takes one pack after the other: at no
// time there is more on the disk than before by what stays of the biggest. Writers
// wait only for the moment in which a pack goes.
func (db *DB) Sweep(ctx context.Context, o SweepOptions) (Swept, error) {
	if err := db.Seal(ctx); err != nil {
		return Swept{}, err
	}
	w := sweeper{
		db: db, o: o, gone: map[string]bool{}, again: map[string]bool{}, scanned: map[string]bool{}, parts: o.NewSet(), before: o.NewSet(),
		holds: map[string][]objects.ID{}, held: map[objects.ID]int{}, first: map[string]bool{}, began: time.Now(),
	}
	s, _, err := db.refresh(db.set.Load())
	if err != nil {
		return Swept{}, err
	}
	for _, p := range s.packs {
		w.first[p.base] = true
	}
	if err := w.scan(ctx); err != nil {
		return Swept{}, err
	}
	for {
		p, err := w.next(ctx)
		if err != nil || p == nil {
			return w.sum, err
		}
		if err := w.pack(ctx, p); err != nil {
			return w.sum, fmt.Errorf("pack %s: %w", p.base, err)
		}
		if o.Done != nil {
			o.Done(p.size)
		}
	}
}

// A sweeper is one Sweep.
type sweeper struct {
	db  *DB
	o   SweepOptions
	sum Swept
	// Packs that were dealt with, or made, and those of which it is known what their
	// objects are made of; by their names.
	gone, scanned map[string]bool

	// Packs that were made, and have something dead in them that others held then: they
	// have their turn once more.
	again map[string]bool

	first map[string]bool // packs that were there when it began, by their names
	began time.Time

	holds map[string][]objects.ID // what dead records are made of, by the names of their packs
	held  map[objects.ID]int      // in how many packs these are, but for those that were dropped

	// Chunks, and bases of trees, that live objects are made of, and those that were
	// live before. They are not among these: a base stays without what it leads to.
	parts, before Set

	// Of what chunks or bases are needed is not known for sure: all stay.
	keepChunks, keepTrees bool
}

// next returns a pack that may be swept and was not yet; nil if there is none. Those
// come first whose dead records hold something in others, the newest first; then the
// biggest: they give back most.
func (w *sweeper) next(ctx context.Context) (*stored, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, _, err := w.db.refresh(w.db.set.Load())
	if err != nil {
		return nil, err
	}
	if err := w.hold(ctx, s.packs); err != nil {
		return nil, err
	}
	var next *stored
	for _, p := range s.packs {
		if w.gone[p.base] || p.isStaged() || w.isLate(p) && w.o.Before == nil {
			continue
		}
		if len(w.holds[p.base]) > 0 {
			next = p
			break
		}
		if next == nil || p.size > next.size {
			next = p
		}
	}
	if next != nil {
		w.gone[next.base] = true
	}
	return next, nil
}

// isOld reports whether all in a pack has been there for as long as age.
func (db *DB) isOld(p *stored, age time.Duration) bool { return time.Since(p.mtime) >= age }

// Young returns the commits, tags and trees that came less than age ago, but for
// those that are known: somebody may be about to make them reachable, and to rely on
// what they lead to.
func (db *DB) Young(ctx context.Context, age time.Duration, known Set) ([]objects.ID, error) {
	s, _, err := db.refresh(db.set.Load())
	if err != nil || age <= 0 {
		return nil, err
	}
	var ids []objects.ID
	for _, p := range s.packs {
		if db.isOld(p, age) && !p.isStaged() {
			continue
		}
		x, err := db.open(p)
		if err != nil {
			continue // what can't be read makes nothing reachable
		}
		for id, e := range x.All() {
			if e.Type.IsMeta() && !known.Has(id) {
				ids = append(ids, id)
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return ids, nil
}

// isLive reports whether a record of p must stay.
func (w *sweeper) isLive(p *stored, id objects.ID, t pack.Type) bool {
	return w.stateOf(p, id, t) != dead
}

// A state says whether a record must stay.
type state uint8

const (
	dead state = iota
	live
	young // nobody needs it yet
)

func (w *sweeper) stateOf(p *stored, id objects.ID, t pack.Type) state {
	switch {
	case w.o.Live.Has(id), w.parts.Has(id), w.held[id] > 0, t == pack.Chunk && w.keepChunks, t == pack.Tree && w.keepTrees:
		return live
	case w.o.Before != nil && (w.o.Before.Has(id) || w.before.Has(id)):
		return dead
	case w.db.isOld(p, w.o.Grace) && !w.isLate(p):
		return dead
	}
	return young
}

// isLate reports whether a pack has something in it that was written since the sweep
// began. Only what is given up is dropped there, for which it may have been merged
// with others: a sweep that ran after all that writers leave would never end.
func (w *sweeper) isLate(p *stored) bool { return !w.first[p.base] && p.mtime.After(w.began) }

// A census counts what is in a pack.
type census struct {
	objects, dead     int
	bytes, deadStored int64 // compressed, with their places in the index
	young             int64
}

func (w *sweeper) count(p *stored, x *pack.Index) (census, error) {
	var c census
	raw := make([]int64, x.Blocks()) // dead bytes of each block, decompressed
	for id, e := range x.All() {
		c.objects++
		switch w.stateOf(p, id, e.Type) {
		case live:
			continue
		case young:
			c.young += hit{p, x, e}.weight()
			continue
		}
		c.dead++
		n, err := x.BlockOf(e.Record)
		if err != nil {
			return c, err
		}
		raw[n] += int64(e.Size)
	}
	if c.objects != x.Len() {
		return c, fmt.Errorf("%w: it can't be read", pack.ErrBadIndex)
	}
	for n := range raw {
		b, err := x.Block(n)
		if err != nil {
			return c, err
		}
		c.bytes += int64(b.Stored)
		if b.Raw > 0 {
			c.deadStored += int64(float64(b.Stored) * float64(raw[n]) / float64(b.Raw))
		}
	}
	c.deadStored += int64(c.dead) * recordCost
	if c.bytes += int64(c.objects) * recordCost; c.dead == c.objects {
		c.bytes = p.size + fileSize(p.path+indexExt)
		c.deadStored = c.bytes
	}
	return c, nil
}

// pack drops what is dead in one pack, if that is worth it.
func (w *sweeper) pack(ctx context.Context, p *stored) error {
	if _, err := w.db.open(p); err != nil {
		return nil // nothing is known of it: fsck tells
	}
	w.db.suspect(p) // what a damaged index does not show would be lost
	dropped := false
	w.release(p)
	defer func() {
		if !dropped {
			w.retain(p)
		}
	}()
	c, err := w.count(p, p.index.Load())
	w.sum.Young += c.young
	if err != nil {
		w.db.warn(fmt.Errorf("pack %s is left as it is: %w", p.base, err))
		return nil
	}
	waste := c.deadStored + w.heldBack(p)
	switch {
	case c.dead == 0:
		return nil
	case c.dead < c.objects && float64(waste) < w.o.Rewrite*float64(c.bytes):
	case w.o.DryRun:
		dropped = true
	default:
		if dropped, err = w.drop(ctx, p, c); err != nil {
			return err
		}
	}
	if !dropped {
		w.sum.Dead += waste
		return nil
	}
	w.sum.Objects += c.dead
	w.sum.Bytes += c.deadStored
	w.sum.Removed++
	if c.dead < c.objects {
		w.sum.Rewritten++
	}
	return nil
}

// drop replaces a pack by one without what is dead, unless some of that has come to
// be needed.
func (w *sweeper) drop(ctx context.Context, p *stored, c census) (dropped bool, err error) {
	// Most of it while others write.
	if err := w.db.Still(ctx, func() error { return w.mark(ctx) }); err != nil {
		return false, err
	}
	var gone []objects.ID
	fresh := &copied{}
	if c.dead < c.objects {
		if fresh, gone, err = w.copyLive(ctx, p); fresh == nil {
			return false, err
		}
		defer fresh.batch.Close()
	} else {
		for id := range p.index.Load().All() {
			gone = append(gone, id)
		}
	}
	return w.exchange(ctx, p, fresh, gone)
}

// copyLive makes a pack of what is not dead in p. It returns nil if p can't be
// dealt with.
func (w *sweeper) copyLive(ctx context.Context, p *stored) (fresh *copied, gone []objects.ID, err error) {
	lock, err := durable.LockExclusive(ctx, w.db.mergeLock())
	if err != nil {
		return nil, nil, err
	}
	defer lock.Unlock()
	if there, err := w.isThere(p); err != nil || !there {
		return nil, nil, err
	}
	held := false
	fresh, err = w.db.copyPacks(ctx, []*stored{p}, func(r indexedRecord) bool {
		stays := w.isLive(p, r.id, r.e.Type)
		if !stays {
			gone = append(gone, r.id)
		}
		held = held || w.held[r.id] > 0
		return stays
	})
	if err != nil {
		return nil, nil, err
	}
	if len(fresh.left) == 0 { // else it is damaged, which is for fsck
		err = fresh.publish(Durable)
	}
	if err != nil || len(fresh.left) > 0 {
		fresh.batch.Close()
		return nil, nil, err
	}
	for _, o := range fresh.outs {
		name := o.name.String()
		w.gone[name] = !held || w.again[p.base]
		w.again[name] = true
	}
	return fresh, gone, nil
}

// isThere reports whether a pack was not merged meanwhile. If it was, its objects are
// in another one, which has its turn.
func (w *sweeper) isThere(p *stored) (bool, error) {
	s, _, err := w.db.refresh(w.db.set.Load())
	return err == nil && slices.ContainsFunc(s.packs, func(q *stored) bool { return q.base == p.base }), err
}

// exchange removes a pack of which a copy without dead objects is there, in a moment
// in which nobody writes: who had seen one of them, and relied on it, has said so by
// then.
func (w *sweeper) exchange(ctx context.Context, p *stored, fresh *copied, gone []objects.ID) (dropped bool, err error) {
	lock, err := w.db.lockExclusive(ctx)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	merging, err := durable.LockExclusive(ctx, w.db.mergeLock())
	if err != nil {
		return false, err
	}
	defer merging.Unlock()
	if there, err := w.isThere(p); err != nil || !there {
		return false, err
	}
	if err := w.mark(ctx); err != nil {
		return false, err
	}
	s, err := w.db.packs()
	if err == nil {
		err = w.hold(ctx, s.packs) // of those that have come meanwhile
	}
	if err != nil {
		return false, err
	}
	needed := slices.ContainsFunc(gone, func(id objects.ID) bool {
		e, ok, err := p.index.Load().Find(&id)
		return err != nil || !ok || w.isLive(p, id, e.Type)
	})
	if needed {
		for _, o := range fresh.outs {
			if path := o.path(Durable); path != p.path {
				_ = durable.Remove(path + packExt) // the old one has all of it
				_ = durable.Remove(path + indexExt)
			}
		}
	} else if !fresh.isAlso(p, Durable) {
		w.db.remove(p)
		if _, err := os.Lstat(p.path + packExt); !errors.Is(err, fs.ErrNotExist) {
			needed = true // by what is still in it
		}
	}
	_, _, err = w.db.refresh(w.db.set.Load())
	return !needed, err
}

// mark adds to what is live what has come to be so.
func (w *sweeper) mark(ctx context.Context) error {
	if w.o.Mark == nil {
		return nil
	}
	ids, err := w.o.Mark(ctx)
	if err != nil {
		return err
	}
	if err := w.scan(ctx); err != nil {
		return err
	}
	return w.beneath(ctx, ids)
}
