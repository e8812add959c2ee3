package pack

import (
	"cmp"
	"errors"
	"io"
	"slices"
)

// Prune writes the index of a pack without the records that are damaged: those of
// blocks that can't be decoded, and those that do not hash to their ids. It
// returns how many they are. An error is about reading or writing, and not about
// damage.
//
// Rebuild does not do for that: it stops where it can't find the next block, and
// what is beyond would be lost with the damage.
func (x *Index) Prune(to io.Writer, f *File) (damaged int, err error) {
	entries := make([]indexed, 0, x.n)
	for id, e := range x.All() {
		entries = append(entries, indexed{id, e.Record | uint32(e.Type)<<28, e.Size})
	}
	if len(entries) != x.n {
		return 0, badIndex("it can't be read")
	}
	slices.SortFunc(entries, func(a, b indexed) int {
		return cmp.Compare(a.record&maxRecords, b.record&maxRecords)
	})
	var d Data
	var scratch []byte
	blocks := make([]BlockInfo, x.m)
	at, whole := -1, false
	good := entries[:0:0]
	for n := range blocks {
		if blocks[n], err = x.Block(n); err != nil {
			return 0, err
		}
	}
	for _, e := range entries {
		n, err := x.BlockOf(e.record & maxRecords)
		if err != nil {
			return 0, err
		}
		if n != at {
			at = n
			scratch, err = f.Read(blocks[n], &d, scratch)
			if err != nil && !errors.Is(err, ErrBadPack) {
				return 0, err
			}
			whole = err == nil
		}
		if whole && holds(&d, e, blocks[n].First) {
			good = append(good, e)
		}
	}
	return x.n - len(good), writeIndex(to, x.name, x.size, good, blocks, flagPruned)
}

// holds reports whether a block, whose first record is first, has the record
// that e is about.
func holds(d *Data, e indexed, first uint32) bool {
	i := int(e.record&maxRecords - first)
	if i >= d.Len() {
		return false
	}
	t, body := d.Record(i)
	id, err := RecordID(t, body)
	return err == nil && t == e.typ() && id == e.id && len(body) == int(e.size)
}

// Pruned reports whether damaged records were left out.
func (x *Index) Pruned() bool { return x.flags&flagPruned != 0 }
