package statcache

import (
	"encoding/binary"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"
)

// table is the slots of an open file, or nothing.
type table struct {
	mapped []byte // the file; other processes write to it
	slots  []byte // the part of it after the header
	homes  uint64 // 0: there is no table
}

// openTable maps the file path. What is no whole table is an empty one. The
// mapping lasts as long as the process.
func openTable(path string) table {
	f, err := os.Open(path)
	if err != nil {
		return table{}
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return table{}
	}
	var head [headerSize]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return table{}
	}
	homes, ok := parseHeader(head[:], fi.Size())
	if !ok {
		return table{}
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return table{}
	}
	return table{mapped: data, slots: data[headerSize:], homes: homes}
}

// parseHeader returns the number of home slots of a table of size bytes.
func parseHeader(head []byte, size int64) (homes uint64, ok bool) {
	homes = binary.LittleEndian.Uint64(head[8:])
	ok = string(head[:4]) == magic && binary.LittleEndian.Uint32(head[4:]) == version &&
		homes > 0 && homes < 1<<32 && size == fileSize(homes)
	return homes, ok
}

func appendHeader(dst []byte, homes uint64) []byte {
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, version)
	dst = binary.LittleEndian.AppendUint64(dst, homes)
	return append(dst, make([]byte, headerSize-16)...)
}

// fileSize returns the size of a table: reach-1 slots follow the last home.
func fileSize(homes uint64) int64 { return headerSize + int64(homes+reach-1)*slotSize }

// home returns the first slot where tag may be. It grows with the tag, so a
// table sorted by tags can be written from front to back.
func home(tag, homes uint64) uint64 {
	hi, _ := bits.Mul64(tag<<16, homes)
	return hi
}

func slotTag(slot []byte) uint64 { return binary.LittleEndian.Uint64(slot) >> 16 }
func slotDay(slot []byte) uint16 { return binary.LittleEndian.Uint16(slot) }

func appendSlot(dst []byte, r record, day uint16) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, r.tag<<16|uint64(day))
	dst = binary.LittleEndian.AppendUint64(dst, r.fingerprint)
	return append(dst, r.id[:]...)
}

// slot returns slot i.
func (t table) slot(i uint64) []byte { return t.slots[i*slotSize:][:slotSize] }

// len returns the number of slots.
func (t table) len() uint64 { return uint64(len(t.slots)) / slotSize }

// find returns the slot with this tag.
func (t table) find(tag uint64) ([]byte, bool) {
	i, found := t.place(tag)
	if !found {
		return nil, false
	}
	return t.slot(i), true
}

// place returns the slot with this tag, or, if it has none, the one where it
// would go: t.len() if there is no room.
func (t table) place(tag uint64) (i uint64, found bool) {
	if t.homes == 0 {
		return 0, false
	}
	first := home(tag, t.homes)
	for i := first; i < first+reach; i++ {
		switch slotTag(t.slot(i)) {
		case tag:
			return i, true
		case 0:
			return i, false
		}
	}
	return t.len(), false
}

// close takes the mapping away. Open tables are not closed: a Lookup may be
// under way.
func (t table) close() {
	if t.homes != 0 {
		_ = unix.Munmap(t.mapped)
	}
}
