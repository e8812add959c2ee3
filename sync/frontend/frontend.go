// Package frontend is the cache as build tools see it: values by key, over plain HTTP.
//
// What a build tool wants is in a package of its own below this one, which says how
// its requests name values: see Client. What all want is here: nobody gets in without
// the token, no value is held in memory as a whole unless it is small, none leaves
// before it is proven, and whatever goes wrong is a miss, or a value that is accepted
// and dropped. A cache never fails a build.
//
// A URL is
//
//	http://HOST:PORT/TOKEN/KIND/…
//
// where KIND is that of the client's entries, and what follows is up to the client.
package frontend

import (
	"context"

	"github.com/cache-tool/cache-tool/objects/entry"
)

// A Store keeps values. It may be used from many goroutines at once.
type Store interface {
	// Get returns the value of a key. A miss is objects.ErrNotFound.
	Get(ctx context.Context, kind entry.Kind, key string) (entry.Stored, error)

	// Put reads a value to its end and keeps it. An error of reading it is returned,
	// and nothing is kept.
	Put(ctx context.Context, kind entry.Kind, key string, v entry.Value) error

	// Delete takes a value out.
	Delete(ctx context.Context, kind entry.Kind, key string) error
}

// A Client is a build tool that keeps values with GET, HEAD, PUT and DELETE.
type Client struct {
	Kind entry.Kind

	// Parse says what is meant by the path of a URL, without a slash in front.
	Parse func(path string) (Name, bool)

	// IsLatest tells by its first bytes whether the client will write a value again,
	// so that in a merge the newest wins. Nil: it does with none.
	IsLatest func(head []byte) bool

	// ContentType is that of the values; empty for any.
	ContentType string
}

// A Name is what a request calls a value.
type Name struct {
	Key string

	// SHA256 is what the value must hash to, in hexadecimal; empty if its name does
	// not say.
	SHA256 string
}

// headSize is how many bytes IsLatest gets.
const headSize = 64
