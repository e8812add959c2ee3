package odb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

func (db *DB) path(name objects.ID) string { return filepath.Join(db.dir, name.String()) }

func (db *DB) mergeLock() string { return filepath.Join(db.dir, "merge.lock") }

// Consolidate merges small packs, so that the number of packs grows with the
// logarithm of what is stored. It waits for others who merge. Commit does the
// same in passing, without waiting.
func (db *DB) Consolidate(ctx context.Context) error {
	lock, err := durable.LockExclusive(ctx, db.mergeLock())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no store yet
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return db.mergeAll(ctx, mergeFrom, forever)
}

// mergeInPassing merges where that is due, nobody else is at it, and whoever began
// what led to it will hardly notice. A failure does not matter: the next one who adds
// a pack tries again.
func (db *DB) mergeInPassing(ctx context.Context, began time.Time) {
	if !db.o.Began.IsZero() {
		began = db.o.Began
	}
	spare := time.Since(began) / spareShare
	s, err := db.packs()
	if db.o.NoMerge || err != nil || len(s.packs) < mergeFrom || len(db.plan(s, mergeFrom, spare)) == 0 {
		return
	}
	lock, err := durable.TryExclusive(db.mergeLock())
	if err != nil {
		return
	}
	defer lock.Unlock()
	if err := db.mergeAll(ctx, mergeFrom, spare); err != nil && ctx.Err() == nil {
		db.warn(fmt.Errorf("merge packs: %w", err))
	}
}

// What merging may cost, and about what it does.
const (
	spareShare  = 20 // merging in passing takes at most this part of what led to it
	mergePack   = 300 * time.Microsecond
	mergeSecond = 200 << 20 // bytes
	forever     = time.Duration(math.MaxInt64)
)

// costOf returns about how long it takes to merge packs.
func costOf(packs int, bytes int64) time.Duration {
	return time.Duration(packs)*mergePack + time.Duration(float64(bytes)/mergeSecond*float64(time.Second))
}

// makeRoom is called before packs that are written get their names. If there are
// very many, it merges, and lets nobody else add one before done is called: that is
// how those who add are slowed down to what merging can keep up with.
func (db *DB) makeRoom(ctx context.Context) (done func(), err error) {
	if n, err := db.crowd(); err != nil || n < crowded {
		return func() {}, err
	}
	lock, err := durable.LockExclusive(ctx, db.mergeLock())
	if err != nil {
		return nil, err
	}
	if err := db.mergeAll(ctx, 2, forever); err != nil {
		if ctx.Err() != nil {
			lock.Unlock()
			return nil, err
		}
		db.warn(fmt.Errorf("merge packs: %w", err))
	}
	return lock.Unlock, nil
}

