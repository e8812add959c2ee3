// Package refs knows what names point to: branches, tags and what remotes had
// last, with the log of where each has been, and how people name a revision.
//
// Refs are the only thing in a repository that changes its meaning, so every
// move is a compare-and-swap: an Update says what it expects to find, and one
// that finds something else changes nothing. Several refs move together or not
// at all. Files is the Store in a repository.
package refs

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cache-tool/cache-tool/objects"
)

// A Ref is a name and what it points to.
type Ref struct {
	Name Name
	ID   objects.ID
}

// An Update moves one ref from Old to New. A zero Old says that the ref must
// not exist, a zero New deletes it. Where the two are equal nothing moves, but
// the ref must be as it says all the same.
type Update struct {
	Name     Name
	Old, New objects.ID
	Reason   string // one line, for the reflog
}

// A Store keeps refs. It is safe for concurrent use, by other processes too if
// it lasts longer than one.
type Store interface {
	// Get returns what name points to, or ErrNotFound.
	Get(ctx context.Context, name Name) (objects.ID, error)

	// All yields the refs whose names begin with prefix, in the order of their
	// names. It is no snapshot: a ref that moves meanwhile is seen before or
	// after. An error about one ref comes with its name, and the others follow.
	All(ctx context.Context, prefix string) iter.Seq2[Ref, error]

	// Apply makes all updates or none. If any ref is not what its update
	// expects, the error is a *ConflictError and nothing changes. After nil the
	// new values survive whatever the store survives.
	Apply(ctx context.Context, updates ...Update) error
}

// A Logger is a Store that remembers where its refs have been.
type Logger interface {
	// Log returns the moves of name, oldest first. ErrNotFound if there is no
	// such ref: a log goes with its ref.
	Log(ctx context.Context, name Name) ([]LogEntry, error)
}

// ErrNotFound says that there is no such ref. Often that is an answer.
var ErrNotFound = errors.New("no such ref")

// ErrNameTaken says that a ref cannot exist because of another's name: where
// refs/heads/a is, refs/heads/a/b cannot be.
var ErrNameTaken = errors.New("name is taken")

// A ConflictError says that a ref was not what an Update expected.
type ConflictError struct {
	Name         Name
	Is, Expected objects.ID // zero: not there
}

func (e *ConflictError) Error() string {
	switch {
	case e.Is.IsZero():
		return fmt.Sprintf("%s does not exist, expected %s", e.Name, e.Expected.Short())
	case e.Expected.IsZero():
		return fmt.Sprintf("%s exists already, at %s", e.Name, e.Is.Short())
	}
	return fmt.Sprintf("%s is at %s, expected %s", e.Name, e.Is.Short(), e.Expected.Short())
}

// A DamagedError says that something is where the value of a ref should be.
type DamagedError struct {
	Name     Name
	File     string
	Reason   string
	LastGood objects.ID // what the reflog last said; zero if it says nothing
}

func (e *DamagedError) Error() string {
	if e.LastGood.IsZero() {
		return fmt.Sprintf("%s is damaged: %s: %s; no reflog says what it was: "+
			"write the id of its last commit into that file, or remove it", e.Name, e.File, e.Reason)
	}
	return fmt.Sprintf("%s is damaged: %s: %s; its reflog last says %s: "+
		"write that into the file", e.Name, e.File, e.Reason, e.LastGood)
}

// check refuses updates that no store can make.
func check(updates []Update) error {
	seen := map[Name]bool{}
	for _, u := range updates {
		if err := u.Name.Check(); err != nil {
			return err
		}
		if seen[u.Name] {
			return fmt.Errorf("%s: updated twice at once", u.Name)
		}
		seen[u.Name] = true
	}
	return nil
}
