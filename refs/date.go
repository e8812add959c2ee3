package refs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// ParseDate reads a point in time as people type it, with the meaning that Git
// gives it; what Git would guess at is an error.
//
//	now, today, yesterday
//	2 days ago, 1.week.2.days.ago, last month, one hour ago, last friday
//	2026-01-31, 2026/01/31, 31 Jan 2026, jan 31: at this time of day
//	… 15:04, 15:04:05, 3pm; noon and midnight after a day
//	2026-01-31T15:04:05Z, … +0200, Sat, 31 Jan 2026 15:04:05 +0100
//	@1700000000, 1700000000: seconds since 1970
func ParseDate(s string, now time.Time) (time.Time, error) {
	text := strings.TrimSpace(s)
	if t, ok := parseSeconds(text, now); ok {
		return t, nil
	}
	for _, layout := range exactDates {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	d := date{t: now}
	words := splitDate(text)
	for i := 0; i < len(words); {
		n, err := d.take(words[i:])
		if err != nil {
			return time.Time{}, fmt.Errorf("%q is neither a number nor a date: %w", s, err)
		}
		i += n
	}
	if len(words) == 0 {
		return time.Time{}, fmt.Errorf("%q is neither a number nor a date", s)
	}
	return d.t, nil
}

var exactDates = []string{
	time.RFC3339, "2006-01-02T15:04:05-0700", "2006-01-02T15:04:05", "2006-01-02T15:04",
	"2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 -07:00", "2006-01-02 15:04 -0700",
	"2 Jan 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 -0700", "Mon Jan 2 15:04:05 2006 -0700", "Mon Jan 2 15:04:05 2006",
	"20060102T150405Z0700", "20060102T150405",
}

// parseSeconds reads seconds since 1970, with or without a zone behind.
func parseSeconds(s string, now time.Time) (time.Time, bool) {
	digits, at := strings.CutPrefix(s, "@")
	digits, zone, hasZone := strings.Cut(digits, " ")
	if !at && len(digits) < 9 {
		return time.Time{}, false
	}
	n, err := strconv.ParseUint(digits, 10, 40)
	if err != nil {
		return time.Time{}, false
	}
	if _, err := time.Parse("-0700", zone); hasZone && err != nil {
		return time.Time{}, false
	}
	return time.Unix(int64(n), 0).In(now.Location()), true
}

// splitDate splits at spaces, commas and the dots of "2.days.ago".
func splitDate(s string) []string {
	var words []string
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == ',' }) {
		if _, ok := parseDay(word, time.UTC); ok {
			words = append(words, word)
			continue
		}
		words = append(words, strings.FieldsFunc(strings.ToLower(word), func(r rune) bool { return r == '.' || r == '_' })...)
	}
	return words
}

// A date is one that is being read, word by word.
type date struct {
	t   time.Time
	day bool // was named
}

// take applies the first words and returns how many of them it took.
func (d *date) take(words []string) (int, error) {
	word := words[0]
	switch word {
	case "now", "today", "ago", "at":
		return 1, nil
	case "yesterday":
		d.sub(24 * 60 * 60)
		return 1, nil
	case "noon", "midnight":
		if !d.day {
			return 0, fmt.Errorf("%s of which day?", word)
		}
		d.setTime(12*boolInt(word == "noon"), 0, 0)
		return 1, nil
	}
	if day, ok := parseDay(word, d.t.Location()); ok {
		d.setDay(day.Date())
		return 1, nil
	}
	if t, ok := parseClock(word); ok {
		d.setTime(t.Clock())
		return 1, nil
	}
	if n := d.takeMonth(words); n > 0 {
		return n, nil
	}
	if len(words) > 1 {
		if n, ok := count(word); ok && d.back(n, words[1]) {
			return 2, nil
		}
	}
	return 0, fmt.Errorf("%q is not known", word)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func parseDay(word string, where *time.Location) (time.Time, bool) {
	for _, layout := range [...]string{"2006-1-2", "2006/1/2", "2006.1.2", "2.1.2006"} {
		if t, err := time.ParseInLocation(layout, word, where); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func parseClock(word string) (time.Time, bool) {
	for _, layout := range [...]string{"15:04", "15:04:05", "3pm", "3:04pm"} {
		if t, err := time.Parse(layout, word); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// setDay keeps the time of day.
func (d *date) setDay(year int, month time.Month, day int) {
	h, m, s := d.t.Clock()
	d.t, d.day = time.Date(year, month, day, h, m, s, 0, d.t.Location()), true
}

func (d *date) setTime(h, m, s int) {
	year, month, day := d.t.Date()
	d.t = time.Date(year, month, day, h, m, s, 0, d.t.Location())
}

// takeMonth reads "31 jan [2026]" or "jan 31 [2026]".
func (d *date) takeMonth(words []string) int {
	if len(words) < 2 {
		return 0
	}
	for _, layout := range [...]string{"2 January", "January 2", "2 Jan", "Jan 2"} {
		t, err := time.Parse(layout, words[0]+" "+words[1])
		if err != nil {
			continue
		}
		year, taken := d.t.Year(), 2
		if len(words) > 2 && len(words[2]) == 4 {
			if n, err := strconv.Atoi(words[2]); err == nil {
				year, taken = n, 3
			}
		}
		_, month, day := t.Date()
		if taken == 2 && month > d.t.Month() {
			year-- // the last one
		}
		d.setDay(year, month, day)
		return taken
	}
	return 0
}

var numbers = []string{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}

// count reads a number, in digits or as a word.
func count(word string) (int, bool) {
	if word == "last" {
		return 1, true
	}
	for n, name := range numbers {
		if word == name {
			return n, true
		}
	}
	n, err := strconv.Atoi(word)
	return n, err == nil && n >= 0 && n < 1_000_000
}

// back goes n units back, if unit is one.
func (d *date) back(n int, unit string) bool {
	unit = strings.TrimSuffix(unit, "s")
	const day = 24 * 60 * 60
	seconds := map[string]int{"second": 1, "minute": 60, "hour": 60 * 60, "day": day, "week": 7 * day}
	if length := seconds[unit]; length > 0 {
		d.sub(n * length)
		return true
	}
	switch unit {
	case "month":
		d.t, d.day = d.t.AddDate(0, -n, 0), true
		return true
	case "year":
		d.t, d.day = d.t.AddDate(-n, 0, 0), true
		return true
	}
	return d.backWeekday(n, unit)
}

// sub goes back by seconds, more of which than a Duration holds.
func (d *date) sub(seconds int) {
	d.t, d.day = time.Unix(d.t.Unix()-int64(seconds), 0).In(d.t.Location()), true
}

// backWeekday goes back to the nth such day of the week before today.
func (d *date) backWeekday(n int, name string) bool {
	for w := time.Sunday; w <= time.Saturday; w++ {
		if full := strings.ToLower(w.String()); n > 0 && (name == full || name == full[:3]) {
			days := (int(d.t.Weekday())-int(w)+6)%7 + 1
			d.sub((days + 7*(n-1)) * 24 * 60 * 60)
			return true
		}
	}
	return false
}
