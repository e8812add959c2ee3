package dune

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Metadata is what Dune keeps of a rule: which files it made. It is one canonical
// s-expression, whose atoms are their length, a colon and their bytes:
//
//	((8:metadata…)(5:files(N:path32:digest)…))
//
// Dune 2 writes the repository and the commit that it worked in behind "metadata":
// what is the same would differ by them, and they are nobody else's business. So
// Encode leaves them out. A directory that a rule made has "<dir>" for a digest.
type Metadata struct{ Targets []Target }

// A Target is one file or directory that a rule made.
type Target struct {
	Path   string // in the build directory, or in that of the rule's targets
	Digest Digest
	IsDir  bool // it has no digest
}

const (
	dirDigest   = "<dir>"
	maxMetadata = 16 << 20 // bytes
	maxDepth    = 100      // of lists in lists, in what is skipped
)

// ErrBadMetadata is what every error of ParseMetadata is.
var ErrBadMetadata = errors.New("malformed metadata")

// Encode returns the s-expression.
func (m Metadata) Encode() []byte {
	var b bytes.Buffer
	b.WriteString("((8:metadata)(5:files")
	for _, t := range m.Targets {
		digest := dirDigest
		if !t.IsDir {
			digest = t.Digest.String()
		}
		fmt.Fprintf(&b, "(%d:%s%d:%s)", len(t.Path), t.Path, len(digest), digest)
	}
	b.WriteString("))")
	return b.Bytes()
}

// ParseMetadata reads what Dune wrote. It refuses paths that lead out of the
// directory in which the files were made.
func ParseMetadata(body []byte) (Metadata, error) {
	if len(body) > maxMetadata {
		return Metadata{}, fmt.Errorf("%w: it has %d bytes", ErrBadMetadata, len(body))
	}
	s := sexp{rest: body}
	var m Metadata
	s.expect("((8:metadata")
	s.skipList()
	s.expect("(5:files")
	for s.next("(") {
		m.Targets = append(m.Targets, s.target())
	}
	s.expect("))")
	if s.err == nil && len(s.rest) > 0 {
		s.fail(fmt.Sprintf("%d bytes too many", len(s.rest)))
	}
	if s.err != nil {
		return Metadata{}, s.err
	}
	return m, nil
}

// target takes what stands between the brackets of one file, and the second.
func (s *sexp) target() (t Target) {
	t.Path = s.atom()
	digest := s.atom()
	s.expect(")")
	if err := checkPath(t.Path); err != nil {
		s.fail(err.Error())
	}
	if t.IsDir = digest == dirDigest; t.IsDir {
		return t
	}
	var ok bool
	if t.Digest, ok = parseDigest(digest); !ok {
		s.fail(fmt.Sprintf("digest %.40q", digest))
	}
	return t
}

// checkPath refuses what Dune could take for a file elsewhere.
func checkPath(path string) error {
	if strings.Contains(path, "\x00") {
		return fmt.Errorf("path %.80q holds NUL", path)
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." {
			return fmt.Errorf("path %.80q", path)
		}
	}
	return nil
}

// sexp reads an s-expression from the front. After the first error nothing is
// read any more.
type sexp struct {
	rest []byte
	err  error
}

func (s *sexp) fail(what string) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: %s", ErrBadMetadata, what)
	}
}

// next takes prefix, if that is what follows.
func (s *sexp) next(prefix string) bool {
	if s.err != nil || !bytes.HasPrefix(s.rest, []byte(prefix)) {
		return false
	}
	s.rest = s.rest[len(prefix):]
	return true
}

func (s *sexp) expect(prefix string) {
	if !s.next(prefix) {
		s.fail(fmt.Sprintf("want %q, have %.20q", prefix, s.rest))
	}
}

// atom takes an atom.
func (s *sexp) atom() string {
	digits, _, ok := bytes.Cut(s.rest[:min(len(s.rest), 20)], []byte(":"))
	n, err := strconv.ParseUint(string(digits), 10, 31)
	if s.err != nil || !ok || err != nil || strconv.FormatUint(n, 10) != string(digits) {
		s.fail(fmt.Sprintf("want an atom, have %.20q", s.rest))
		return ""
	}
	rest := s.rest[len(digits)+1:]
	if n > uint64(len(rest)) {
		s.fail("it is cut short")
		return ""
	}
	s.rest = rest[n:]
	return string(rest[:n])
}

// skipList takes the rest of a list, with the bracket that ends it.
func (s *sexp) skipList() {
	for depth := 1; depth > 0 && s.err == nil; {
		switch {
		case s.next(")"):
			depth--
		case s.next("("):
			if depth++; depth > maxDepth {
				s.fail("lists in lists in lists")
			}
		default:
			s.atom()
		}
	}
}
