// Package objects knows the names and bytes of what a cache holds: blobs,
// trees, commits and tags, encoded byte for byte as Git encodes them in a
// repository of object format sha256, so that Git itself can check everything.
//
// It touches no file and no network; the packages below it do.
//
// Source: Git's hash-function-transition and gitformat-pack documents.
package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Kind is what an object is. The values are those of Git's pack format.
type Kind uint8

// The four kinds of objects.
const (
	Commit Kind = 1
	Tree   Kind = 2
	Blob   Kind = 3
	Tag    Kind = 4
)

var kindNames = [...]string{Commit: "commit", Tree: "tree", Blob: "blob", Tag: "tag"}

// String returns the word that Git uses in an object's header.
func (k Kind) String() string {
	if !k.Valid() {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// Valid reports whether k is one of the four kinds.
func (k Kind) Valid() bool { return k >= Commit && k <= Tag }

// ParseKind is the inverse of Kind.String.
func ParseKind(s string) (Kind, error) {
	for k := Commit; k <= Tag; k++ {
		if kindNames[k] == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("object kind %q: not blob, tree, commit or tag", s)
}

// ErrNotFound says that a store does not hold the object asked for. For a
// cache that is an answer: a miss.
var ErrNotFound = errors.New("object not found")

// A DamagedError says that an object is stored, and that no stored copy of it
// hashes to its id. To a cache it is a miss with a warning.
type DamagedError struct {
	ID     ID
	Reason string
}

func (e *DamagedError) Error() string { return fmt.Sprintf("object %s is damaged: %s", e.ID, e.Reason) }

// Is makes a damaged object answer to ErrNotFound: whoever can do without it
// need not tell the two apart.
func (e *DamagedError) Is(target error) bool { return target == ErrNotFound }

// Object is an open object. Its id is proven when Body returns io.EOF; a body
// that does not hash to the id ends in a *DamagedError instead.
type Object struct {
	Kind Kind
	Size int64 // bytes of the body
	Body io.ReadCloser
}

// A Reader opens objects by id. An unknown id is ErrNotFound.
type Reader interface {
	Open(ctx context.Context, id ID) (Object, error)
}

// A Prober says which of ids it does not hold, in the order given.
type Prober interface {
	Missing(ctx context.Context, ids []ID) ([]ID, error)
}

// A Writer keeps objects. Put reads exactly size bytes of body; what is
// durable when it returns is for the implementation to say.
type Writer interface {
	Put(ctx context.Context, k Kind, size int64, body io.Reader) (ID, error)
}

// MaxInMemory bounds the objects that Read takes into memory: trees, commits,
// tags and small blobs. 128 MiB is a directory of about a million names.
const MaxInMemory = 128 << 20

// A BytesReader is a Reader that has whole small objects at hand.
// The bytes belong to the store: they must not be changed.
type BytesReader interface {
	ReadBytes(ctx context.Context, id ID) (Kind, []byte, error)
}

// Read returns a whole object of at most MaxInMemory bytes, its id proven. The
// bytes must not be changed.
func Read(ctx context.Context, r Reader, id ID) (Kind, []byte, error) {
	if fast, ok := r.(BytesReader); ok {
		return fast.ReadBytes(ctx, id)
	}
	o, err := r.Open(ctx, id)
	if err != nil {
		return 0, nil, err
	}
	defer o.Body.Close()
	if o.Size > MaxInMemory {
		return 0, nil, fmt.Errorf("%s %s: %d bytes are too many to read at once", o.Kind, id, o.Size)
	}
	var body bytes.Buffer
	body.Grow(int(o.Size) + bytes.MinRead)
	if _, err := body.ReadFrom(o.Body); err != nil {
		return 0, nil, fmt.Errorf("%s %s: %w", o.Kind, id, err)
	}
	return o.Kind, body.Bytes(), nil
}

// An EachReader reads many objects in the order that suits it, and calls fn for each,
// concurrently; body is valid until fn returns.
type EachReader interface {
	Each(ctx context.Context, ids []ID, fn func(i int, k Kind, body []byte, err error) error) error
}

// ReadEach calls fn with each of ids, or with the reason why it can't be read, as an
// EachReader does.
func ReadEach(ctx context.Context, r Reader, ids []ID, fn func(i int, k Kind, body []byte, err error) error) error {
	if each, ok := r.(EachReader); ok {
		return each.Each(ctx, ids, fn)
	}
	for i, id := range ids {
		k, body, err := Read(ctx, r, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fn(i, k, body, err); err != nil {
			return err
		}
	}
	return nil
}

// ReadKind is Read for a caller who knows what the object must be.
func ReadKind(ctx context.Context, r Reader, id ID, want Kind) ([]byte, error) {
	k, body, err := Read(ctx, r, id)
	if err != nil {
		return nil, err
	}
	if k != want {
		return nil, fmt.Errorf("%s: is a %s, want a %s", id, k, want)
	}
	return body, nil
}
