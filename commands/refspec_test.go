package commands

import (
	"testing"

	"github.com/cache-tool/cache-tool/refs"
)

func TestRefspec(t *testing.T) {
	for _, tt := range []struct {
		text string
		want refspec
		src  refs.Name
		dst  refs.Name
	}{
		{"main", refspec{false, "refs/heads/main", "refs/heads/main"}, "refs/heads/main", "refs/heads/main"},
		{"+a:b", refspec{true, "refs/heads/a", "refs/heads/b"}, "refs/heads/a", "refs/heads/b"},
		{":b", refspec{false, "", "refs/heads/b"}, "", ""},
		{"+refs/heads/*:refs/remotes/o/*", refspec{true, "refs/heads/*", "refs/remotes/o/*"}, "refs/heads/pr/7", "refs/remotes/o/pr/7"},
		{"refs/tags/v*", refspec{false, "refs/tags/v*", "refs/tags/v*"}, "refs/tags/v1", "refs/tags/v1"},
	} {
		got, err := parseRefspec(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("%q: %+v, %v", tt.text, got, err)
		}
		if tt.src == "" {
			continue
		}
		if dst, ok := got.target(tt.src); !ok || dst != tt.dst {
			t.Errorf("%q of %s: %s, %t", tt.text, tt.src, dst, ok)
		}
		if src, ok := got.source(tt.dst); !ok || src != tt.src {
			t.Errorf("%q to %s: %s, %t", tt.text, tt.dst, src, ok)
		}
		if dst, ok := got.target("refs/other/x"); ok {
			t.Errorf("%q takes refs/other/x to %s", tt.text, dst)
		}
	}
	for _, text := range []string{"", "a:", "a..b", "refs/heads/*:refs/heads/x", "a*:b*c*", "refs/heads/../x"} {
		if got, err := parseRefspec(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
