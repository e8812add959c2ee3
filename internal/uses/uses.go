// Package uses remembers on which day an entry was used last: what is evicted goes
// by that.
//
// The file "uses" in the repository is lines of text:
//
//	16 hexadecimal digits   the first 8 bytes of the SHA-256 of the path of the entry
//	a space
//	decimal digits          the day, counted from 1970-01-01 UTC
//
// Who uses an entry adds a line, in one write and without waiting for the disk. What
// a crash takes, or cuts short, makes an entry look unused for longer, and no more.
//
// Stores tell each other: see Encode for how uses travel, and Unsent for which.
package uses

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
)

const (
	fileName = "uses"
	lockName = "uses.lock"
)

// A Table says when entries were used last: days since 1970, by what stands for their
// paths.
type Table map[uint64]int32

// hash is what stands for a path. That two have the same is not to be had by chance
// with the number of entries that a store has, and does little harm.
func hash(path string) uint64 {
	sum := sha256.Sum256([]byte(path))
	return binary.BigEndian.Uint64(sum[:])
}

// Today returns the day of a time.
func Today(t time.Time) int32 { return int32(t.Unix() / (24 * 60 * 60)) }

// Note notes that the entries at paths were used on a day.
func (t Table) Note(day int32, paths ...string) {
	for _, path := range paths {
		h := hash(path)
		if old, ok := t[h]; !ok || old < day {
			t[h] = day
		}
	}
}

// Day returns when the entry at path was used last.
func (t Table) Day(path string) (day int32, ok bool) {
	day, ok = t[hash(path)]
	return day, ok
}

// Merge takes over what another table knows.
func (t Table) Merge(other Table) {
	for h, day := range other {
		if old, ok := t[h]; !ok || old < day {
			t[h] = day
		}
	}
}

// Note notes in the repository at dir that the entries at paths were used on a day.
func Note(dir string, day int32, paths ...string) error {
	t := make(Table, len(paths))
	t.Note(day, paths...)
	return Append(dir, t)
}

// Append notes what a table knows in the repository at dir.
func Append(dir string, t Table) error {
	if len(t) == 0 {
		return nil
	}
	f, err := durable.OpenAppend(filepath.Join(dir, fileName))
	if err != nil {
		return fmt.Errorf("note a use: %w", err)
	}
	defer f.Close()
	if err := durable.Append(f, t.text()); err != nil {
		return fmt.Errorf("note a use: %w", err)
	}
	return nil
}

func (t Table) text() []byte {
	b := make([]byte, 0, 24*len(t))
	for _, h := range slices.Sorted(maps.Keys(t)) {
		b = fmt.Appendf(b, "%016x %d\n", h, t[h])
	}
	return b
}

// Load reads what the repository at dir knows. Lines that are cut short, or damaged,
// are passed over.
func Load(dir string) (Table, error) { return load(filepath.Join(dir, fileName)) }

func load(name string) (Table, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Table{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("uses: %w", err)
	}
	t := make(Table)
	for line := range bytes.Lines(data) {
		digits, day, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		h, err1 := strconv.ParseUint(string(digits), 16, 64)
		n, err2 := strconv.ParseInt(string(day), 10, 32)
		if err1 != nil || err2 != nil || len(digits) != 16 || n < 0 {
			continue
		}
		if old, ok := t[h]; !ok || old < int32(n) {
			t[h] = int32(n)
		}
	}
	return t, nil
}

// worthCompacting is from how many bytes on the file is written anew.
const worthCompacting = 256 << 10

// Compact leaves one line for each entry that was used since a day. What others note
// in that moment may be lost.
func Compact(ctx context.Context, dir string, since int32) error {
	name := filepath.Join(dir, fileName)
	fi, err := os.Stat(name)
	if err != nil || fi.Size() < worthCompacting {
		return nil // there is not much, or nothing
	}
	lock, err := durable.LockExclusive(ctx, filepath.Join(dir, lockName))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	t, err := Load(dir)
	if err != nil {
		return err
	}
	maps.DeleteFunc(t, func(_ uint64, day int32) bool { return day < since })
	return durable.WriteFile(name, t.text(), durable.NoSync)
}
