package goprog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
)

const hashSize = sha256.Size

// files are outputs as plain files, DIR/ab/ab01…, called by their SHA-256.
//
// The go command believes them, so each is hashed before it is named. To hash it again
// at each use would take longer than what a warm build does. So its time is a seal:
// the nanoseconds follow from the name, and from which run of the system it is. Whoever
// writes to the file changes them, and a file without its seal is hashed once more.
// The seconds say when it was used last.
type files struct {
	dir   string
	boot  string
	added atomic.Int64 // bytes
}

func newFiles(dir string) *files {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return &files{dir: dir, boot: string(boot)}
}

// errWrong says that an output is not what it is called.
var errWrong = errors.New("the output does not hash to its name")

func (f *files) place(output string) string { return filepath.Join(f.dir, output[:2], output) }

// seal returns a time with the seal of an output.
func (f *files) seal(output string, used time.Time) time.Time {
	sum := sha256.Sum256([]byte(output + f.boot))
	return time.Unix(used.Unix(), int64(binary.BigEndian.Uint32(sum[:])%1e9))
}

// fresh is for how long the time of a file is good enough.
const fresh = time.Hour

// find returns the file of an output, if there is one, and it is whole.
func (f *files) find(output string, size int64) (path string, ok bool) {
	path = f.place(output)
	fi, err := os.Lstat(path)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != size {
		return "", false
	}
	now := time.Now()
	sealed := fi.ModTime().Equal(f.seal(output, fi.ModTime()))
	if !sealed && !holds(path, output) {
		os.Remove(path)
		return "", false
	}
	if !sealed || now.Sub(fi.ModTime()).Abs() > fresh {
		// If that is not to be had it is hashed at each use.
		_ = os.Chtimes(path, time.Time{}, f.seal(output, now))
	}
	return path, true
}

// holds reports whether a file is what it is called.
func holds(path, output string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	return err == nil && hex.EncodeToString(sum.Sum(nil)) == output
}

// add makes the file of an output.
func (f *files) add(output string, size int64, body io.Reader) (string, error) {
	if len(output) != 2*hashSize {
		return "", fmt.Errorf("output %q: want a SHA-256", output)
	}
	if path, ok := f.find(output, size); ok {
		_, err := io.Copy(io.Discard, body)
		return path, err
	}
	path := f.place(output)
	dir := filepath.Dir(path)
	if err := durable.MkdirAll(dir, durable.NoSync); err != nil {
		return "", err
	}
	file, err := durable.CreatePerm(dir, 0o444)
	if err != nil {
		return "", err
	}
	defer file.Abort()
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(file, sum), body, make([]byte, 64<<10))
	switch {
	case err != nil:
		return "", fmt.Errorf("output %s: %w", output, err)
	case n != size || hex.EncodeToString(sum.Sum(nil)) != output:
		return "", errWrong
	}
	if err := os.Chtimes(file.Name(), time.Time{}, f.seal(output, time.Now())); err != nil {
		return "", err
	}
	f.added.Add(size)
	return path, file.CommitAs(path, durable.NoSync)
}

// trimmed is a file whose time is when the directory was trimmed last.
const trimmed = "trimmed"

// trim removes what was not used for longest, until there are at most max bytes. It
// looks once a day, or when much has come. What a build may be using stays.
func (f *files) trim(max int64) {
	mark := filepath.Join(f.dir, trimmed)
	fi, err := os.Stat(mark)
	if max == 0 || err == nil && time.Since(fi.ModTime()).Abs() < 24*time.Hour && f.added.Load() < max/16 {
		return
	}
	if durable.WriteFile(mark, nil, durable.NoSync) != nil {
		return
	}
	type file struct {
		path string
		used time.Time
		size int64
	}
	var all []file
	var total int64
	_ = filepath.WalkDir(f.dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // somebody else trims
		case e.IsDir():
			_ = durable.RemoveStale(path, fresh)
			return nil
		case len(e.Name()) != 2*hashSize || strings.HasPrefix(e.Name(), "tmp-"):
			return nil
		}
		if fi, err := e.Info(); err == nil {
			all = append(all, file{path, fi.ModTime(), fi.Size()})
			total += fi.Size()
		}
		return nil
	})
	slices.SortFunc(all, func(a, b file) int { return a.used.Compare(b.used) })
	for _, old := range all {
		if total <= max || time.Since(old.used) < 2*fresh {
			return
		}
		if durable.Remove(old.path) == nil {
			total -= old.size
		}
	}
}
