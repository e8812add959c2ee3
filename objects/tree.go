package objects

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Mode is the mode of a tree's entry. Git knows five; a cache keeps these four.
type Mode uint32

// The modes of a tree's entries.
const (
	ModeFile    Mode = 0o100644
	ModeExec    Mode = 0o100755
	ModeSymlink Mode = 0o120000
	ModeDir     Mode = 0o040000
)

// Valid reports whether m is one of the four modes.
func (m Mode) Valid() bool {
	return m == ModeFile || m == ModeExec || m == ModeSymlink || m == ModeDir
}

// IsDir reports whether an entry of this mode is a tree.
func (m Mode) IsDir() bool { return m == ModeDir }

// Kind returns what an entry of this mode points to.
func (m Mode) Kind() Kind {
	if m.IsDir() {
		return Tree
	}
	return Blob
}

// An Entry is one name in a tree. (What a person calls a cache entry is a whole
// tree; package entry knows those.)
type Entry struct {
	Mode Mode
	Name string // any bytes but NUL and '/'
	ID   ID
}

// Entries is the content of a tree, in Git's order: by name, as if the name of
// a directory ended in '/'.
//
// A tree's body repeats, for each entry:
//
//	n bytes   mode, octal digits without leading zero ("40000" for a tree)
//	1 byte    space
//	n bytes   name
//	1 byte    NUL
//	32 bytes  id
type Entries []Entry

// EmptyTree is the id of a tree without entries: an empty directory.
var EmptyTree = Sum(Tree, nil)

// ErrBadTree is what every error of ParseTree is.
var ErrBadTree = errors.New("malformed tree")

// CompareEntries is Git's order of the entries of a tree.
func CompareEntries(a, b Entry) int {
	n := min(len(a.Name), len(b.Name))
	if c := strings.Compare(a.Name[:n], b.Name[:n]); c != 0 {
		return c
	}
	return int(sortByte(a, n)) - int(sortByte(b, n))
}

func sortByte(e Entry, i int) byte {
	if i < len(e.Name) {
		return e.Name[i]
	}
	if e.Mode.IsDir() {
		return '/'
	}
	return 0
}

// Sort puts t into Git's order.
func (t Entries) Sort() { slices.SortFunc(t, CompareEntries) }

// Find returns the entry called name.
func (t Entries) Find(name string) (Entry, bool) {
	for _, mode := range [...]Mode{ModeFile, ModeDir} {
		if i, ok := slices.BinarySearchFunc(t, Entry{Mode: mode, Name: name}, CompareEntries); ok {
			return t[i], true
		}
	}
	return Entry{}, false
}

// AppendTo appends the body of the tree to dst. The entries must be in order.
func (t Entries) AppendTo(dst []byte) []byte {
	for _, e := range t {
		switch e.Mode {
		case ModeDir:
			dst = append(dst, "40000 "...)
		case ModeExec:
			dst = append(dst, "100755 "...)
		case ModeSymlink:
			dst = append(dst, "120000 "...)
		default:
			dst = append(dst, "100644 "...)
		}
		dst = append(dst, e.Name...)
		dst = append(dst, 0)
		dst = append(dst, e.ID[:]...)
	}
	return dst
}

// Encode returns the body of the tree. The entries must be in order.
func (t Entries) Encode() []byte {
	n := 0
	for _, e := range t {
		n += len("100644 ") + len(e.Name) + 1 + IDSize
	}
	return t.AppendTo(make([]byte, 0, n))
}

// CheckName refuses what no file system can have as a name in a directory, and
// what would lead out of it.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case name == "." || name == "..":
		return fmt.Errorf("name %q", name)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("name %q holds a slash or NUL", name)
	}
	return nil
}

// ParseTree reads the body of a tree. It takes only what Encode writes: known
// modes, names that CheckName passes, in order, no name twice.
func ParseTree(body []byte) (Entries, error) {
	t := make(Entries, 0, len(body)/48+1)
	for len(body) > 0 {
		e, rest, err := parseEntry(body)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(t), err)
		}
		if len(t) > 0 && CompareEntries(t[len(t)-1], e) >= 0 {
			return nil, fmt.Errorf("%w: entry %q is out of order", ErrBadTree, e.Name)
		}
		t, body = append(t, e), rest
	}
	if name, twice := t.duplicate(); twice {
		return nil, fmt.Errorf("%w: name %q stands twice", ErrBadTree, name)
	}
	return t, nil
}

func parseEntry(body []byte) (Entry, []byte, error) {
	raw, rest, err := CutEntry(body)
	return Entry{Mode: raw.Mode, Name: string(raw.Name), ID: raw.ID}, rest, err
}

// duplicate finds a name that is both a file and a directory. The two need not
// stand side by side: "a", "a.c", "a/".
func (t Entries) duplicate() (string, bool) {
	for _, e := range t {
		if !e.Mode.IsDir() {
			continue
		}
		if _, ok := slices.BinarySearchFunc(t, Entry{Mode: ModeFile, Name: e.Name}, CompareEntries); ok {
			return e.Name, true
		}
	}
	return "", false
}

// ReadTree returns the entries of the tree id.
func ReadTree(ctx context.Context, r Reader, id ID) (Entries, error) {
	if id == EmptyTree {
		return nil, nil
	}
	body, err := ReadKind(ctx, r, id, Tree)
	if err != nil {
		return nil, err
	}
	t, err := ParseTree(body)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, err)
	}
	return t, nil
}
