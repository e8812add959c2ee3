package bucket

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A table is the index of all packs of a root, on this machine: it is read over and
// over, from front to back.
type table struct {
	*index
	body  *spool
	of    []IndexInfo // the indexes that it was made of
	facts []*fact     // by number of the pack
}

// A fact is what is known of a pack.
type fact struct {
	name PackName
	info PackInfo

	pinned bool // it stays
	victim bool // it goes

	entries int   // its records
	total   int64 // bytes of them
	alive   int64 // of those that it is kept for
	wanted  int   // records that are to be copied
}

// tableOf makes the table of a root. Of indexes that an earlier table was made of
// nothing is read again.
func (r *Remote) tableOf(ctx context.Context, v *view, before *table) (*table, error) {
	m := merge{live: v.Packs}
	defer m.close()
	if before != nil {
		m.add(before.index, before.reader(), nil)
	}
	for _, info := range v.Indexes {
		if before != nil && slices.Contains(before.of, info) {
			continue
		}
		if err := m.open(ctx, r, info); err != nil {
			return nil, fmt.Errorf("%s: %w", info.file(), err)
		}
	}
	body, err := m.write()
	if err != nil {
		return nil, err
	}
	t := &table{body: body, of: slices.Clone(v.Indexes)}
	if t.index, err = newIndex(body.info, body.head); err != nil {
		body.close()
		return nil, err
	}
	known := map[PackName]bool{}
	for _, name := range t.packs {
		t.facts = append(t.facts, &fact{name: name, info: v.Packs[name]})
		known[name] = true
	}
	for name, info := range v.Packs {
		if !known[name] { // nobody can find what is in it
			t.facts = append(t.facts, &fact{name: name, info: info})
		}
	}
	return t, nil
}

// inOrder compares where copies are: old packs before new ones, so that what belongs
// together stays so when it is copied.
func (t *table) inOrder(a, b entry) int {
	p, q := t.pack(a), t.pack(b)
	if p != q {
		return cmp.Or(p.info.Time.Compare(q.info.Time), cmp.Compare(a.block, b.block))
	}
	return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.record(), b.record()))
}

func (t *table) close() { t.body.close() }

func (t *table) reader() io.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(t.body, t.index.info.Head, int64(t.n)*entrySize), 256<<10)
}

// each calls fn for each id, in order, with all copies of it. It may keep nothing of
// them.
func (t *table) each(ctx context.Context, fn func(id objects.ID, copies []entry) error) error {
	in := t.reader()
	var buf [entrySize]byte
	var copies []entry
	for i := range t.n {
		if i%(1<<16) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := io.ReadFull(in, buf[:]); err != nil {
			return err
		}
		e := parseEntry(buf[:])
		if int64(e.block) >= int64(len(t.blocks)) {
			return badIndex("an id in block %d of %d", e.block, len(t.blocks))
		}
		if len(copies) > 0 && copies[0].id != e.id {
			if err := fn(copies[0].id, copies); err != nil {
				return err
			}
			copies = copies[:0]
		}
		copies = append(copies, e)
	}
	if len(copies) == 0 {
		return nil
	}
	return fn(copies[0].id, copies)
}

// pack returns what is known of the pack that has a copy.
func (t *table) pack(e entry) *fact { return t.facts[t.blocks[e.block].pack] }

// spot returns where the block of a copy is.
func (t *table) spot(e entry) spot {
	b := t.blocks[e.block]
	return spot{t.packs[b.pack], b.off}
}

// isMadeOfParts reports whether a copy is worth nothing without others.
func (e entry) isMadeOfParts() bool { return e.typ() == pack.Recipe || e.typ() == pack.Delta }

// copyKey tells a copy of an object from all others, in a reach.Set, which looks at
// the first half of an id.
func (t *table) copyKey(e entry) objects.ID {
	key := e.id
	nonce := t.pack(e).name.Nonce
	for i := range 8 {
		key[8+i] ^= byte(nonce >> (8 * i))
	}
	return key
}

// isBad reports whether a copy is known not to be readable.
func (c *collection) isBad(e entry) bool {
	if !c.anyBad {
		return false
	}
	sound, known := c.sound[c.t.spot(e)]
	return known && !sound || c.bad.Has(c.t.copyKey(e))
}

// fit returns those of the copies that may stand for the object: not what is made of
// parts if there is one that is whole.
func (c *collection) fit(copies []entry) (fit []entry) {
	if len(copies) == 1 && !c.anyBad {
		return copies
	}
	whole := slices.ContainsFunc(copies, func(e entry) bool { return !e.isMadeOfParts() && !c.isBad(e) })
	for _, e := range copies {
		if !c.isBad(e) && !(whole && e.isMadeOfParts()) {
			fit = append(fit, e)
		}
	}
	return fit
}

// eachBlock reads the blocks of some entries, which it sorts, and calls fn for each,
// with those that are in it; with no block if that is damaged or gone.
func (c *collection) eachBlock(ctx context.Context, entries []entry, fn func(stored []byte, of []entry) error) error {
	t := c.t
	slices.SortFunc(entries, func(a, b entry) int { return t.inOrder(a, b) })
	var blocks []wanted
	for i, e := range entries {
		if i == 0 || e.block != entries[i-1].block {
			blocks = append(blocks, wanted{spot: t.spot(e), size: int64(t.blocks[e.block].size)})
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{r: c.r}
	defer f.readers.Wait()
	defer cancel()
	next := f.read(ctx, ranges(blocks))
	for {
		part, ok := next()
		if !ok {
			return ctx.Err()
		}
		for _, b := range part.blocks {
			n := 1
			for n < len(entries) && entries[n].block == entries[0].block {
				n++
			}
			stored, err := c.block(ctx, part, b)
			if err == nil {
				err = fn(stored, entries[:n])
			}
			if err != nil {
				return err
			}
			entries = entries[n:]
		}
	}
}

// block returns a block of what was read, if its checksum is right. It is damage, too,
// if the file is gone though the root names it.
func (c *collection) block(ctx context.Context, part contents, b wanted) (stored []byte, err error) {
	switch {
	case part.err == nil:
		stored = part.data[b.off-part.off:][:b.size]
	case len(part.blocks) > 1:
		stored, err = c.r.read(ctx, b.pack.file(), b.off, b.size)
	default:
		err = part.err
	}
	if err == nil {
		_, err = pack.CheckBlock(stored)
	}
	if errors.Is(err, remote.ErrNotFound) {
		now, failed := c.r.load(ctx)
		if failed != nil {
			return nil, failed
		}
		if _, live := now.Packs[b.pack]; !live {
			return nil, errCollected
		}
	}
	if err != nil && !isDamage(err) {
		return nil, err
	}
	if c.sound[b.spot] = err == nil; err != nil {
		c.anyBad = true
		return nil, nil
	}
	return stored, nil
}

// errCollected says that somebody else collects, and was faster.
var errCollected = errors.New("the pack is gone")

// isDamage reports whether to read a pack again would bring the same.
func isDamage(err error) bool {
	return errors.Is(err, remote.ErrNotFound) || errors.Is(err, pack.ErrBadPack) || errors.Is(err, io.ErrUnexpectedEOF)
}
