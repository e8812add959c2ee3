package action

import (
	"context"
	"iter"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

// Deps is the kind of the entries that hold Sets. Their keys are those of
// actions without the inputs that were discovered.
const Deps entry.Kind = "deps"

// A Store is the repository as a run sees it: with one branch to write to and a
// scope of branches to read. Lookup sees what other processes have staged by
// the time it is called; a miss is objects.ErrNotFound.
type Store interface {
	worktree.Source
	objects.Prober
	Lookup(ctx context.Context, kind entry.Kind, key string) (objects.ID, error)
	Change(ctx context.Context) (Change, error)

	// Entries returns the entries of a kind in the scope. Only Explain asks.
	Entries(ctx context.Context, kind entry.Kind) iter.Seq2[Found, error]
}

// Found is an entry in a store.
type Found struct {
	Key string
	ID  objects.ID
}

// A Change gathers objects and names some of them entries. Stage adds the
// entries to the branch's stage at once, to survive the end of the process;
// Close without it leaves no trace. From the first object on nothing that the
// change relies on is collected.
type Change interface {
	objects.Writer
	worktree.Writer
	PutBytes(k objects.Kind, body []byte) (objects.ID, error)
	Set(kind entry.Kind, key string, id objects.ID)
	Stage(ctx context.Context) error
	Close() error
}
