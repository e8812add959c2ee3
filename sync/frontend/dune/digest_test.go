package dune

import (
	"fmt"
	"testing"
)

// What Dune 2.9.3 called files that it was seen to make, and what the rule of Dune
// 3.22 makes of the same.
func TestNames(t *testing.T) {
	const script = "#!/bin/sh\necho hi\n"
	for _, tt := range []struct {
		hash       hashing
		content    string
		executable bool
		want       string
	}{
		{byMD5, "hello", false, "5525abe23c0066ad394612f03cee9d35"},
		{byMD5, script, true, "6cb4e6721725ea5ee3e820e99f26360f"},
		{byMD5, "", false, "b83631c134a9649ec383d0eb9c356803"},
		{byBlake3, "hello", false, "c44774f097f76038ff7bbea443930104"},
		{byBlake3, script, true, "97c837f1d99aa7a8f00a845a6a0fdef7"},
		{byBlake3, "", false, "662cf3f7d59f76428301690d4ead67ae"},
	} {
		n := tt.hash.namer()
		n.Write([]byte(tt.content))
		if got := n.name(tt.executable).String(); got != tt.want {
			t.Errorf("%s of %q, executable %v: %s, want %s", tt.hash, tt.content, tt.executable, got, tt.want)
		}
		if got := n.name(!tt.executable).String(); got == tt.want {
			t.Errorf("%s of %q: the executable bit does not count", tt.hash, tt.content)
		}
	}
}

func TestDigestsAreLowerCase(t *testing.T) {
	const digits = "0123456789abcdef0123456789abcdef"
	if d, ok := parseDigest(digits); !ok || d.String() != digits {
		t.Errorf("%s comes back as %s, %v", digits, d, ok)
	}
	for _, bad := range []string{"", digits[1:], digits + "0", "0123456789ABCDEF0123456789abcdef", "g123456789abcdef0123456789abcdef"} {
		if d, ok := parseDigest(bad); ok {
			t.Errorf("%q is taken for %s", bad, d)
		}
	}
}

func BenchmarkNames(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		body := make([]byte, size)
		for _, h := range []hashing{byMD5, byBlake3} {
			b.Run(fmt.Sprintf("%s-%d", h, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					n := h.namer()
					n.Write(body)
					n.name(false)
				}
			})
		}
	}
}
