package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"

	"github.com/cache-tool/cache-tool/objects"
)

// Salvage calls fn for every whole block in a pack of size bytes called name,
// however much of the pack is damaged. Where Scan has to stop it looks for the next
// block byte by byte: nothing else has the checksum of one. It needs neither header
// nor trailer. Blocks count their records from zero each. A pack of a later version
// is a *VersionError.
func Salvage(r io.ReaderAt, size int64, name objects.ID, fn func(b BlockInfo, d *Data) error) error {
	if err := checkNewer(r, size, name); err != nil {
		return err
	}
	s := salvager{r: r, size: size}
	for off := int64(headerSize); off < size; {
		info, err := s.block(off)
		switch {
		case err == nil:
			if err := fn(info, &s.data); err != nil {
				return err
			}
			off += int64(info.Size())
		case !errors.Is(err, ErrBadPack):
			return err
		default:
			if off, err = s.next(off + 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkNewer returns a *VersionError if a later cache-tool wrote the pack. If the
// rest of it hashes to its name with our version in it, the version is what is damaged.
func checkNewer(r io.ReaderAt, size int64, name objects.ID) error {
	var head [headerSize]byte
	if n, _ := r.ReadAt(head[:], 0); n < headerSize || size < headerSize+trailerSize {
		return nil
	}
	err := checkMagic(head[:], packMagic, "pack", ErrBadPack)
	if !errors.As(err, new(*VersionError)) {
		return nil
	}
	binary.BigEndian.PutUint32(head[4:], version)
	h := sha256.New()
	h.Write(head[:])
	if _, err := io.Copy(h, io.NewSectionReader(r, headerSize, size-headerSize-objects.IDSize)); err != nil {
		return err
	}
	if objects.ID(h.Sum(nil)) == name {
		return nil
	}
	return err
}

// A salvager reads what is left of a pack.
type salvager struct {
	r      io.ReaderAt
	size   int64
	data   Data
	stored []byte
	window []byte
}

// block reads the block at off; what is none is an ErrBadPack.
func (s *salvager) block(off int64) (info BlockInfo, err error) {
	var head [blockHeaderSize]byte
	if err := readFull(s.r, head[:], off); err != nil {
		return info, err
	}
	h, err := parseBlockHeader(head[:])
	if err == nil && off+int64(h.size()) > s.size {
		err = badPack("the block does not end in the pack")
	}
	if err != nil {
		return info, err
	}
	info = BlockInfo{Offset: off, Raw: uint32(h.raw), Stored: uint32(h.stored), Table: uint32(h.table)}
	if n := info.Size(); cap(s.stored) < n {
		s.stored = make([]byte, n) // the file is as long: see above
	} else {
		s.stored = s.stored[:n]
	}
	if err := readFull(s.r, s.stored, off); err != nil {
		return info, err
	}
	return info, s.data.Decode(s.stored)
}

// next returns where the next block may begin, from off on; the size of the pack
// if nowhere.
func (s *salvager) next(off int64) (int64, error) {
	const room = 64 << 10
	if s.window == nil {
		s.window = make([]byte, room)
	}
	for off+blockHeaderSize < s.size {
		n, err := s.r.ReadAt(s.window[:min(room, s.size-off)], off)
		if n < blockHeaderSize {
			return s.size, err
		}
		p := s.window[:n]
		for at := 0; at+blockHeaderSize <= n; at++ {
			i := bytes.IndexByte(p[at:], blockMark)
			if i < 0 || at+i+blockHeaderSize > n {
				break
			}
			at += i
			if h, err := parseBlockHeader(p[at:]); err == nil && off+int64(at)+int64(h.size()) <= s.size {
				return off + int64(at), nil
			}
		}
		off += int64(n - blockHeaderSize + 1)
	}
	return s.size, nil
}
