package gitbridge

import (
	"strings"

	"github.com/cache-tool/cache-tool/objects"
)

// A blob that is too big for the server is there a tree of its pieces, which stands in
// another tree that says as what the blob stands where it does:
//
//	lib.so → { cache-tool-blob → { 00000000, 00000001, … } }
//
// These names are taken: a file that is called so, with any number of % after it, has
// one more there.
const (
	pieceTree     = "cache-tool-blob"
	execPieceTree = "cache-tool-blob-exec"
)

// isTaken reports whether a name is one of those that are taken, with or without % after it.
func isTaken(name string) bool {
	name = strings.TrimRight(name, "%")
	return name == pieceTree || name == execPieceTree
}

// escape returns how a name is called on the server.
func escape(name string) string {
	if isTaken(name) {
		return name + "%"
	}
	return name
}

// unescape is the inverse of escape. A name that no escape returns is false.
func unescape(name string) (string, bool) {
	if !isTaken(name) {
		return name, true
	}
	return strings.CutSuffix(name, "%")
}

// wrap returns the tree that says as what a blob stands that is a tree of pieces.
func wrap(m objects.Mode, pieces oid) (body []byte, as form) {
	name, as := pieceTree, asFile
	if m == objects.ModeExec {
		name, as = execPieceTree, asExec
	}
	return appendEntry(nil, objects.ModeDir, name, pieces), as
}

// unwrap is the inverse of wrap.
func unwrap(body []byte) (m objects.Mode, pieces oid, ok bool) {
	mode, name, at, rest, err := cutEntry(body)
	if err != nil || len(rest) > 0 || mode != objects.ModeDir {
		return 0, oid{}, false
	}
	switch name {
	case pieceTree:
		return objects.ModeFile, at, true
	case execPieceTree:
		return objects.ModeExec, at, true
	}
	return 0, oid{}, false
}
