// Package pack reads and writes packs, the files that hold objects, and their
// indexes, which say where in a pack an object is.
//
// A pack is a sequence of blocks between a header and a trailer, all numbers
// big-endian:
//
//	4 bytes   "CTPK"
//	4 bytes   version, 1
//
//	any number of blocks:
//	    1 byte    "B"
//	    1 byte    codec: 0 stored as it is, 1 zstd
//	    2 bytes   zero
//	    4 bytes   number of records, at least 1
//	    4 bytes   n, the length of the table
//	    4 bytes   length of the payload, decompressed
//	    4 bytes   m, its length as stored
//	    n bytes   table: for each record uvarint(size << 4 | type)
//	    m bytes   payload: the records, one after the other
//	    4 bytes   CRC-32C of the block up to here
//
//	1 byte    "E"
//	3 bytes   zero
//	4 bytes   number of blocks
//	8 bytes   number of records in all of them
//	32 bytes  SHA-256 of the file up to here; the pack's name
//
// Records are counted through the whole pack, from zero: a record's number says
// which block it is in and where there. A pack holds no ids. Those of most
// records are hashes of what they hold; see Type.
//
// Small objects share a block, so that redundancy across them is found, and one
// read brings many. See Index for the format of indexes.
package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cache-tool/cache-tool/objects"
)

// Type is what a record holds. The first four are the objects.Kinds.
type Type uint8

// The types of records. The id of a chunk is its objects.SumChunk. Recipes and
// deltas stand for an object whose id cannot be computed from them alone, so
// they begin with it.
const (
	Commit Type = 1
	Tree   Type = 2
	Blob   Type = 3
	Tag    Type = 4
	Recipe Type = 8  // a blob as a list of chunks
	Chunk  Type = 9  // a piece of a blob
	Delta  Type = 10 // a tree as the difference to another tree
)

// Valid reports whether t is one of the types.
func (t Type) Valid() bool { return t >= Commit && t <= Tag || t >= Recipe && t <= Delta }

// Kind returns the kind of the object that a record of type t holds, zero for
// chunks: they are no objects.
func (t Type) Kind() objects.Kind {
	switch t {
	case Chunk:
		return 0
	case Recipe:
		return objects.Blob
	case Delta:
		return objects.Tree
	}
	return objects.Kind(t)
}

// IsMeta reports whether records of type t belong to packs of their own, away
// from payload: whoever looks at history or lists entries reads nothing else.
func (t Type) IsMeta() bool { return t == Commit || t == Tree || t == Tag || t == Delta }

func (t Type) String() string {
	switch t {
	case Recipe:
		return "recipe"
	case Chunk:
		return "chunk"
	case Delta:
		return "tree delta"
	}
	return objects.Kind(t).String()
}

const (
	version = 1

	packMagic   = "CTPK"
	headerSize  = 8
	trailerSize = 1 + 3 + 4 + 8 + objects.IDSize

	blockMark       = 'B'
	trailerMark     = 'E'
	blockHeaderSize = 1 + 1 + 2 + 4*4
	crcSize         = 4

	codecRaw  = 0
	codecZstd = 1
)

// The limits of what this package reads and writes. Nothing that a file
// declares makes it allocate more.
const (
	MaxRecord  = objects.MaxInMemory // bytes of one record
	maxRaw     = MaxRecord + 16<<20  // bytes of a block, decompressed
	maxTable   = 64 << 20
	maxRecords = 1<<28 - 1 // in one pack
)

// ErrBadPack is what every error about the content of a pack is, ErrBadIndex
// that of an index.
var (
	ErrBadPack  = errors.New("damaged pack")
	ErrBadIndex = errors.New("damaged pack index")
)

// A VersionError says that a file was written by a newer cache-tool.
type VersionError struct {
	What    string
	Version uint32
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s of version %d: this cache-tool reads up to version %d; a newer one is needed", e.What, e.Version, version)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checkMagic(head []byte, magic, what string, bad error) error {
	if len(head) < 8 || string(head[:4]) != magic {
		return fmt.Errorf("%w: it does not begin with %q", bad, magic)
	}
	if v := binary.BigEndian.Uint32(head[4:]); v != version {
		return &VersionError{what, v}
	}
	return nil
}

func badPack(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBadPack, fmt.Errorf(format, args...))
}

func badIndex(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBadIndex, fmt.Errorf(format, args...))
}
