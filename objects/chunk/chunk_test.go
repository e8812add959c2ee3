package chunk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cache-tool/cache-tool/objects/chunk"
)

// noise is the same bytes for ever: the key stream of ChaCha8.
func noise(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// cuts returns the lengths of the chunks of p, cut like a blob of size bytes.
func cuts(size int64, p []byte) []int {
	c := chunk.For(size)
	var lengths []int
	for len(p) > 0 {
		n := c.Cut(p)
		lengths = append(lengths, n)
		p = p[n:]
	}
	return lengths
}

const (
	small = 1 << 20
	huge  = 1 << 30
	vast  = 1 << 40
)

// Cuts that move lose all deduplication against what is stored. Never change
// these vectors. The first was checked by another program.
func TestCutsArePinned(t *testing.T) {
	text := bytes.Repeat([]byte("a cache that works like Git. "), 5_000)
	for _, tt := range []struct {
		name string
		size int64
		p    []byte
		want []int
	}{
		{"noise", huge, noise(1, 100_000), []int{9861, 9352, 8848, 10691, 9503, 10090, 10093, 8734, 10741, 8222, 3865}},
		{"noise", small, noise(1, 200_000), []int{59121, 41897, 35605, 40765, 22612}},
		{"noise", vast, noise(1, 2_000_000), []int{347888, 496516, 324138, 267835, 315922, 247701}},
		{"text", huge, text, []int{32768, 32768, 32768, 32768, 13928}},
		{"zeros", huge, make([]byte, 150_000), []int{32768, 32768, 32768, 32768, 18928}},
	} {
		if got := cuts(tt.size, tt.p); !slices.Equal(got, tt.want) {
			t.Errorf("cuts of %s, for blobs of %d bytes, are %v, want %v", tt.name, tt.size, got, tt.want)
		}
	}
	// All cuts of 64 MiB, as one number.
	h := sha256.New()
	for _, n := range cuts(huge, noise(2, 64<<20)) {
		_ = binary.Write(h, binary.BigEndian, int64(n))
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), "1fc3cc0b6fabe75336a82af0bd60e6c0431924602f329eeeee7b960bbafd4909"; got != want {
		t.Errorf("cuts of 64 MiB hash to %s, want %s", got, want)
	}
}

// Which blobs are cut in which way is as pinned as the cuts are.
func TestSizes(t *testing.T) {
	p := noise(3, 16<<20)
	for _, tt := range []struct {
		size   int64
		normal int
	}{
		{chunk.Threshold, 32 << 10},
		{16<<20 - 1, 32 << 10},
		{16 << 20, 8 << 10},
		{8<<30 - 1, 8 << 10},
		{8 << 30, 256 << 10},
	} {
		c := chunk.For(tt.size)
		if c.Max() != 4*tt.normal {
			t.Errorf("chunks of %d bytes have up to %d, want %d", tt.size, c.Max(), 4*tt.normal)
		}
		lengths := cuts(tt.size, p)
		for _, n := range lengths[:len(lengths)-1] {
			if n < tt.normal/2 || n > 4*tt.normal {
				t.Errorf("a chunk of %d bytes, normal are %d", n, tt.normal)
			}
		}
		if mean := len(p) / len(lengths); mean < tt.normal || mean > 3*tt.normal/2 {
			t.Errorf("chunks have %d bytes on average, want about %d", mean, tt.normal)
		}
		for _, n := range []int{0, 1, tt.normal/2 - 1, tt.normal / 2, tt.normal/2 + 1} {
			if got := c.Cut(p[:n]); got > n || n <= tt.normal/2 && got != n {
				t.Errorf("Cut of %d bytes = %d", n, got)
			}
		}
	}
}

// Beyond Max bytes Cut must not look: what it has there depends on how it reads.
func TestCutSeesNoFurther(t *testing.T) {
	c := chunk.For(huge)
	for q := noise(4, 8<<20); len(q) > c.Max(); {
		n := c.Cut(q)
		if short := c.Cut(q[:c.Max()]); short != n {
			t.Fatalf("Cut = %d, of Max bytes %d", n, short)
		}
		q = q[n:]
	}
}

// An insertion changes the chunks near it only.
func TestInsertion(t *testing.T) {
	p := noise(5, 4<<20)
	q := slices.Concat(p[:1<<20], []byte("inserted"), p[1<<20:])
	seen := map[string]bool{}
	c := chunk.For(huge)
	for r := p; len(r) > 0; {
		n := c.Cut(r)
		seen[string(r[:n])] = true
		r = r[n:]
	}
	fresh := 0
	for r := q; len(r) > 0; {
		n := c.Cut(r)
		if !seen[string(r[:n])] {
			fresh++
		}
		r = r[n:]
	}
	if fresh == 0 || fresh > 4 {
		t.Errorf("%d chunks changed", fresh)
	}
}

func FuzzCut(f *testing.F) {
	f.Add([]byte("x"), 100_000, int64(small))
	f.Fuzz(func(t *testing.T, pattern []byte, n int, size int64) {
		if len(pattern) == 0 || n < 0 || n > 1<<20 {
			return
		}
		p := bytes.Repeat(pattern, n/len(pattern)+1)[:n]
		c := chunk.For(size)
		for len(p) > 0 {
			n := c.Cut(p)
			if n < min(c.Max()/8, len(p)) || n > c.Max() || n > len(p) {
				t.Fatalf("a chunk of %d bytes out of %d", n, len(p))
			}
			p = p[n:]
		}
	})
}

func BenchmarkCut(b *testing.B) {
	p := noise(1, 8<<20)
	c := chunk.For(huge)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		for q := p; len(q) > 0; {
			q = q[c.Cut(q):]
		}
	}
}
