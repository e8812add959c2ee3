package pack

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
)

// indexed is an entry of an index: an id and its location, as in the file.
type indexed struct {
	id     objects.ID
	record uint32 // and the type in the upper 4 bits
	size   uint32
}

func (e *indexed) typ() Type { return Type(e.record >> 28) }

// WriteIndex writes the index of a finished pack called name to w.
func (w *Writer) WriteIndex(to io.Writer, name objects.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return writeIndex(to, name, w.size, w.entries, w.blocks, 0)
}

// writeIndex sorts entries. Of several with one id it keeps the first record
// that is no delta: a tree that others are deltas of must stay whole.
func writeIndex(to io.Writer, name objects.ID, size int64, entries []indexed, blocks []BlockInfo, flags uint32) error {
	slices.SortFunc(entries, func(a, b indexed) int {
		if c := bytes.Compare(a.id[:], b.id[:]); c != 0 {
			return c
		}
		if aDelta, bDelta := a.typ() == Delta, b.typ() == Delta; aDelta != bDelta {
			if aDelta {
				return 1
			}
			return -1
		}
		return int(a.record&maxRecords) - int(b.record&maxRecords)
	})
	entries = slices.CompactFunc(entries, func(a, b indexed) bool { return a.id == b.id })

	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(to, sum), 64<<10)
	_, _ = out.Write(indexHead(name, size, entries, len(blocks), flags)) // bufio keeps the error for Flush
	for i := range entries {
		_, _ = out.Write(entries[i].id[:])
	}
	for i := range entries {
		loc := binary.BigEndian.AppendUint32(out.AvailableBuffer(), entries[i].record)
		_, _ = out.Write(binary.BigEndian.AppendUint32(loc, entries[i].size))
	}
	for _, b := range blocks {
		p := binary.BigEndian.AppendUint64(out.AvailableBuffer(), uint64(b.Offset))
		for _, n := range [...]uint32{b.First, b.Raw, b.Stored, b.Table} {
			p = binary.BigEndian.AppendUint32(p, n)
		}
		_, _ = out.Write(p)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := to.Write(sum.Sum(nil))
	return err
}

// indexHead returns the fixed part of an index, up to its checksum.
func indexHead(name objects.ID, size int64, entries []indexed, blocks int, flags uint32) []byte {
	var fan [256]uint32
	for i := range entries {
		fan[entries[i].id[0]]++
		if entries[i].typ().IsMeta() {
			flags |= flagMeta
		} else {
			flags |= flagData
		}
	}
	p := append(make([]byte, 0, indexHeadSize), indexMagic...)
	p = binary.BigEndian.AppendUint32(p, version)
	p = binary.BigEndian.AppendUint32(p, flags)
	p = binary.BigEndian.AppendUint32(p, uint32(len(entries)))
	p = binary.BigEndian.AppendUint32(p, uint32(blocks))
	p = binary.BigEndian.AppendUint64(p, uint64(size))
	p = append(p, name[:]...)
	total := uint32(0)
	for _, n := range fan {
		total += n
		p = binary.BigEndian.AppendUint32(p, total)
	}
	return binary.BigEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}
