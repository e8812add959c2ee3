package entry

import (
	"context"
	"io"
	"os"
)

// A Value is what a client keeps under a key. It becomes the body of an entry.
type Value struct {
	Body io.Reader
	Size int64 // of Body; negative if only its end tells

	// File, if it is not nil, holds the value in the place of Body. It is read later,
	// then closed, and must not change meanwhile.
	File *os.File

	Latest bool // the client rewrites the value: see Meta
	Extra  map[string]string
}

// A Stored is a value that a store has.
type Stored struct {
	Meta Meta
	Size int64

	// Open opens the value, which is proven when it has been read to its end.
	Open func(ctx context.Context) (io.ReadCloser, error)
}
