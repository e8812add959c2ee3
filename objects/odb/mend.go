package odb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// Mended says what Mend did to a pack.
type Mended struct {
	Pack    string       // its file name without extension, as it was
	Index   bool         // all of it was good: only its index was made anew
	Dropped []objects.ID // what its index had, as it was then, and is in no good state there
	Err     error        // why it was left as it is
}

// Mend puts other packs in the place of those that hold damage: with all that is
// good in them, however it is spread, and nothing else. Indexes that are damaged, or
// leave damage out, are made anew. What drop, which may be nil, names goes too. A pack
// that is whole, and has nothing to drop, is left alone.
//
// The new pack has its name before the old one goes, so that whoever reads
// meanwhile finds what is good in one or the other.
func (db *DB) Mend(ctx context.Context, packs []string, drop func(objects.ID) bool) ([]Mended, error) {
	lock, err := durable.LockExclusive(ctx, db.mergeLock())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no store yet
	}
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	s, _, err := db.refresh(db.set.Load())
	if err != nil {
		return nil, err
	}
	var all []Mended
	for _, p := range s.packs {
		if x, err := db.open(p); !slices.Contains(packs, p.base) && (err != nil || !x.Pruned()) {
			continue
		}
		m := mending{db: db, p: p, drop: drop, did: Mended{Pack: p.base}}
		changed, err := m.mend(ctx)
		switch {
		case ctx.Err() != nil:
			return all, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			continue // merged meanwhile
		case err != nil:
			m.did.Err = err
		case !changed:
			continue
		}
		all = append(all, m.did)
	}
	_, _, err = db.refresh(db.set.Load())
	return all, err
}

// A mending is what Mend does to one pack.
type mending struct {
	db   *DB
	p    *stored
	drop func(objects.ID) bool
	did  Mended
}

func (m *mending) mend(ctx context.Context) (changed bool, err error) {
	sumErr := checkSum(m.p)
	if m.p.isForeign() && errors.Is(sumErr, pack.ErrBadPack) {
		return false, nil // a power cut came first: Seal removes it
	}
	if errors.Is(sumErr, fs.ErrNotExist) {
		return false, sumErr
	}
	had, indexErr := m.index()
	if sumErr == nil {
		if indexErr != nil {
			m.did.Index = true
			had, err = m.reindex()
		}
		if err != nil || !slices.ContainsFunc(had, m.drops) {
			return m.did.Index, err
		}
	}
	return true, m.rewrite(ctx, had)
}

func (m *mending) drops(id objects.ID) bool { return m.drop != nil && m.drop(id) }

// index returns the ids that the index in the file has, or what is wrong with it.
func (m *mending) index() ([]objects.ID, error) {
	x, err := pack.OpenIndex(m.p.path + indexExt)
	if err == nil {
		err = x.Check()
	}
	switch {
	case err != nil:
	case x.Name() != m.p.name:
		err = fmt.Errorf("%w: it is that of another pack", pack.ErrBadIndex)
	case x.Pruned():
		err = fmt.Errorf("%w: it leaves damage out", pack.ErrBadIndex)
	}
	if err != nil && (x == nil || !x.Pruned()) {
		return nil, err
	}
	return idsOf(x), err
}

func idsOf(x *pack.Index) []objects.ID {
	ids := make([]objects.ID, 0, x.Len())
	for id := range x.All() {
		ids = append(ids, id)
	}
	return ids
}

// reindex makes the index of a pack that is whole.
func (m *mending) reindex() ([]objects.ID, error) {
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	x, err := m.db.rebuild(m.p)
	if err != nil {
		return nil, err
	}
	m.p.err = nil
	m.p.index.Store(x)
	return idsOf(x), nil
}

// rewrite puts what is good in the pack into another one.
func (m *mending) rewrite(ctx context.Context, had []objects.ID) error {
	size, err := m.p.file.Size()
	if err != nil {
		return err
	}
	b := m.db.newBatch(BatchOptions{}, nil)
	defer b.Close()
	b.merging = true
	if size < mixedMerge {
		b.metaPack = b.dataPack
		b.meta.to = b.dataPack
	}
	to := merger{b: b, p: m.p}
	err = pack.Salvage(m.p.file, size, m.p.name, func(info pack.BlockInfo, d *pack.Data) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return m.keep(&to, info, d)
	})
	if err != nil {
		return err
	}
	for _, id := range had {
		if _, kept := b.seen.get(&id); !kept {
			m.did.Dropped = append(m.did.Dropped, id)
		}
	}
	return m.replace(b)
}

