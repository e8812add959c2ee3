package gc

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/refs"
)

// Settings say what is to be kept. The zero value keeps all that can be reached.
type Settings struct {
	MaxSize     int64         // bytes that the store may take; zero is any number
	MaxAge      time.Duration // entries that were not used for longer go; zero is never
	KeepHistory time.Duration // what was replaced or removed longer ago goes; zero is never
	BranchTTL   time.Duration // branches that did not move for longer go; zero is never

	// Protected are patterns of branches that are left as they are, as path.Match has
	// them; a pattern that ends in /** matches all below.
	Protected []string

	// Head is the default branch. It is not dropped, however old.
	Head refs.Name

	Now time.Time // zero is now
}

func (s Settings) isProtected(name refs.Name) bool {
	for _, pattern := range s.Protected {
		if dir, ok := strings.CutSuffix(pattern, "/**"); ok && strings.HasPrefix(name.Short(), dir+"/") {
			return true
		}
		if ok, err := path.Match(pattern, name.Short()); ok && err == nil {
			return true
		}
	}
	return false
}

// ParsePatterns returns the patterns in a list that commas or spaces part.
func ParsePatterns(list string) ([]string, error) {
	patterns := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("%q is no pattern: %w", p, err)
		}
	}
	return patterns, nil
}

const day = 24 * time.Hour

// Never is how people write that there is no limit.
const Never = "never"

// ParseAge returns a duration: a whole number and s, m, h, d or w, such as 30d; or
// never, which is zero. No time at all is the shortest there is: 0 is not never.
func ParseAge(text string) (time.Duration, error) {
	if text == Never || text == "" {
		return 0, nil
	}
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': day, 'w': 7 * day}
	digits, unit := text, time.Duration(0)
	if u, ok := units[text[len(text)-1]]; ok {
		digits, unit = text[:len(text)-1], u
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil || n < 0 || unit == 0 && n != 0:
		return 0, errors.New("want a number and s, m, h, d or w, such as 30d, or never")
	case n == 0:
		return 1, nil
	case n > math.MaxInt64/int64(unit):
		return 0, fmt.Errorf("%s is too long", text)
	}
	return time.Duration(n) * unit, nil
}

// ParseSize returns a number of bytes: 500MB or 500M is a power of 1000, as disks are
// sold; 500MiB or 500Mi of 1024. Never, or nothing, is zero.
func ParseSize(text string) (int64, error) {
	if text == Never || text == "" {
		return 0, nil
	}
	end := strings.LastIndexAny(text, "0123456789.") + 1
	n, err := strconv.ParseFloat(text[:end], 64)
	unit, ok := sizeUnits[strings.ToLower(strings.TrimSpace(text[end:]))]
	switch {
	case err != nil || !ok || n < 0:
		return 0, errors.New("want a number of bytes, such as 500MB, 10GB or 2GiB")
	case n*unit >= math.MaxInt64:
		return 0, fmt.Errorf("%s is too much", text)
	}
	return max(1, int64(n*unit)), nil
}

var sizeUnits = map[string]float64{
	"": 1, "b": 1,
	"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}
