// Package bundle makes a remote of one file: branches and tags with what they lead to,
// for machines that have no network between them.
//
//	4 bytes   "CTBN"
//	4 bytes   version, 1
//	n bytes   a pack, as package pack writes it
//	m bytes   what the pack is about; see Contents
//	8 bytes   m
//	32 bytes  SHA-256 of the bytes above
//
// Integers are big-endian. What it is about comes last: who writes a bundle to a
// pipe knows only then where history ends in it.
package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

const (
	magic       = "CTBN"
	version     = 1
	headSize    = 8
	trailerSize = 8 + objects.IDSize

	// maxContents is how many bytes the contents may have.
	maxContents = 64 << 20
)

// ErrBad is what every error about the bytes of a bundle is.
var ErrBad = errors.New("damaged, or no bundle")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// Contents say what a bundle is about. As text they are lines, in this order:
//
//	ref ID NAME    a branch or a tag, in the order of names
//	needs ID       a commit that must be there already, with all that it leads to
//	cut ID         a commit whose parents were cut off
type Contents struct {
	Refs  []refs.Ref
	Needs []objects.ID
	Cut   []objects.ID
}

func (c Contents) encode() []byte {
	var b []byte
	for _, r := range c.Refs {
		b = fmt.Appendf(b, "ref %s %s\n", r.ID, r.Name)
	}
	for _, id := range c.Needs {
		b = fmt.Appendf(b, "needs %s\n", id)
	}
	for _, id := range c.Cut {
		b = fmt.Appendf(b, "cut %s\n", id)
	}
	return b
}

// parseContents is the inverse of encode.
func parseContents(text string) (c Contents, err error) {
	if text != "" && !strings.HasSuffix(text, "\n") {
		return c, bad("its last line has no end")
	}
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		hex, name, _ := strings.Cut(rest, " ")
		id, err := objects.ParseID(hex)
		if err != nil {
			return c, bad("line %.100q: %v", line, err)
		}
		switch {
		case word == "ref":
			ref := refs.Ref{Name: refs.Name(name), ID: id}
			if err := ref.Name.Check(); err != nil {
				return c, bad("line %.100q: %v", line, err)
			}
			if n := len(c.Refs); !ref.Name.IsBranch() && !ref.Name.IsTag() || n > 0 && c.Refs[n-1].Name >= ref.Name {
				return c, bad("line %.100q is out of place", line)
			}
			c.Refs = append(c.Refs, ref)
		case word == "needs" && name == "":
			c.Needs = append(c.Needs, id)
		case word == "cut" && name == "":
			c.Cut = append(c.Cut, id)
		default:
			return c, bad("line %.100q", line)
		}
	}
	if string(c.encode()) != text {
		return c, bad("its lines are out of order")
	}
	return c, nil
}

func sorted(ids []objects.ID) []objects.ID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, objects.ID.Compare)
	return slices.Compact(ids)
}