// keep copies the records of a block that are good and wanted.
func (m *mending) keep(to *merger, info pack.BlockInfo, d *pack.Data) error {
	var records []indexedRecord
	for i := range d.Len() {
		t, body := d.Record(i)
		id, err := pack.RecordID(t, body)
		if err != nil || m.drops(id) {
			continue
		}
		records = append(records, indexedRecord{id, pack.Entry{Record: uint32(i), Type: t, Size: uint32(len(body))}})
	}
	if len(records) == d.Len() {
		return to.block(info, records)
	}
	// What is not wanted must not be in the new pack either: an index that is made of
	// it would have it again.
	var err error
	if to.buf, err = m.p.file.ReadStored(info, to.buf); err != nil {
		return err
	}
	return to.repack(info, records)
}

// replace gives the new pack its name and takes the old one away.
func (m *mending) replace(b *Batch) error {
	d := Durable
	if m.p.isStaged() {
		d = Staged
	}
	rest, err := b.collect()
	if err != nil {
		return err
	}
	outs, err := b.finish(rest)
	if err != nil {
		return err
	}
	if err := m.db.publish(outs, d); err != nil {
		return err
	}
	// If only its ends were damaged, the new one is called as the old one was.
	if !slices.ContainsFunc(outs, func(o *output) bool { return o.path(d) == m.p.path }) {
		if err := durable.Remove(m.p.path + packExt); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_ = durable.Remove(m.p.path + indexExt) // alone it says nothing
	}
	m.p.forget()
	return nil
}

// forget makes whoever looks at p list the directory again.
func (p *stored) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = fs.ErrNotExist
	p.index.Store(nil)
}

// Parts returns what a big blob, or a tree that is a delta, is made of and the
// packs do not hold: chunks, or the tree that it is a delta of.
func (db *DB) Parts(ctx context.Context, id objects.ID) ([]objects.ID, error) {
	t, record, err := db.rawRecord(ctx, id)
	if err != nil {
		return nil, err
	}
	switch t {
	case pack.Delta:
		d, err := pack.ParseDelta(record)
		if err != nil {
			return nil, err
		}
		return db.Missing(ctx, []objects.ID{d.Base})
	case pack.Recipe:
		r, err := pack.ParseRecipe(record)
		if err != nil {
			return nil, err
		}
		var parts []objects.ID
		for i := range r.Len() {
			parts = append(parts, r.Piece(i).ID)
		}
		return db.Missing(ctx, parts)
	}
	return nil, nil
}

// KeepWhole stores those of trees whole that are deltas, and can't be read because
// what they are deltas of is a delta by now. It returns those that can be read then.
func (db *DB) KeepWhole(ctx context.Context, trees []objects.ID) (whole []objects.ID, err error) {
	b, err := db.NewBatch(ctx, BatchOptions{})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	for _, id := range trees {
		t, record, err := db.rawRecord(ctx, id)
		if err != nil || t != pack.Delta {
			continue
		}
		body, err := applyDelta(id, record, func(base objects.ID) ([]byte, error) { return objects.ReadKind(ctx, db, base, objects.Tree) })
		if err != nil {
			continue
		}
		db.bad.Store(id, true) // or the batch would take the delta for enough
		if err := b.putWhole(id, body); err != nil {
			return nil, err
		}
		whole = append(whole, id)
	}
	if len(whole) == 0 {
		return nil, nil
	}
	return whole, b.Commit(ctx, Durable)
}

// PacksOf returns the packs, by their file names without extension, that hold a
// record of one of ids.
func (db *DB) PacksOf(ids []objects.ID) ([]string, error) {
	s, _, err := db.refresh(db.set.Load())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range s.packs {
		x, err := db.open(p)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(ids, func(id objects.ID) bool { _, ok, err := x.Find(&id); return ok && err == nil }) {
			names = append(names, p.base)
		}
	}
	return names, nil
}
