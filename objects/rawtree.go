package objects

import (
	"bytes"
	"errors"
	"fmt"
)

// A RawEntry is an entry as it stands in the body of a tree. Its slices point
// into that body.
type RawEntry struct {
	Mode Mode
	Name []byte
	ID   ID
	Raw  []byte // the entry's bytes
}

// CutEntry takes the first entry off the body of a tree, without allocating. It
// is for those who touch few entries of a tree, or only its ids. It checks one
// entry as ParseTree does, but neither the order nor that names differ.
func CutEntry(body []byte) (e RawEntry, rest []byte, err error) {
	mode, digits := cutMode(body)
	if mode == 0 {
		return e, nil, fmt.Errorf("%w: unknown mode %q", ErrBadTree, body[:min(7, len(body))])
	}
	end := bytes.IndexByte(body[digits:], 0) + digits
	if end < digits || len(body) < end+1+IDSize {
		return e, nil, fmt.Errorf("%w: %w", ErrBadTree, errCutShort)
	}
	e = RawEntry{Mode: mode, Name: body[digits:end], Raw: body[:end+1+IDSize]}
	switch name := e.Name; {
	case len(name) == 0, name[0] == '.' && len(name) == 1, name[0] == '.' && len(name) == 2 && name[1] == '.',
		bytes.IndexByte(name, '/') >= 0:
		return e, nil, fmt.Errorf("%w: %w", ErrBadTree, CheckName(string(name)))
	}
	copy(e.ID[:], body[end+1:])
	return e, body[end+1+IDSize:], nil
}

var errCutShort = errors.New("cut short")

// cutMode returns the mode at the head of an entry and how many bytes it takes,
// zero if it is none of the four.
func cutMode(body []byte) (Mode, int) {
	switch {
	case hasPrefix(body, "100644 "):
		return ModeFile, 7
	case hasPrefix(body, "40000 "):
		return ModeDir, 6
	case hasPrefix(body, "100755 "):
		return ModeExec, 7
	case hasPrefix(body, "120000 "):
		return ModeSymlink, 7
	}
	return 0, 0
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}