// crowd returns how many packs there are, those that are about to get their names
// among them.
func (db *DB) crowd() (int, error) {
	d, err := os.Open(db.dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	packs, pending := 0, 0
	for _, name := range names {
		if strings.HasSuffix(name, packExt) {
			packs++
		}
		if durable.IsPending(name) {
			pending++
		}
	}
	return packs + pending/2, err // each comes with an index
}

// mergeAll merges what the plan says. The caller has the merge lock.
func (db *DB) mergeAll(ctx context.Context, from int, spare time.Duration) error {
	s, _, err := db.refresh(db.set.Load())
	if err != nil {
		return err
	}
	db.tidy()
	var errs []error
	for _, group := range db.plan(s, from, spare) {
		d := Durable
		if group[0].isStaged() {
			d = Staged
		}
		_, err := db.merge(ctx, group, d)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// plan returns groups of packs to be merged into one each. Packs of a sort, which
// are staged or not, and hold trees or payload or both, are merged when there
// are as many as from: the smallest ones, up to where the next is at least twice
// as big as all of them. So those that stay grow geometrically, and a byte is
// copied as often as the logarithm of their number. What takes longer than spare is
// left for another time.
func (db *DB) plan(s *set, from int, spare time.Duration) [][]*stored {
	const tiny = 16 << 10 // not worth being kept apart
	sorts := map[[3]bool][]*stored{}
	for _, p := range s.packs {
		x, err := db.open(p)
		if err != nil || p.stuck.Load() {
			continue
		}
		meta, data := x.Holds()
		sort := [3]bool{p.isStaged(), meta, data}
		sorts[sort] = append(sorts[sort], p)
	}
	var groups [][]*stored
	for _, packs := range sorts {
		if len(packs) < from {
			continue
		}
		slices.SortFunc(packs, func(a, b *stored) int { return cmp.Compare(a.size, b.size) })
		n, total := 0, int64(0)
		for _, p := range packs {
			if n >= 2 && p.size >= max(2*total, tiny) {
				break
			}
			total += p.size
			n++
		}
		if cost := costOf(n, total); n >= 2 && cost <= spare {
			groups = append(groups, packs[:n])
			spare -= cost
		}
	}
	return groups
}

// merge replaces packs by one that holds the same objects, or two, one of trees
// and one of payload. Those that can't be read are left. The caller has the
// merge lock.
func (db *DB) merge(ctx context.Context, group []*stored, d Durability) (left []*stored, err error) {
	c, err := db.copyPacks(ctx, group, nil)
	if err != nil {
		return nil, err
	}
	defer c.batch.Close()
	if err := c.publish(d); err != nil {
		return nil, err
	}
	for _, p := range c.merged {
		if !c.isAlso(p, d) {
			db.remove(p)
		}
	}
	_, _, err = db.refresh(db.set.Load())
	return c.left, err
}

// copied is what was copied out of some packs into others.
type copied struct {
	batch        *Batch // to be closed
	outs         []*output
	merged, left []*stored // those of which a copy was made, and those that can't be read
}

// publish gives the new packs their names, and the age of what is in them.
func (c *copied) publish(d Durability) error {
	newest := time.Time{}
	for _, p := range c.merged {
		if p.mtime.After(newest) {
			newest = p.mtime
		}
	}
	for _, o := range c.outs {
		// Without it they would be younger, which is all that it is for.
		_ = os.Chtimes(o.file.Name(), newest, newest)
	}
	return c.batch.db.publish(c.outs, d)
}

// isAlso reports whether one of the new packs has the name of an old one.
func (c *copied) isAlso(p *stored, d Durability) bool {
	return slices.ContainsFunc(c.outs, func(o *output) bool { return o.path(d) == p.path })
}

// copyPacks makes a pack of all that is in some packs and that keep, if it is not nil,
// lets pass. It has no name yet.
func (db *DB) copyPacks(ctx context.Context, group []*stored, keep func(indexedRecord) bool) (c *copied, err error) {
	b := db.newBatch(BatchOptions{}, nil)
	c = &copied{batch: b}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	b.merging = true
	total := int64(0)
	for _, p := range group {
		total += p.size
	}
	if total < mixedMerge {
		b.metaPack = b.dataPack
		b.meta.to = b.dataPack
	}
	group = slices.Clone(group)
	slices.SortFunc(group, func(a, b *stored) int { return a.mtime.Compare(b.mtime) })
	for _, p := range group {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m := merger{b: b, p: p, group: group, keep: keep}
		switch err := m.copy(); {
		case b.err != nil:
			return nil, b.err
		case err == nil:
			c.merged = append(c.merged, p)
		default:
			c.left = append(c.left, p)
			p.stuck.Store(true)
			db.warn(fmt.Errorf("merge pack %s: %w", p.base, err))
		}
	}
	rest, err := b.collect()
	if err != nil {
		return nil, err
	}
	c.outs, err = b.finish(rest)
	return c, err
}

// remove removes a pack whose objects are elsewhere. If it can't be, that only
// costs space.
func (db *DB) remove(p *stored) {
	if durable.Remove(p.path+packExt) == nil {
		_ = durable.Remove(p.path + indexExt)
	}
}

// A merger copies one pack into a batch.
type merger struct {
	b     *Batch
	p     *stored
	x     *pack.Index
	group []*stored                // all that are merged
	keep  func(indexedRecord) bool // nil if nothing is to be dropped
	data  pack.Data
	buf   []byte
}

// indexedRecord is an id and the record that an index has for it.
type indexedRecord struct {
	id objects.ID
	e  pack.Entry
}

func (m *merger) copy() error {
	db := m.b.db
	if _, err := db.open(m.p); err != nil {
		return err
	}
	// What a damaged index does not show would be lost.
	db.suspect(m.p)
	m.x = m.p.index.Load()
	all := make([]indexedRecord, 0, m.x.Len())
	for id, e := range m.x.All() {
		all = append(all, indexedRecord{id, e})
	}
	if len(all) != m.x.Len() {
		return fmt.Errorf("%w: it can't be read", pack.ErrBadIndex)
	}
	slices.SortFunc(all, func(a, b indexedRecord) int { return cmp.Compare(a.e.Record, b.e.Record) })
	for n := range m.x.Blocks() {
		info, err := m.x.Block(n)
		if err != nil {
			return err
		}
		end := len(all)
		if n+1 < m.x.Blocks() {
			next, err := m.x.Block(n + 1)
			if err != nil {
				return err
			}
			end, _ = slices.BinarySearchFunc(all, next.First, func(r indexedRecord, first uint32) int { return cmp.Compare(r.e.Record, first) })
		}
		if err := m.block(info, all[:end]); err != nil {
			return err
		}
		all = all[end:]
	}
	return nil
}

// block copies those records of a block that no pack before had.
func (m *merger) block(info pack.BlockInfo, all []indexedRecord) error {
	live := all[:0:0]
	size, meta, data, dropped := 0, false, false, false
	for _, r := range all {
		if _, ok := m.b.seen.get(&r.id); ok || r.e.Type == pack.Delta && m.isWholeElsewhere(r.id) {
			continue
		}
		if m.keep != nil && !m.keep(r) {
			dropped = true
			continue
		}
		live = append(live, r)
		size += int(r.e.Size)
		meta, data = meta || r.e.Type.IsMeta(), data || !r.e.Type.IsMeta()
	}
	if len(live) == 0 {
		return nil
	}
	full := SmallBlock / 2
	if meta {
		full = metaBlock / 2
	}
	var err error
	if m.buf, err = m.p.file.ReadStored(info, m.buf); err != nil {
		return err
	}
	n, err := pack.CheckBlock(m.buf)
	switch {
	case err != nil:
		// A good copy of the same objects must not be dropped for this one.
		return fmt.Errorf("block at offset %d: %w", info.Offset, err)
	case int(info.Raw) < full || size < int(info.Raw)/2 || meta && data || dropped:
		return m.repack(info, live)
	}
	return m.verbatim(info, live, n)
}

func (m *merger) isWholeElsewhere(id objects.ID) bool {
	return slices.ContainsFunc(m.group, func(p *stored) bool {
		x := p.index.Load()
		if x == nil || p == m.p {
			return false
		}
		e, ok, err := x.Find(&id)
		return ok && err == nil && e.Type == pack.Tree
	})
}

// repack adds records to other blocks.
func (m *merger) repack(info pack.BlockInfo, live []indexedRecord) error {
	if err := m.data.Decode(m.buf); err != nil {
		return fmt.Errorf("block at offset %d: %w", info.Offset, err)
	}
	if m.keep != nil {
		// What was compressed together stays so.
		m.b.data.size = max(SmallBlock, min(int(info.Raw), BigBlock))
		m.b.meta.size = max(metaBlock, min(int(info.Raw), BigBlock/bulkMeta))
	}
	for _, r := range live {
		i := int(r.e.Record - info.First)
		if i >= m.data.Len() {
			return badRecord(r.e)
		}
		t, body := m.data.Record(i)
		if t != r.e.Type || len(body) != int(r.e.Size) {
			return badRecord(r.e)
		}
		record := pack.Record{ID: r.id, Type: t, Size: r.e.Size}
		if err := m.b.fail(m.b.filler(t).put(record, body)); err != nil {
			return err
		}
	}
	return nil
}

func badRecord(e pack.Entry) error {
	return fmt.Errorf("%w: record %d is not in its block, or another", pack.ErrBadIndex, e.Record)
}

// verbatim copies the block of n records as it is.
func (m *merger) verbatim(info pack.BlockInfo, live []indexedRecord, n int) error {
	records := make([]pack.Record, n)
	for _, r := range live {
		i := int(r.e.Record - info.First)
		if i >= n {
			return badRecord(r.e)
		}
		records[i] = pack.Record{ID: r.id, Type: r.e.Type, Size: r.e.Size}
	}
	to := m.b.dataPack
	if live[0].e.Type.IsMeta() {
		to = m.b.metaPack
	}
	w, err := to.writer()
	if err == nil {
		_, err = w.Append(m.buf, records)
	}
	if err != nil {
		return m.b.fail(err)
	}
	for _, r := range live {
		m.b.seen.claim(&r.id, place{})
	}
	return nil
}
