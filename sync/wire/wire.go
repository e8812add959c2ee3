// Package wire encodes what a client and a server of cache-tool say to each
// other over HTTP.
//
// What it knows that no other package does: the bytes of each request and answer,
// how many there may be, and how an error goes in at one end and comes out at the
// other as what it was.
//
// Every request is a POST to /v1/OPERATION with a body of ContentType:
//
//	operation   request                  answer
//	refs        a prefix                 refs, and where history ends
//	missing     ids                      ids
//	bases       ids                      ids
//	fetch       extent, want, have, …    a pack, as a stream
//	paths       budget, roots and paths  a pack, as a stream
//	upload      a pack, as it is         nothing
//	update      updates, cut             nothing
//	uses        uses of entries          nothing
//
// Numbers are big-endian, and lists begin with how many there are, so that no
// list that is cut short looks like a shorter one. Errors are JSON, see Error; a
// stream may end in one, see StreamWriter.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// The operations.
const (
	Refs    = "refs"
	Missing = "missing"
	Bases   = "bases" // as remote.BaseProber
	Fetch   = "fetch"
	Paths   = "paths"
	Upload  = "upload"
	Update  = "update"
	Uses    = "uses" // as remote.UseNoter
)

// Path returns where the operation is, below the URL of the server.
func Path(operation string) string { return "/v1/" + operation }

const (
	// ContentType is that of all bodies but errors. No form on a web page can send
	// it, so that no web page can make a browser talk to a server in the reader's
	// own network.
	ContentType = "application/x-cache-tool"

	// ErrorType is the content type of errors.
	ErrorType = "application/json"
)

// The limits. Nothing that a message declares makes a reader allocate more than
// a small multiple of the bytes that it has got.
const (
	MaxIDs     = 1 << 20 // in one request
	MaxPaths   = 1 << 14
	MaxUpdates = 1 << 12
	MaxCut     = 1 << 16 // commits at which history ends, with an update
	MaxUses    = remote.MaxUses
	MaxName    = 1000 // bytes of a ref's name, of a prefix, of a reason
	MaxPath    = 1<<16 - 1
	MaxRefs    = 96 << 20 // bytes of an answer with refs
)

// MaxRequest is how many bytes the body of a request may have, but for packs.
func MaxRequest(operation string) int64 {
	switch operation {
	case Refs:
		return MaxName
	case Missing, Bases, Fetch:
		return 16 + MaxIDs*objects.IDSize
	case Paths:
		return 8 << 20
	case Update:
		return 4<<20 + MaxCut*objects.IDSize + sumSize
	case Uses:
		return 4 + 12*MaxUses
	}
	return 0
}

// ErrMalformed is what every error about the bytes of a message is.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// A reader cuts a message into its parts. After the first error all parts are
// zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) bytes(n int) []byte {
	if r.err == nil && n > len(r.rest) {
		r.err = malformed("it is cut short")
	}
	if r.err != nil {
		return nil
	}
	p := r.rest[:n]
	r.rest = r.rest[n:]
	return p
}

func (r *reader) number(size int) (n uint64) {
	for _, b := range r.bytes(size) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *reader) id() (id objects.ID) {
	copy(id[:], r.bytes(len(id)))
	return id
}

// text reads a string with its length, of two bytes, in front.
func (r *reader) text(most int) string {
	n := int(r.number(2))
	if n > most && r.err == nil {
		r.err = malformed("a text of %d bytes, more than %d", n, most)
	}
	return string(r.bytes(n))
}

// count reads how many things follow, which have at least size bytes each.
func (r *reader) count(most, size int) int {
	n := r.number(4)
	switch {
	case r.err != nil:
	case n > uint64(most):
		r.err = malformed("%d things, more than %d", n, most)
	case n*uint64(size) > uint64(len(r.rest)):
		r.err = malformed("it is cut short")
	default:
		return int(n)
	}
	return 0
}

func (r *reader) ids(most int) []objects.ID {
	ids := make([]objects.ID, r.count(most, objects.IDSize))
	for i := range ids {
		ids[i] = r.id()
	}
	return ids
}

// end returns the first error, also if there is more than there should be.
func (r *reader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		r.err = malformed("%d bytes too many", len(r.rest))
	}
	return r.err
}

func appendText(dst []byte, s string, most int) []byte {
	s = s[:min(len(s), most)]
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

func appendIDs(dst []byte, ids []objects.ID) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(ids)))
	for i := range ids {
		dst = append(dst, ids[i][:]...)
	}
	return dst
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const sumSize = 4

// seal appends the CRC-32C of a message.
func seal(p []byte) []byte {
	return binary.BigEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

// unseal returns a reader of a message without its checksum, if that is right.
func unseal(p []byte) *reader {
	n := len(p) - sumSize
	switch {
	case n < 0:
		return &reader{err: malformed("it is cut short")}
	case crc32.Checksum(p[:n], castagnoli) != binary.BigEndian.Uint32(p[n:]):
		return &reader{err: malformed("wrong checksum: it is not as it was sent")}
	}
	return &reader{rest: p[:n]}
}

// EncodeIDs returns a list of ids: how many in 4 bytes, then 32 bytes each.
func EncodeIDs(ids []objects.ID) []byte {
	return appendIDs(make([]byte, 0, 4+len(ids)*objects.IDSize), ids)
}

// ParseIDs is the inverse of EncodeIDs, for at most MaxIDs.
func ParseIDs(p []byte) ([]objects.ID, error) {
	r := &reader{rest: p}
	ids := r.ids(MaxIDs)
	return ids, r.end()
}

// EncodeRefs returns a list of refs, sorted by their names: how many in 4 bytes,
// then each as 32 bytes id, 2 bytes length of the name, name; then the commits whose
// parents were cut off; then the checksum, since nothing else proves a name.
func EncodeRefs(all []refs.Ref, shallow []objects.ID) []byte {
	dst := binary.BigEndian.AppendUint32(nil, uint32(len(all)))
	for _, ref := range all {
		dst = append(dst, ref.ID[:]...)
		dst = appendText(dst, string(ref.Name), MaxName)
	}
	return seal(appendIDs(dst, shallow))
}

// ParseRefs is the inverse of EncodeRefs. It refuses bad names, and names that
// are not in order.
func ParseRefs(p []byte) (all []refs.Ref, shallow []objects.ID, err error) {
	r := unseal(p)
	const least = objects.IDSize + 2
	n := r.count(MaxRefs/least, least)
	all = make([]refs.Ref, 0, n)
	for range n {
		ref := refs.Ref{ID: r.id(), Name: refs.Name(r.text(MaxName))}
		if r.err != nil {
			return nil, nil, r.err
		}
		if err := ref.Name.Check(); err != nil {
			return nil, nil, malformed("%v", err)
		}
		if len(all) > 0 && all[len(all)-1].Name >= ref.Name {
			return nil, nil, malformed("%s is not in order", ref.Name)
		}
		all = append(all, ref)
	}
	shallow = r.ids(MaxIDs)
	return all, shallow, r.end()
}
