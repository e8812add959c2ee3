package commands

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// shown returns name as a terminal may print it: as it is, or quoted as Git
// quotes paths when it holds what would steer the terminal or is no UTF-8.
func shown(name string) string {
	if name == "" || !utf8.ValidString(name) {
		return strconv.Quote(name)
	}
	for _, r := range name {
		if !strconv.IsPrint(r) || r == '"' || r == '\\' {
			return strconv.Quote(name)
		}
	}
	return name
}

// size writes n bytes for people, in powers of a thousand as `du --si` does.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}

// counted writes "1 file", "2 files".
func counted[N int | int64](n N, one string) string {
	if stem, ok := strings.CutSuffix(one, "ry"); ok {
		return plural(n, one, stem+"ries")
	}
	return plural(n, one, one+"s")
}

func plural[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// dateFormat is how git log writes a time.
const dateFormat = "Mon Jan 2 15:04:05 2006 -0700"

// ago writes how long before now t was, roughly.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	for _, u := range []struct {
		unit time.Duration
		name string
	}{
		{365 * 24 * time.Hour, "year"}, {30 * 24 * time.Hour, "month"}, {7 * 24 * time.Hour, "week"},
		{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"},
	} {
		if n := int64(d / u.unit); n > 0 {
			return counted(n, u.name) + " ago"
		}
	}
	if d < 0 {
		return "in the future"
	}
	return counted(int64(d/time.Second), "second") + " ago"
}
