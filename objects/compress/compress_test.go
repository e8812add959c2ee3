package compress_test

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects/compress"
)

func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

func TestRoundTrip(t *testing.T) {
	text := []byte(strings.Repeat("a cache that works like Git. ", 40_000))
	for _, tt := range []struct {
		name string
		src  []byte
		want bool // compressed
	}{
		{"empty", nil, false},
		{"tiny", text[:20], false},
		{"small", text[:200], true},
		{"block", text[:64<<10], true},
		{"several zstd blocks", text, true},
		{"noise", noise(300 << 10), false},
		{"repeated noise", bytes.Repeat(noise(256<<10), 10), true},
	} {
		for _, level := range []compress.Level{compress.Default, compress.Fastest, compress.Better} {
			e := compress.GetEncoder(level, len(tt.src))
			prefix := []byte("before")
			out, ok := e.Encode(prefix, tt.src)
			compress.PutEncoder(e)
			if ok != tt.want || !bytes.HasPrefix(out, prefix) {
				t.Errorf("%s, level %d: Encode = %v, want %v", tt.name, level, ok, tt.want)
			}
			if !ok {
				if !bytes.Equal(out, prefix) {
					t.Errorf("%s: Encode left %d bytes behind", tt.name, len(out)-len(prefix))
				}
				continue
			}
			got, err := compress.Decode(nil, out[len(prefix):], len(tt.src))
			if err != nil || !bytes.Equal(got, tt.src) {
				t.Errorf("%s, level %d: Decode: %d bytes, %v", tt.name, level, len(got), err)
			}
		}
	}
}

// A frame that grows to more than was announced must not cost more memory.
func TestDecodeIsBounded(t *testing.T) {
	e := compress.GetEncoder(compress.Fastest, 64<<20)
	defer compress.PutEncoder(e)
	bomb, _ := e.Encode(nil, make([]byte, 64<<20))
	t.Logf("%d bytes hold 64 MiB", len(bomb))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := compress.Decode(nil, bomb, 1<<10); err == nil {
		t.Error("a bomb was decoded")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("decoding a bomb allocates %d bytes", got)
	}
	for _, size := range []int{0, 1, 64<<20 - 1, 64<<20 + 1} {
		if _, err := compress.Decode(nil, bomb, size); err == nil {
			t.Errorf("Decode of 64 MiB as %d bytes: no error", size)
		}
	}
}

func FuzzDecode(f *testing.F) {
	e := compress.GetEncoder(compress.Default, 500)
	frame, _ := e.Encode(nil, []byte(strings.Repeat("seed ", 100)))
	compress.PutEncoder(e)
	f.Add(frame, 500)
	f.Add(frame[:len(frame)/2], 500)
	f.Fuzz(func(t *testing.T, src []byte, size int) {
		if size < 0 || size > 1<<20 {
			return
		}
		if got, err := compress.Decode(nil, src, size); err == nil && len(got) != size {
			t.Errorf("%d bytes, want %d", len(got), size)
		}
	})
}
