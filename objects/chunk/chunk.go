// Package chunk cuts big blobs into chunks where their content says so, so that
// an insertion moves the cuts near it and no others, and versions of a binary
// share most of their chunks.
//
// A cut is where a hash of the 64 bytes before it begins with enough zero bits.
// The hash is a gear hash, h = h<<1 + gear[byte], which forgets a byte after 64
// steps. No chunk is shorter than half the normal size (but the last of a blob)
// or longer than four times that. Up to the normal size more zero bits are wanted
// than beyond, which brings most chunks near it (as in FastCDC, Xia et al., 2016).
//
// Where the cuts lie is no part of any id, yet it must not change: chunks of the
// same blob cut in another way share nothing with what is stored. A test pins it.
package chunk

import (
	"encoding/binary"
	"math/bits"
)

// Threshold is the size from which on a blob is stored in chunks.
const Threshold = 512 << 10

// The normal sizes of chunks, by the size of the blob. Each chunk costs some 75
// bytes in indexes and recipes. Binaries of many megabytes earn that back, as
// one build of them is much like the next; smaller files barely do.
const (
	normalSmall = 32 << 10
	normalHuge  = 8 << 10   // from hugeFrom on
	normalVast  = 256 << 10 // from vastFrom on, so that recipes stay handy

	hugeFrom = 16 << 20
	vastFrom = 8 << 30
)

// A Cutter cuts blobs of a certain size.
type Cutter struct {
	min, normal, max int
	early, late      uint64 // below this the hash must be for a cut, up to normal and beyond
}

// For returns the cutter for blobs of size bytes.
func For(size int64) Cutter {
	normal := normalSmall
	switch {
	case size >= vastFrom:
		normal = normalVast
	case size >= hugeFrom:
		normal = normalHuge
	}
	zeros := bits.Len(uint(normal)) - 1
	return Cutter{
		min: normal / 2, normal: normal, max: 4 * normal,
		early: 1 << (64 - (zeros + 2)), late: 1 << (64 - (zeros - 2)),
	}
}

// Max returns the size of the longest chunk.
func (c Cutter) Max() int { return c.max }

// window is how many bytes the hash remembers.
const window = 64

// gear holds one random number for each byte: SplitMix64, from a fixed seed.
var gear = func() (t [256]uint64) {
	x := uint64(0x9E3779B97F4A7C15)
	for i := range t {
		x += 0x9E3779B97F4A7C15
		z := x
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		t[i] = z ^ z>>31
	}
	return t
}()

// Cut returns the length of the first chunk of p, which must begin where a
// chunk does and hold either c.Max() bytes or all that is left of the blob. It is
// never zero unless p is empty.
func (c Cutter) Cut(p []byte) int {
	if len(p) <= c.min {
		return len(p)
	}
	p = p[:min(len(p), c.max)]
	normal := min(len(p), c.normal)
	if n := scan(p[:normal], c.min, c.early); n >= 0 {
		return n
	}
	if n := scan(p, normal, c.late); n >= 0 {
		return n
	}
	return len(p)
}

// scan returns the first n > from where the hash of the window before p[n] is
// below limit, or -1. It is unrolled: every byte of every big blob passes here.
func scan(p []byte, from int, limit uint64) int {
	var h uint64
	for _, b := range p[from-window : from] {
		h = h<<1 + gear[b]
	}
	q := p[from:]
	i := 0
	for ; len(q)-i >= 8; i += 8 {
		v := binary.LittleEndian.Uint64(q[i:])
		if h = h<<1 + gear[byte(v)]; h < limit {
			return from + i + 1
		}
		if h = h<<1 + gear[byte(v>>8)]; h < limit {
			return from + i + 2
		}
		if h = h<<1 + gear[byte(v>>16)]; h < limit {
			return from + i + 3
		}
		if h = h<<1 + gear[byte(v>>24)]; h < limit {
			return from + i + 4
		}
		if h = h<<1 + gear[byte(v>>32)]; h < limit {
			return from + i + 5
		}
		if h = h<<1 + gear[byte(v>>40)]; h < limit {
			return from + i + 6
		}
		if h = h<<1 + gear[byte(v>>48)]; h < limit {
			return from + i + 7
		}
		if h = h<<1 + gear[v>>56]; h < limit {
			return from + i + 8
		}
	}
	for ; i < len(q); i++ {
		if h = h<<1 + gear[q[i]]; h < limit {
			return from + i + 1
		}
	}
	return -1
}
