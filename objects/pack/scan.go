package pack

import (
	"errors"
	"fmt"
	"io"

	"github.com/cache-tool/cache-tool/objects"
)

// Scan reads a pack of size bytes from front to back, without an index, and
// calls fn for each block. A block that cannot be decoded comes with an error
// and no data; fn decides whether that ends the scan by returning it. What
// comes after a head that makes no sense cannot be found: that ends the scan.
func Scan(r io.ReaderAt, size int64, fn func(b BlockInfo, d *Data, err error) error) error {
	var buf [trailerSize]byte
	head := buf[:headerSize]
	if err := readFull(r, head, 0); err != nil {
		return err
	}
	if err := checkMagic(head, packMagic, "pack", ErrBadPack); err != nil {
		return err
	}
	var d Data
	var stored []byte
	blocks, records := 0, 0
	off := int64(headerSize)
	for off < size-trailerSize {
		head := buf[:blockHeaderSize]
		if err := readFull(r, head, off); err != nil {
			return err
		}
		h, err := parseBlockHeader(head)
		if err == nil && (off+int64(h.size()) > size-trailerSize || records+h.records > maxRecords) {
			err = badPack("the block does not end in the pack")
		}
		if err != nil {
			return fmt.Errorf("block at offset %d: %w", off, err)
		}
		info := BlockInfo{off, uint32(records), uint32(h.raw), uint32(h.stored), uint32(h.table)}
		if n := info.Size(); cap(stored) < n {
			stored = make([]byte, n) // the file is as long: see above
		} else {
			stored = stored[:n]
		}
		if err := readFull(r, stored, off); err != nil {
			return err
		}
		if bad := d.Decode(stored); bad != nil {
			err = fn(info, nil, fmt.Errorf("block at offset %d: %w", off, bad))
		} else {
			err = fn(info, &d, nil)
		}
		if err != nil {
			return err
		}
		blocks, records, off = blocks+1, records+h.records, off+int64(h.size())
	}
	if err := readFull(r, buf[:], off); err != nil {
		return err
	}
	t, err := parseTrailer(buf[:])
	if err != nil {
		return err
	}
	if t.blocks != blocks || t.records != records || off != size-trailerSize {
		return badPack("%d records in %d blocks, its trailer says %d in %d", records, blocks, t.records, t.blocks)
	}
	return nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return badPack("%w", io.ErrUnexpectedEOF)
	}
	return err
}

// A Measure says what it takes to read a pack.
type Measure struct {
	Raw     int64 // bytes of all payloads, decompressed
	Largest int   // bytes of the block that needs most, as stored and decompressed
}

// Weigh reads the heads of the blocks in a pack of size bytes, and nothing else:
// so one learns how much memory and time the rest would take, before one takes
// it. Scan and Stream hold the blocks to what their heads say.
func Weigh(r io.ReaderAt, size int64) (m Measure, err error) {
	var buf [blockHeaderSize]byte
	if err := readFull(r, buf[:headerSize], 0); err != nil {
		return m, err
	}
	if err := checkMagic(buf[:headerSize], packMagic, "pack", ErrBadPack); err != nil {
		return m, err
	}
	for off := int64(headerSize); off < size-trailerSize; {
		if err := readFull(r, buf[:], off); err != nil {
			return m, err
		}
		h, err := parseBlockHeader(buf[:])
		if err != nil {
			return m, fmt.Errorf("block at offset %d: %w", off, err)
		}
		m.Raw += int64(h.raw)
		m.Largest = max(m.Largest, h.raw+h.size())
		off += int64(h.size())
	}
	return m, nil
}

// RecordID returns the id of a record. Of recipes and deltas it is what they
// claim to stand for; of all others, what they are.
func RecordID(t Type, body []byte) (objects.ID, error) {
	switch t {
	case Chunk:
		return objects.SumChunk(body), nil
	case Recipe, Delta:
		var id objects.ID
		if copy(id[:], body) < len(id) {
			return id, badPack("a %s of %d bytes", t, len(body))
		}
		return id, nil
	}
	return objects.Sum(t.Kind(), body), nil
}

// Rebuild writes the index of a pack of size bytes called name, made from the
// pack alone. Blocks that are damaged are left out, and so is what follows when
// the next one can't be found; damaged says what was. err is about writing.
func Rebuild(to io.Writer, r io.ReaderAt, size int64, name objects.ID) (damaged, err error) {
	var entries []indexed
	var blocks []BlockInfo
	var bad []error
	err = Scan(r, size, func(b BlockInfo, d *Data, err error) error {
		blocks = append(blocks, b)
		if err != nil {
			bad = append(bad, err)
			return nil
		}
		for i := range d.Len() {
			t, body := d.Record(i)
			id, err := RecordID(t, body)
			if err != nil {
				bad = append(bad, err)
				continue
			}
			entries = append(entries, indexed{id, b.First + uint32(i) | uint32(t)<<28, uint32(len(body))})
		}
		return nil
	})
	if err != nil {
		bad = append(bad, err)
	}
	if errors.As(err, new(*VersionError)) {
		return nil, err
	}
	return errors.Join(bad...), writeIndex(to, name, size, entries, blocks, 0)
}
