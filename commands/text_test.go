package commands

import (
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"}, {999, "999 B"}, {1000, "1.0 kB"}, {999_949, "999.9 kB"}, {1_000_000, "1.0 MB"},
		{708_112_345, "708.1 MB"}, {1_400_000_000, "1.40 GB"}, {2_000_000_000_000, "2000.00 GB"},
	} {
		if got := size(tt.n); got != tt.want {
			t.Errorf("size(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}

func TestCounted(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{counted(0, "file"), "0 files"},
		{counted(1, "file"), "1 file"},
		{counted(2, "entry"), "2 entries"},
		{plural(2, "miss", "misses"), "2 misses"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestShown(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"deps", "deps"},
		{"a b/ü", "a b/ü"},
		{"", `""`},
		{"a\nb", `"a\nb"`},
		{"\x1b[31m", `"\x1b[31m"`},
		{"\xff", `"\xff"`},
		{`say "x"`, `"say \"x\""`},
		{"\u202e", `"\u202e"`}, // turns the line around
	} {
		if got := shown(tt.name); got != tt.want {
			t.Errorf("shown(%q) = %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		before time.Duration
		want   string
	}{
		{0, "0 seconds ago"}, {time.Second, "1 second ago"}, {90 * time.Second, "1 minute ago"},
		{50 * time.Hour, "2 days ago"}, {800 * 24 * time.Hour, "2 years ago"}, {-time.Hour, "in the future"},
	} {
		if got := ago(now, now.Add(-tt.before)); got != tt.want {
			t.Errorf("ago(%v) = %q, want %q", tt.before, got, tt.want)
		}
	}
}
