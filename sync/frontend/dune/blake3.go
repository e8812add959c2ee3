package dune

import (
	"encoding/binary"
	"math/bits"
)

// A blake3 computes the BLAKE3 hash of what is written to it, in plain Go: three
// quarters as fast as MD5, which other versions of Dune have in its place. Modules
// that are faster ask the processor what it can do whenever the program starts. On
// a virtual machine that is 0.3 ms, a tenth of what a hit of `run` takes.
//
// Source: the BLAKE3 paper, section 5.1, and its reference implementation.
type blake3 struct {
	// The chunk that is being hashed. Its last block waits in buf until there is
	// more: only then is it known not to be the last.
	cv     [8]uint32
	count  uint64 // chunks before it
	blocks int    // of it that are in cv
	buf    [blockSize]byte
	n      int // bytes in buf

	// The roots of the subtrees that are complete, the biggest first.
	stack [54][8]uint32
	depth int
}

const (
	blockSize      = 64
	blocksPerChunk = 16

	flagStart  = 1 << 0 // of a chunk
	flagEnd    = 1 << 1
	flagParent = 1 << 2
	flagRoot   = 1 << 3
)

var blakeIV = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

func newBlake3() *blake3 { return &blake3{cv: blakeIV} }

// Write adds p. It never fails.
func (h *blake3) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if h.n == blockSize {
			h.compressBlock(&h.buf)
			h.n = 0
		}
		if h.n == 0 {
			for len(p) > blockSize && h.blocks < blocksPerChunk-1 {
				h.compressBlock((*[blockSize]byte)(p))
				p = p[blockSize:]
			}
		}
		n := copy(h.buf[h.n:], p)
		h.n += n
		p = p[n:]
	}
	return written, nil
}

// compressBlock takes in a block that is not the last one of all.
func (h *blake3) compressBlock(block *[blockSize]byte) {
	m := blockWords(block)
	h.blocks++
	if h.blocks < blocksPerChunk {
		h.cv = first8(compress(&h.cv, &m, h.count, blockSize, h.startFlag()))
		return
	}
	cv := first8(compress(&h.cv, &m, h.count, blockSize, flagEnd))
	h.count++
	// Each trailing zero of the number of chunks is a subtree that is complete now.
	for range bits.TrailingZeros64(h.count) {
		h.depth--
		cv = first8(compress(&blakeIV, pair(&h.stack[h.depth], &cv), 0, blockSize, flagParent))
	}
	h.stack[h.depth] = cv
	h.depth++
	h.cv, h.blocks = blakeIV, 0
}

// startFlag is for the block that was counted last.
func (h *blake3) startFlag() uint32 {
	if h.blocks == 1 {
		return flagStart
	}
	return 0
}

// sum returns the first 128 bits of the hash.
func (h *blake3) sum() Digest {
	end := *h
	end.blocks++
	clear(end.buf[end.n:])
	m := blockWords(&end.buf)
	cv, count, size, flags := end.cv, end.count, uint32(end.n), end.startFlag()|flagEnd
	for i := end.depth - 1; i >= 0; i-- {
		last := first8(compress(&cv, &m, count, size, flags))
		m = *pair(&end.stack[i], &last)
		cv, count, size, flags = blakeIV, 0, blockSize, flagParent
	}
	out := compress(&cv, &m, count, size, flags|flagRoot)
	var d Digest
	for i := range len(d) / 4 {
		binary.LittleEndian.PutUint32(d[4*i:], out[i])
	}
	return d
}

func blockWords(p *[blockSize]byte) (m [16]uint32) {
	for i := range m {
		m[i] = binary.LittleEndian.Uint32(p[4*i:])
	}
	return m
}

func first8(s [16]uint32) [8]uint32 { return [8]uint32(s[:8]) }

func pair(left, right *[8]uint32) *[16]uint32 {
	var m [16]uint32
	copy(m[:8], left[:])
	copy(m[8:], right[:])
	return &m
}

