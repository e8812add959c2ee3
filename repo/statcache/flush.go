package statcache

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
)

const (
	inPlace  = 1024    // records that are written one by one; more make a new table
	minHomes = 1024    // of a new table
	maxAge   = 90      // days after which an unused slot is not copied to a new table
	most     = 4 << 20 // entries in a table; above it the least recently used go
)

// Flush writes what was recorded to the file. Other processes may do the same
// meanwhile; what one of them records can get lost, and nothing worse. A failed
// Flush changes nothing that matters: the caller may ignore it.
func (c *Cache) Flush(ctx context.Context) error {
	return c.flush(ctx, most)
}

func (c *Cache) flush(ctx context.Context, most int) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	if len(pending) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	today := dayOf(time.Now())
	if len(pending) <= inPlace {
		if done, err := writeInPlace(c.path, pending, today); done || err != nil {
			return wrap(c.path, err)
		}
	}
	return wrap(c.path, rewrite(ctx, c.path, pending, today, most))
}

func wrap(path string, err error) error {
	if err != nil {
		return fmt.Errorf("write stat cache %s: %w", path, err)
	}
	return nil
}

// writeInPlace writes the records over old or empty slots. It is not done if
// there is no table, or no room in it.
func writeInPlace(path string, records []record, today uint16) (done bool, err error) {
	t := openTable(path)
	if t.homes == 0 {
		return false, nil
	}
	defer t.close()
	f, err := durable.OpenUpdate(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Size() != fileSize(t.homes) {
		return false, err // replaced meanwhile
	}
	var slot []byte
	for _, r := range records {
		i, _ := t.place(r.tag)
		if i == t.len() {
			return false, nil
		}
		slot = appendSlot(slot[:0], r, today)
		if err := durable.WriteAt(f, slot, headerSize+int64(i)*slotSize); err != nil {
			return false, err
		}
	}
	return true, nil
}

// source says where the slot with a tag comes from: slot from of the old table,
// or, where from is negative, record -1-from.
type source struct {
	tag  uint64
	from int32
	day  uint16
}

// rewrite replaces the file by a new table that holds the records and what is
// still worth keeping of the old one.
func rewrite(ctx context.Context, path string, records []record, today uint16, most int) error {
	old := openTable(path)
	defer old.close()
	sources := collect(old, records, today)
	if len(sources) > most {
		sources = dropOldest(sources, most*3/4)
	}
	homes := uint64(max(minHomes, len(sources)+len(sources)/3))
	sources = byHome(sources, homes)
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := durable.Create(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer f.Abort()
	if err := writeTable(f, homes, sources, old, records); err != nil {
		return err
	}
	return f.CommitAs(path, durable.NoSync)
}

// collect lists the records, the newest first, and then what is in the old table.
func collect(old table, records []record, today uint16) []source {
	sources := make([]source, 0, len(records)+int(old.len())/2)
	for i := len(records) - 1; i >= 0; i-- {
		sources = append(sources, source{records[i].tag, int32(-1 - i), today})
	}
	for i := range old.len() {
		slot := old.slot(i)
		tag, day := slotTag(slot), slotDay(slot)
		if tag != 0 && today-day <= maxAge {
			sources = append(sources, source{tag, int32(i), day})
		}
	}
	return sources
}

// dropOldest keeps the n sources that were used last.
func dropOldest(sources []source, n int) []source {
	slices.SortStableFunc(sources, func(a, b source) int { return -cmp.Compare(a.day, b.day) })
	return sources[:n]
}

// byHome sorts sources by tag, and leaves those of one tag in their order. Tags
// are hashes, so hardly any two have the same home, and counting sorts them.
func byHome(sources []source, homes uint64) []source {
	ends := make([]int32, homes+1)
	for _, s := range sources {
		ends[home(s.tag, homes)+1]++
	}
	for i := range homes {
		ends[i+1] += ends[i]
	}
	sorted := make([]source, len(sources))
	for _, s := range sources {
		h := home(s.tag, homes)
		sorted[ends[h]] = s
		ends[h]++
	}
	for i, s := range sorted {
		for ; i > 0 && sorted[i-1].tag > s.tag; i-- {
			sorted[i] = sorted[i-1]
		}
		sorted[i] = s
	}
	return sorted
}

// writeTable writes a table from front to back. Of sources with the same tag
// the first one counts.
func writeTable(f *durable.File, homes uint64, sources []source, old table, records []record) error {
	const bufferSize = 1 << 20
	buffer := appendHeader(make([]byte, 0, bufferSize+slotSize), homes)
	next, last := uint64(0), uint64(0)
	put := func(slot []byte) error {
		buffer = append(buffer, slot...)
		next++
		if len(buffer) < bufferSize {
			return nil
		}
		_, err := f.Write(buffer)
		buffer = buffer[:0]
		return err
	}
	var empty [slotSize]byte
	var room []byte
	for _, s := range sources {
		first := home(s.tag, homes)
		if s.tag == last || next >= first+reach {
			continue // an older one, or no room: a miss is no harm
		}
		last = s.tag
		for next < first {
			if err := put(empty[:]); err != nil {
				return err
			}
		}
		if s.from < 0 {
			room = appendSlot(room[:0], records[-1-s.from], s.day)
		} else {
			room = append(room[:0], old.slot(uint64(s.from))...)
		}
		if err := put(room); err != nil {
			return err
		}
	}
	for next < homes+reach-1 {
		if err := put(empty[:]); err != nil {
			return err
		}
	}
	_, err := f.Write(buffer)
	return err
}
