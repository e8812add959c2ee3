package remote

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

// A Root says which file is the root of a bucket.
type Root struct {
	Seq   uint64     // counts the roots, from 1
	Hash  objects.ID // SHA-256 of the file, which is called so
	Nonce uint64     // no two attempts to make a root have the same
}

// Next returns a root to put in r's place.
func (r Root) Next(hash objects.ID) Root {
	return Root{Seq: r.Seq + 1, Hash: hash, Nonce: rand.Uint64()}
}

// IsZero reports whether r is no root.
func (r Root) IsZero() bool { return r == Root{} }

// String returns r as the name of a file: the sequence in 16 hexadecimal digits,
// a dash, the hash, a dash, the nonce in 16 digits.
func (r Root) String() string { return fmt.Sprintf("%016x-%s-%016x", r.Seq, r.Hash, r.Nonce) }

// ParseRoot is the inverse of Root.String.
func ParseRoot(s string) (Root, error) {
	seq, rest, _ := strings.Cut(s, "-")
	hash, nonce, _ := strings.Cut(rest, "-")
	var r Root
	var err error
	if r.Seq, err = strconv.ParseUint(seq, 16, 64); err == nil {
		r.Nonce, err = strconv.ParseUint(nonce, 16, 64)
	}
	if err == nil {
		r.Hash, err = objects.ParseID(hash)
	}
	// The way back finds signs, missing zeros and capitals.
	if err != nil || r.Seq == 0 || r.String() != s {
		return Root{}, fmt.Errorf("%.200q is no name of a root", s)
	}
	return r, nil
}

// CheckSwap refuses what Bucket.Swap cannot do.
func CheckSwap(old, next Root) error {
	if next.Seq != old.Seq+1 || next.Nonce == old.Nonce {
		return fmt.Errorf("swap of root %s: %s cannot follow it", old, next)
	}
	return nil
}

// Settle tells what became of an attempt to replace old by next, of which
// nothing is known, by what is the root now. Done reports whether the attempt
// won. If neither that nor an error is returned, old is still the root.
func Settle(old, next, is Root) (done bool, err error) {
	switch {
	case is == next:
		return true, nil
	case is == old:
		return false, nil
	case is.Seq == next.Seq:
		return false, fmt.Errorf("%w: the root is %s", ErrLost, is)
	}
	return false, fmt.Errorf("swap of root %s: %w, and %s has followed since", old, ErrUnsure, is)
}

// Info is what List says about a file.
type Info struct {
	Name string
	Size int64
	Time time.Time // when it was put, by the clock of the storage; zero if that does not say
}

// Dirs are the directories of a bucket.
var Dirs = []string{"packs", "indexes", "roots", "uses"}

// CheckName holds the names of files in a bucket to the form dir/name: one of
// Dirs, and lower-case letters, digits, dashes and single dots, which every
// storage can keep apart.
func CheckName(name string) error {
	dir, base, ok := strings.Cut(name, "/")
	if !ok || CheckDir(dir) != nil || !IsBase(base) {
		return fmt.Errorf("%.200q is no name for a file in a bucket", name)
	}
	return nil
}

// CheckDir refuses what is not one of Dirs.
func CheckDir(dir string) error {
	for _, d := range Dirs {
		if d == dir {
			return nil
		}
	}
	return fmt.Errorf("%.200q is no directory of a bucket", dir)
}

// IsBase reports whether a file in a bucket may be called base within its
// directory. Whatever else an implementation finds there is not the bucket's.
func IsBase(base string) bool {
	if base == "" || len(base) > 200 || strings.HasPrefix(base, Pending) {
		return false
	}
	for part := range strings.SplitSeq(base, ".") {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// Pending begins the names of files that are not yet what they will be, as it
// does in package durable. List leaves them out.
const Pending = "tmp-"
