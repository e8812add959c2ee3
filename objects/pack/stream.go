package pack

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
)

// A Stream reads a pack that somebody sends, from front to back, and takes no
// more memory than arrives. It may be read by one goroutine.
type Stream struct {
	r               io.Reader
	sum             hash.Hash
	off             int64
	blocks, records int
	err             error
}

// NewStream returns the pack that r brings.
func NewStream(r io.Reader) *Stream { return &Stream{r: r, sum: sha256.New()} }

// Next returns the next block as it stands in the pack, in buf, which grows as
// needed. Its checksum is not looked at. The end is io.EOF: then the pack is
// whole and its own checksum is right.
func (s *Stream) Next(buf []byte) ([]byte, error) {
	if s.err != nil {
		return buf[:0], s.err
	}
	block, err := s.next(buf[:0])
	if err != nil && err != io.EOF {
		err = fmt.Errorf("pack at offset %d: %w", s.off, err)
	}
	s.err = err
	return block, err
}

func (s *Stream) next(buf []byte) ([]byte, error) {
	var err error
	if s.off == 0 {
		if buf, err = s.read(buf, headerSize); err != nil {
			return buf, err
		}
		if err := checkMagic(buf, packMagic, "pack", ErrBadPack); err != nil {
			return buf, err
		}
		buf = buf[:0]
	}
	// What comes next is as long as this at least, be it a block or the trailer.
	if buf, err = s.read(buf, trailerSize-objects.IDSize); err != nil {
		return buf, err
	}
	if buf[0] == trailerMark {
		return buf[:0], s.end(buf)
	}
	if buf, err = s.read(buf, blockHeaderSize-len(buf)); err != nil {
		return buf, err
	}
	h, err := parseBlockHeader(buf)
	if err != nil {
		return buf, err
	}
	if s.blocks, s.records = s.blocks+1, s.records+h.records; s.records > maxRecords {
		return buf, badPack("more than %d records", maxRecords)
	}
	return s.read(buf, h.size()-blockHeaderSize)
}

// end proves the trailer, of which all but the name is in head.
func (s *Stream) end(head []byte) error {
	var sum objects.ID
	s.sum.Sum(sum[:0])
	whole, err := s.read(head, objects.IDSize)
	if err != nil {
		return err
	}
	t, err := parseTrailer(whole)
	switch {
	case err != nil:
		return err
	case t.blocks != s.blocks || t.records != s.records:
		return badPack("%d records in %d blocks, its trailer says %d in %d", s.records, s.blocks, t.records, t.blocks)
	case t.name != sum:
		return badPack("wrong checksum")
	}
	return io.EOF
}

// read appends n bytes to buf.
func (s *Stream) read(buf []byte, n int) ([]byte, error) {
	const step = 1 << 20
	for n > 0 {
		have := len(buf)
		m := min(n, max(step, have))
		buf = slices.Grow(buf, m)[:have+m]
		got, err := io.ReadFull(s.r, buf[have:])
		s.off += int64(got)
		s.sum.Write(buf[have : have+got])
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return buf, badPack("%w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return buf, err
		}
		n -= m
	}
	return buf, nil
}
