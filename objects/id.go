package objects

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
)

// IDSize is the number of bytes in an ID.
const IDSize = sha256.Size

// ID names an object: the SHA-256 of its kind, size and body, as Git computes
// it in a repository of object format sha256. The zero ID names nothing.
type ID [IDSize]byte

// String returns the 64 lower-case hexadecimal digits of id.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 12 digits, for people.
func (id ID) Short() string { return hex.EncodeToString(id[:6]) }

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders ids by their bytes: -1, 0 or +1.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// MarshalText makes an ID a string of digits in JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// ParseID reads the 64 hexadecimal digits that String writes.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*IDSize {
		return ID{}, fmt.Errorf("object id %q: %d digits, want %d", s, len(s), 2*IDSize)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("object id %q: %w", s, err)
	}
	return id, nil
}

// Sum returns the id of the object with this kind and body.
func Sum(k Kind, body []byte) ID {
	return sum(k.String(), body)
}

// SumChunk returns the id of a piece of a big blob. Chunks live beneath the
// blobs' identity and in a domain of their own, "chunk <size>\0", so that no
// chunk can be taken for a blob.
func SumChunk(body []byte) ID {
	return sum("chunk", body)
}

func sum(kind string, body []byte) ID {
	var room [32]byte
	h := sha256.New()
	h.Write(appendHeader(room[:0], kind, int64(len(body))))
	h.Write(body)
	var id ID
	h.Sum(id[:0])
	return id
}

func appendHeader(dst []byte, kind string, size int64) []byte {
	dst = append(dst, kind...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, size, 10)
	return append(dst, 0)
}

// A Hasher computes the id of an object whose size is known and whose body
// comes in pieces.
type Hasher struct {
	h    hash.Hash
	want int64
	got  int64
}

// NewHasher starts the id of an object of kind k and of size bytes.
func NewHasher(k Kind, size int64) *Hasher {
	var room [32]byte
	h := sha256.New()
	h.Write(appendHeader(room[:0], k.String(), size))
	return &Hasher{h: h, want: size}
}

// Write adds p to the body. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	h.got += int64(len(p))
	return h.h.Write(p)
}

// ID returns the id, or an error if the body is not as long as was announced.
func (h *Hasher) ID() (ID, error) {
	if h.got != h.want {
		return ID{}, fmt.Errorf("object body has %d bytes, announced were %d", h.got, h.want)
	}
	var id ID
	h.h.Sum(id[:0])
	return id, nil
}
