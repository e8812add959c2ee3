// Package chunk cuts big blobs into chunks where their content says so, so that
// an insertion moves the cuts near it and no others, and versions of a binary
// share most of their chunks.
//
// A cut is where a hash of the 64 bytes before it begins with enough zero bits.
// The hash is a gear hash: h = h<<1 + gear[byte], which forgets a byte after 64
// steps. No chunk is shorter than Min (but the last of a blob) or longer than
// Max. Before Normal bytes more zero bits are wanted than after, which brings
// most chunks near that size (as in FastCDC, Xia et al., 2016).
//
// Where the cuts lie is no part of any id, yet it must not change: chunks of the
// same blob cut in another way share nothing with what is stored. A test pins it.
package chunk

// Threshold is the size from which on a blob is stored in chunks.
const Threshold = 1 << 20

// The sizes of chunks. Max is also what Cut must be able to see.
const (
	Min    = 16 << 10
	Normal = 64 << 10
	Max    = 256 << 10
)

const (
	window     = 64 // bytes that the hash remembers
	normalBits = 16 // log2(Normal)

	// The hash must be less than this for a cut.
	early = 1 << (64 - (normalBits + 2)) // up to Normal
	late  = 1 << (64 - (normalBits - 2)) // beyond it
)

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
// chunk does and hold either Max bytes or all that is left of the blob. It is
// never zero unless p is empty.
func Cut(p []byte) int {
	if len(p) <= Min {
		return len(p)
	}
	p = p[:min(len(p), Max)]
	var h uint64
	for _, b := range p[Min-window : Min] {
		h = h<<1 + gear[b]
	}
	normal := min(len(p), Normal)
	n, h := scan(p[:normal], Min, h, early)
	if n < normal {
		return n
	}
	n, _ = scan(p, normal, h, late)
	return n
}

// scan goes on from p[i], with h the hash of what stands before it, and returns
// after how many bytes of p the hash first falls below limit; all of p if never.
func scan(p []byte, i int, h, limit uint64) (int, uint64) {
	for len(p)-i >= 8 {
		q := p[i : i+8 : i+8]
		for k, b := range q {
			h = h<<1 + gear[b]
			if h < limit {
				return i + k + 1, h
			}
		}
		i += 8
	}
	for ; i < len(p); i++ {
		h = h<<1 + gear[p[i]]
		if h < limit {
			return i + 1, h
		}
	}
	return len(p), h
}
