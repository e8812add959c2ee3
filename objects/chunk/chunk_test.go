package chunk

import (
	"math/rand/v2"
	"testing"
)

func noise(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

func BenchmarkCut(b *testing.B) {
	p := noise(1, 8<<20)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		for q := p; len(q) > 0; {
			q = q[Cut(q):]
		}
	}
}
