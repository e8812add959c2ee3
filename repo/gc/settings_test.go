package gc

import (
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/refs"
)

func TestParseAge(t *testing.T) {
	for _, tt := range []struct {
		text string
		want time.Duration // negative: an error
	}{
		{"", 0}, {"never", 0}, {"0", 1}, {"0d", 1}, {"90s", 90 * time.Second}, {"5m", 5 * time.Minute},
		{"24h", day}, {"30d", 30 * day}, {"2w", 14 * day},
		{"5", -1}, {"d", -1}, {"-1d", -1}, {"1y", -1}, {"1.5d", -1}, {"soon", -1}, {"99999999999w", -1},
	} {
		got, err := ParseAge(tt.text)
		if (err != nil) != (tt.want < 0) || err == nil && got != tt.want {
			t.Errorf("%q: %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int64 // negative: an error
	}{
		{"", 0}, {"never", 0}, {"0", 1}, {"1000", 1000}, {"10GB", 1e10}, {"10G", 1e10}, {"1.5 MB", 15e5}, {"2GiB", 2 << 30}, {"3ki", 3 << 10},
		{"GB", -1}, {"-1", -1}, {"1XB", -1}, {"1e400", -1}, {"99999999TB", -1}, {"1.2.3", -1}, {"inf", -1}, {"nan", -1},
	} {
		got, err := ParseSize(tt.text)
		if (err != nil) != (tt.want < 0) || err == nil && got != tt.want {
			t.Errorf("%q: %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestProtected(t *testing.T) {
	patterns, err := ParsePatterns("main, release/*,team/**")
	if err != nil {
		t.Fatal(err)
	}
	s := Settings{Protected: patterns}
	for name, want := range map[string]bool{
		"main": true, "mainly": false, "release/1": true, "release/1/2": false, "release": false, "team/a": true, "team/a/b": true, "team": false,
	} {
		if got := s.isProtected(refs.Branch(name)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if _, err := ParsePatterns("a,[b"); err == nil {
		t.Error("[b is taken for a pattern")
	}
}
