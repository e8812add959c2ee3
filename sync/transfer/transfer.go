// Package transfer moves objects between this store and others. It knows what no
// remote does: what is to be moved at all, how to cut it into packs that are worth
// sending, and how to go on where a broken connection left off.
//
// Refs are not its business: who pushes sends first and moves refs then, who pulls
// fetches first.
package transfer

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A Meter is told how far a transfer is. Its methods may be called from many
// goroutines at once.
type Meter interface {
	Expect(objects int, bytes int64) // more work is known
	Done(objects int, bytes int64)   // some of it is done
}

// Options say how to transfer. The zero value works.
type Options struct {
	// Shallow are the commits whose parents were cut off here, and ShallowThere those of
	// the remote.
	Shallow, ShallowThere map[objects.ID]bool

	// Parallel is how many packs travel at once. Zero is 4.
	Parallel int

	// PackSize is about how many bytes a pack has: what a broken connection costs.
	// Zero is 64 MiB.
	PackSize int64

	// Promised says that what is not here is at the remote: a Send leaves that to it.
	Promised bool

	// Moves says that refs are moved next, to what was sent: a Send may leave it to that to
	// make the end of it known, so that it is durable only then.
	Moves bool

	// Staged says that what is fetched need not survive a power cut: it can be fetched
	// again.
	Staged bool

	// Then, if not nil, is called when all that was to be fetched is here, and before
	// anybody can collect it again: it is to make refs lead to that. It must use the
	// context that it is given.
	Then func(context.Context, Stats) error

	// DryRun sends nothing, and counts what would be.
	DryRun bool

	Meter Meter // may be nil
}

// Stats say what was moved.
type Stats struct {
	Objects int   // and chunks of big blobs
	Bytes   int64 // of packs
	Packs   int

	// Cut are the commits that are new where they came to, and whose parents do not
	// come along: here they were cut off, or there. A Fetch leaves out those whose
	// parents are here.
	Cut []objects.ID

	// Whole are new commits that were noted as cut off where they came to, as a fetch or a
	// push leaves it that was broken off, and whose parents are there now.
	Whole []objects.ID
}

func (o Options) withDefaults() Options {
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.PackSize <= 0 {
		o.PackSize = 64 << 20
	}
	if o.Meter == nil {
		o.Meter = noMeter{}
	}
	return o
}

type noMeter struct{}

func (noMeter) Expect(int, int64) {}
func (noMeter) Done(int, int64)   {}

// maxAsk is how many ids are asked about at once.
const maxAsk = 32 << 10

// ask puts a question about ids to a remote in pieces, and returns all that it
// answers, in the order of ids.
func ask(ctx context.Context, ids []objects.ID, question func(context.Context, []objects.ID) ([]objects.ID, error)) ([]objects.ID, error) {
	var answer []objects.ID
	for len(ids) > 0 {
		n := min(len(ids), maxAsk)
		part, err := question(ctx, ids[:n])
		if err != nil {
			return nil, err
		}
		answer, ids = append(answer, part...), ids[n:]
	}
	return answer, nil
}

// isDamaged reports whether what came is not what it should be, and not only cut
// short.
func isDamaged(err error) bool {
	return errors.Is(err, pack.ErrBadPack) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// patience is how often a transfer that gets nowhere is tried again, and for how
// long it rests before.
const patience = 4

func rest(ctx context.Context, failed int) error {
	select {
	case <-time.After(time.Duration(failed*failed) * 100 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A refusal is the answer of a remote to what it was asked for, in place of a pack.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// isFinal reports whether there is no sense in trying again: what is cut short may
// be whole the next time, but what is wrong, missing or denied is so again, and a
// remote that does not even begin to answer has asked often enough itself.
func isFinal(ctx context.Context, err error) bool {
	refused := errors.Is(err, objects.ErrNotFound) || errors.Is(err, remote.ErrDenied) || errors.Is(err, remote.ErrUnreachable)
	return isDamaged(err) || refused || errors.As(err, new(refusal)) || ctx.Err() != nil
}