// compress is the function that all of the hash is made of: seven rounds of eight
// steps, each of which mixes two words of the block into four of the state.
func compress(cv *[8]uint32, m *[16]uint32, count uint64, size, flags uint32) [16]uint32 {
	s0, s1, s2, s3, s4, s5, s6, s7 := cv[0], cv[1], cv[2], cv[3], cv[4], cv[5], cv[6], cv[7]
	s8, s9, s10, s11 := blakeIV[0], blakeIV[1], blakeIV[2], blakeIV[3]
	s12, s13, s14, s15 := uint32(count), uint32(count>>32), size, flags
	s0, s4, s8, s12 = mix(s0, s4, s8, s12, m[0], m[1])
	s1, s5, s9, s13 = mix(s1, s5, s9, s13, m[2], m[3])
	s2, s6, s10, s14 = mix(s2, s6, s10, s14, m[4], m[5])
	s3, s7, s11, s15 = mix(s3, s7, s11, s15, m[6], m[7])
	s0, s5, s10, s15 = mix(s0, s5, s10, s15, m[8], m[9])
	s1, s6, s11, s12 = mix(s1, s6, s11, s12, m[10], m[11])
	s2, s7, s8, s13 = mix(s2, s7, s8, s13, m[12], m[13])
	s3, s4, s9, s14 = mix(s3, s4, s9, s14, m[14], m[15])
	s0, s4, s8, s12 = mix(s0, s4, s8, s12, m[2], m[6])
	s1, s5, s9, s13 = mix(s1, s5, s9, s13, m[3], m[10])
	s2, s6, s10, s14 = mix(s2, s6, s10, s14, m[7], m[0])
	s3, s7, s11, s15 = mix(s3, s7, s11, s15, m[4], m[13])
	s0, s5, s10, s15 = mix(s0, s5, s10, s15, m[1], m[11])
	s1, s6, s11, s12 = mix(s1, s6, s11, s12, m[12], m[5])
	s2, s7, s8, s13 = mix(s2, s7, s8, s13, m[9], m[14])
	s3, s4, s9, s14 = mix(s3, s4, s9, s14, m[15], m[8])
	s0, s4, s8, s12 = mix(s0, s4, s8, s12, m[3], m[4])
	s1, s5, s9, s13 = mix(s1, s5, s9, s13, m[10], m[12])
	s2, s6, s10, s14 = mix(s2, s6, s10, s14, m[13], m[2])
	s3, s7, s11, s15 = mix(s3, s7, s11, s15, m[7], m[14])
	s0, s5, s10, s15 = mix(s0, s5, s10, s15, m[6], m[5])
	s1, s6, s11, s12 = mix(s1, s6, s11, s12, m[9], m[0])
	s2, s7, s8, s13 = mix(s2, s7, s8, s13, m[11], m[15])
	s3, s4, s9, s14 = mix(s3, s4, s9, s14, m[8], m[1])
	s0, s4, s8, s12 = mix(s0, s4, s8, s12, m[10], m[7])
	s1, s5, s9, s13 = mix(s1, s5, s9, s13, m[12], m[9])
	s2, s6, s10, s14 = mix(s2, s6, s10, s14, m[14], m[3])
	s3, s7, s11, s15 = mix(s3, s7, s11, s15, m[13], m[15])
	s0, s5, s10, s15 = mix(s0, s5, s10, s15, m[4], m[0])
	s1, s6, s11, s12 = mix(s1, s6, s11, s12, m[11], m[2])
	s2, s7, s8, s13 = mix(s2, s7, s8, s13, m[5], m[8])
	s3, s4, s9, s14 = mix(s3, s4, s9, s14, m[1], m[6])
	s0, s4, s8, s12 = mix(s0, s4, s8, s12, m[12], m[13])
	s1, s5, s9, s13 = mix(s1, s5, s9, s13, m[9], m[11])
	s2, s6, s10, s14 = mix(s2, s6, s10, s14, m[15], m[10])
	s3, s7, s11, s15 = mix(s3, s7, s11, s15, m[14], m[8])
	s0, s5, s10, s15 = mix(s0, s5, s10, s15, m[7], m[2])
	s1, s6, s11, s12 = mix(s1, s6, s11, s12, m[5], m[3])
	s2, s7, s8, s13 = mix(s2, s7, s8, s13, m[0], m[1])
	s3, s4, s9, s14 = mix(s3, s4, s9, s14, m[6], m[4])
	s0, s4, s8, s12 = mix(s0, s4, s8, s12, m[9], m[14])
	s1, s5, s9, s13 = mix(s1, s5, s9, s13, m[11], m[5])
	s2, s6, s10, s14 = mix(s2, s6, s10, s14, m[8], m[12])
	s3, s7, s11, s15 = mix(s3, s7, s11, s15, m[15], m[1])
	s0, s5, s10, s15 = mix(s0, s5, s10, s15, m[13], m[3])
	s1, s6, s11, s12 = mix(s1, s6, s11, s12, m[0], m[10])
	s2, s7, s8, s13 = mix(s2, s7, s8, s13, m[2], m[6])
	s3, s4, s9, s14 = mix(s3, s4, s9, s14, m[4], m[7])
	s0, s4, s8, s12 = mix(s0, s4, s8, s12, m[11], m[15])
	s1, s5, s9, s13 = mix(s1, s5, s9, s13, m[5], m[0])
	s2, s6, s10, s14 = mix(s2, s6, s10, s14, m[1], m[9])
	s3, s7, s11, s15 = mix(s3, s7, s11, s15, m[8], m[6])
	s0, s5, s10, s15 = mix(s0, s5, s10, s15, m[14], m[10])
	s1, s6, s11, s12 = mix(s1, s6, s11, s12, m[2], m[12])
	s2, s7, s8, s13 = mix(s2, s7, s8, s13, m[3], m[4])
	s3, s4, s9, s14 = mix(s3, s4, s9, s14, m[7], m[13])
	return [16]uint32{s0 ^ s8, s1 ^ s9, s2 ^ s10, s3 ^ s11, s4 ^ s12, s5 ^ s13, s6 ^ s14, s7 ^ s15}
}

func mix(a, b, c, d, x, y uint32) (uint32, uint32, uint32, uint32) {
	a += b + x
	d = bits.RotateLeft32(d^a, -16)
	c += d
	b = bits.RotateLeft32(b^c, -12)
	a += b + y
	d = bits.RotateLeft32(d^a, -8)
	c += d
	b = bits.RotateLeft32(b^c, -7)
	return a, b, c, d
}
