package gitbridge

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"

	"github.com/cache-tool/cache-tool/objects"
)

// An oid names an object of the server: SHA-1 of kind, size and body. The zero oid
// names nothing.
type oid [sha1.Size]byte

func (o oid) String() string { return hex.EncodeToString(o[:]) }

func (o oid) isZero() bool { return o == oid{} }

func (o oid) compare(other oid) int { return bytes.Compare(o[:], other[:]) }

func parseOID(s string) (o oid, err error) {
	if len(s) != 2*len(o) {
		return o, fmt.Errorf("%.80q is no id of SHA-1", s)
	}
	if _, err := hex.Decode(o[:], []byte(s)); err != nil {
		return oid{}, fmt.Errorf("%.80q is no id of SHA-1", s)
	}
	return o, nil
}

// start adds to h what stands before the body where an id is computed.
func start(h hash.Hash, k objects.Kind, size int64) hash.Hash {
	var room [32]byte
	head := append(append(room[:0], k.String()...), ' ')
	h.Write(append(strconv.AppendInt(head, size, 10), 0))
	return h
}

func sumOID(k objects.Kind, body []byte) (o oid) {
	h := start(sha1.New(), k, int64(len(body)))
	h.Write(body)
	h.Sum(o[:0])
	return o
}

// emptyTree is the tree without entries, which need not be stored by anybody.
var emptyTree = sumOID(objects.Tree, nil)
