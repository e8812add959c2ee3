package gitbridge

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
)

// ErrForeign says that the server has something that no push of ours has made, and that
// a cache cannot keep.
var ErrForeign = errors.New("no object that a cache can keep")

// appendEntry appends an entry to the body of a tree of the server.
func appendEntry(dst []byte, m objects.Mode, name string, at oid) []byte {
	dst = fmt.Appendf(dst, "%o %s\x00", uint32(m), name)
	return append(dst, at[:]...)
}

// cutEntry takes the first entry off the body of a tree of the server.
func cutEntry(body []byte) (m objects.Mode, name string, at oid, rest []byte, err error) {
	mode, rest, ok := bytes.Cut(body, []byte{' '})
	if !ok {
		return 0, "", oid{}, nil, fmt.Errorf("%w: a malformed tree", ErrForeign)
	}
	switch string(mode) {
	case "100644":
		m = objects.ModeFile
	case "100755":
		m = objects.ModeExec
	case "120000":
		m = objects.ModeSymlink
	case "40000":
		m = objects.ModeDir
	default:
		return 0, "", oid{}, nil, fmt.Errorf("%w: an entry of mode %.10q in a tree", ErrForeign, mode)
	}
	raw, rest, ok := bytes.Cut(rest, []byte{0})
	if !ok || len(rest) < len(at) {
		return 0, "", oid{}, nil, fmt.Errorf("%w: a malformed tree", ErrForeign)
	}
	if err := objects.CheckName(string(raw)); err != nil {
		return 0, "", oid{}, nil, fmt.Errorf("%w: %w in a tree", ErrForeign, err)
	}
	copy(at[:], rest)
	return m, string(raw), at, rest[len(at):], nil
}

// cutHeader begins a line of a commit whose parents the server does not have: it has an
// id of SHA-256. There is one for each parent, and they end the header.
const cutHeader = "cache-tool-cut "

// takeLine takes a line "name id" off the front of a body.
func takeLine[T any](body []byte, name string, parse func(string) (T, error)) (id T, rest []byte, ok bool) {
	after, ok := bytes.CutPrefix(body, []byte(name+" "))
	if !ok {
		return id, body, false
	}
	digits, rest, ok := bytes.Cut(after, []byte{'\n'})
	if !ok {
		return id, body, false
	}
	id, err := parse(string(digits))
	return id, rest, err == nil && strings.ToLower(string(digits)) == string(digits)
}

// takeCommit takes the lines with ids off the front of a commit.
func takeCommit[T any](body []byte, parse func(string) (T, error)) (tree T, parents []T, rest []byte, ok bool) {
	tree, rest, ok = takeLine(body, "tree", parse)
	for more := ok; more; {
		var p T
		var after []byte
		if p, after, more = takeLine(rest, "parent", parse); more {
			parents, rest = append(parents, p), after
		}
	}
	if bytes.HasPrefix(rest, []byte("parent ")) {
		return tree, nil, rest, false
	}
	return tree, parents, rest, ok
}

// makeCommit is the inverse of takeCommit.
func makeCommit[T fmt.Stringer](tree T, parents []T, rest []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	b.Write(rest)
	return b.Bytes()
}

// addCut adds to what follows the ids in a commit the parents that were cut off.
func addCut(rest []byte, parents []objects.ID) ([]byte, error) {
	head, message, ok := bytes.Cut(rest, []byte("\n\n"))
	if !ok || bytes.Contains(head, []byte("\n"+cutHeader)) {
		return nil, errors.New("malformed commit")
	}
	var b bytes.Buffer
	b.Write(head)
	for _, p := range parents {
		fmt.Fprintf(&b, "\n%s%s", cutHeader, p)
	}
	b.WriteString("\n\n")
	b.Write(message)
	return b.Bytes(), nil
}

// takeCut is the inverse of addCut.
func takeCut(rest []byte) (plain []byte, parents []objects.ID, err error) {
	head, message, ok := bytes.Cut(rest, []byte("\n\n"))
	at := bytes.Index(head, []byte("\n"+cutHeader))
	if !ok || at < 0 {
		return rest, nil, nil
	}
	for line := range bytes.SplitSeq(head[at+1:], []byte{'\n'}) {
		digits, ok := bytes.CutPrefix(line, []byte(cutHeader))
		id, err := objects.ParseID(string(digits))
		if !ok || err != nil || hex.EncodeToString(id[:]) != string(digits) {
			return nil, nil, fmt.Errorf("%w: a malformed commit", ErrForeign)
		}
		parents = append(parents, id)
	}
	plain = append(bytes.Clone(head[:at]), "\n\n"...)
	return append(plain, message...), parents, nil
}

// takeTag takes what a tag says about its object off its front.
func takeTag[T any](body []byte, parse func(string) (T, error)) (object T, k objects.Kind, rest []byte, ok bool) {
	object, rest, ok = takeLine(body, "object", parse)
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	word, isType := strings.CutPrefix(string(line), "type ")
	k, err := objects.ParseKind(word)
	return object, k, rest, ok && isType && err == nil
}

// makeTag is the inverse of takeTag.
func makeTag[T fmt.Stringer](object T, rest []byte) []byte {
	return append(fmt.Appendf(nil, "object %s\n", object), rest...)
}
