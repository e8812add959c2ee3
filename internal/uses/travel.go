package uses

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// ErrMalformed is what every error of Parse is.
var ErrMalformed = errors.New("malformed uses")

const recordSize = 8 + 4

// Encode returns a table as it travels, big-endian and sorted:
//
//	4 bytes   how many; of each:
//	8 bytes   what stands for the path of the entry
//	4 bytes   the day, counted from 1970-01-01 UTC
func (t Table) Encode() []byte {
	b := make([]byte, 0, 4+recordSize*len(t))
	b = binary.BigEndian.AppendUint32(b, uint32(len(t)))
	for _, h := range slices.Sorted(maps.Keys(t)) {
		b = binary.BigEndian.AppendUint64(b, h)
		b = binary.BigEndian.AppendUint32(b, uint32(t[h]))
	}
	return b
}

// Parse is the inverse of Encode, and takes nothing else; for at most so many.
func Parse(b []byte, most int) (Table, error) {
	if len(b) < 4 {
		return nil, ErrMalformed
	}
	n := int64(binary.BigEndian.Uint32(b))
	if b = b[4:]; n > int64(most) || n*recordSize != int64(len(b)) {
		return nil, ErrMalformed
	}
	t := make(Table, n)
	last := uint64(0)
	for i := range n {
		h, day := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])
		if b = b[recordSize:]; i > 0 && h <= last || day > math.MaxInt32 {
			return nil, ErrMalformed
		}
		t[h], last = int32(day), h
	}
	return t, nil
}

// Tomorrow returns the last day of which others may speak: their clocks need not agree
// with this one.
func Tomorrow(now time.Time) int32 { return Today(now) + 1 }

// Until returns the uses up to a day.
func (t Table) Until(day int32) Table {
	until := maps.Clone(t)
	maps.DeleteFunc(until, func(_ uint64, used int32) bool { return used > day })
	return until
}

// Since returns the uses from a day on.
func (t Table) Since(day int32) Table {
	since := maps.Clone(t)
	maps.DeleteFunc(since, func(_ uint64, used int32) bool { return used < day })
	return since
}

// Newest returns so many of the uses, those of the newest days; all if there are no
// more.
func (t Table) Newest(most int) Table {
	if len(t) <= most {
		return t
	}
	hashes := slices.SortedFunc(maps.Keys(t), func(a, b uint64) int {
		if t[a] != t[b] {
			return int(int64(t[b]) - int64(t[a]))
		}
		if a < b {
			return -1
		}
		return 1
	})
	newest := make(Table, most)
	for _, h := range hashes[:most] {
		newest[h] = t[h]
	}
	return newest
}

// sentDir has a file for each remote that was told of uses, of the same form as the one
// that they are in. It holds those of the newest day that it was told of: it knows all
// of the days before that. When it was written is when the remote was told.
const sentDir = "uses.sent"

// Unsent returns what a remote was not told yet of what a table knows, up to a day: that
// a clock was wrong once must not count for good. Name stands for the remote, and is fit
// for a file.
func Unsent(dir, name string, t Table, last int32) (Table, error) {
	sent, err := load(filepath.Join(dir, sentDir, name))
	if err != nil {
		return nil, err
	}
	sent = sent.Until(last)
	newest := sent.newestDay()
	unsent := t.Until(last)
	maps.DeleteFunc(unsent, func(h uint64, day int32) bool {
		_, known := sent[h]
		return day < newest || day == newest && known
	})
	return unsent, nil
}

// SentOn returns the day on which a remote was told last, -1 if it never was.
func SentOn(dir, name string) int32 {
	fi, err := os.Stat(filepath.Join(dir, sentDir, name))
	if err != nil {
		return -1
	}
	return Today(fi.ModTime())
}

// NoteSent notes that a remote was told what a table knows, up to a day.
func NoteSent(dir, name string, t Table, last int32) error {
	name = filepath.Join(dir, sentDir, name)
	sent, err := load(name)
	if err != nil {
		return err
	}
	sent = sent.Until(last)
	sent.Merge(t.Until(last))
	newest := sent.newestDay()
	maps.DeleteFunc(sent, func(_ uint64, day int32) bool { return day < newest })
	if err := durable.MkdirAll(filepath.Dir(name), durable.NoSync); err != nil {
		return err
	}
	return durable.WriteFile(name, sent.text(), durable.NoSync)
}

func (t Table) newestDay() int32 {
	newest := int32(math.MinInt32)
	for _, day := range t {
		newest = max(newest, day)
	}
	return newest
}
