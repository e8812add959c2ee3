package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// An exchange is one conversation of this repository with a remote, for push,
// fetch and pull.
type exchange struct {
	s *session
	r *repo.Repo
	m remoteStore
	remote.Remote

	there   map[refs.Name]objects.ID // the remote's refs as last seen
	stats   transfer.Stats
	settled []trees.Conflict
	meter   *meter

	packSize int64 // of the packs that travel; 0: as usual
}

// exchangeWith begins a conversation with a remote, and learns its refs.
func (s *session) exchangeWith(ctx context.Context, r *repo.Repo, m remoteStore, toWrite bool) (*exchange, error) {
	conn, err := s.connect(ctx, r, m, toWrite)
	if err != nil {
		return nil, err
	}
	x := &exchange{s: s, r: r, m: m, Remote: conn}
	return x, x.look(ctx)
}

// look learns where the remote's refs are.
func (x *exchange) look(ctx context.Context) error {
	x.there = map[refs.Name]objects.ID{}
	for ref, err := range x.Refs(ctx, "refs/") {
		if err != nil {
			return remoteError(x.m, err)
		}
		x.there[ref.Name] = ref.ID
	}
	if x.m.lazy {
		_ = os.Remove(silentFile(x.r)) // it answers
	}
	return nil
}

// options of a transfer.
func (x *exchange) options(ctx context.Context) (transfer.Options, error) {
	o := transfer.Options{Promised: x.m.lazy, PackSize: x.packSize}
	if x.meter != nil {
		o.Meter = x.meter
	}
	var err error
	if o.Shallow, err = x.r.Shallow(); err != nil {
		return o, err
	}
	there, ok := x.Remote.(remote.Cutter)
	if !ok {
		return o, nil
	}
	ids, err := there.Shallow(ctx)
	if err != nil {
		return o, remoteError(x.m, err)
	}
	o.ShallowThere = map[objects.ID]bool{}
	for _, id := range ids {
		o.ShallowThere[id] = true
	}
	return o, nil
}

func (x *exchange) count(stats transfer.Stats) {
	x.stats.Objects += stats.Objects
	x.stats.Bytes += stats.Bytes
	x.stats.Packs += stats.Packs
}

// send makes sure that the remote has tips with all that they lead to. It returns the
// commits at which what was sent ends, since history was cut off here.
func (x *exchange) send(ctx context.Context, tips []objects.ID, dryRun bool) (cut []objects.ID, err error) {
	o, err := x.options(ctx)
	if err != nil {
		return nil, err
	}
	o.DryRun, o.Moves = dryRun, true
	if x.m.lazy {
		ctx = odb.Local(ctx) // what is not here is there
	}
	var have []objects.ID
	for _, id := range x.there {
		have = append(have, id)
	}
	stats, err := transfer.Send(ctx, x.r.DB, x.Remote, tips, have, o)
	x.count(stats)
	return stats.Cut, remoteError(x.m, err)
}

// move moves refs of the remote, after all was sent that they lead to.
func (x *exchange) move(ctx context.Context, cut []objects.ID, updates []refs.Update) error {
	there, ok := x.Remote.(remote.Cutter)
	if !ok {
		return collected(x.Update(ctx, updates...)) // which says what it lacks
	}
	return collected(there.UpdateCut(ctx, cut, updates...))
}

// errCollected says that the remote lacks something of which it did not say so before.
var errCollected = errors.New("what was there has been collected meanwhile")

func collected(err error) error {
	if errors.Is(err, objects.ErrNotFound) {
		return fmt.Errorf("%w: %w", errCollected, err)
	}
	return err
}

// bring makes sure that tips are here: their commits alone if lazy, else with all
// that they lead to.
//
// Then is called while nobody can collect what has come, and makes refs lead to it.
func (x *exchange) bring(ctx context.Context, tips []objects.ID, lazy bool, then func(context.Context) error) error {
	o, err := x.options(ctx)
	if err != nil {
		return err
	}
	var failed error
	o.Then = func(ctx context.Context, stats transfer.Stats) error {
		if failed = x.noteCuts(ctx, stats); failed == nil {
			failed = then(ctx)
		}
		return failed
	}
	have, err := x.known(ctx)
	if err != nil {
		return err
	}
	fetch := transfer.Fetch
	if lazy {
		fetch = transfer.FetchHistory
	}
	stats, err := fetch(ctx, x.r.DB, x.Remote, tips, have, o)
	x.count(stats)
	if failed != nil {
		return failed // which is not the remote's fault
	}
	return remoteError(x.m, err)
}

// again calls fn, and once more as long as what it misses at the remote may have been
// collected because a branch has moved on.
func (x *exchange) again(ctx context.Context, fn func() error) error {
	const tries = 10
	for try := 1; ; try++ {
		err := fn()
		if !errors.Is(err, objects.ErrNotFound) || try == tries {
			return err
		}
		before := x.there
		if x.look(ctx) != nil || maps.Equal(before, x.there) {
			return err
		}
	}
}

// noteCuts notes where the history ends that has come, before a ref leads to it.
func (x *exchange) noteCuts(ctx context.Context, stats transfer.Stats) error {
	if len(stats.Cut)+len(stats.Whole) == 0 {
		return nil
	}
	return x.r.EditShallow(ctx, func(shallow map[objects.ID]bool) {
		for _, id := range stats.Cut {
			shallow[id] = true
		}
		for _, id := range stats.Whole {
			delete(shallow, id)
		}
	})
}

// known returns the commits that are here with all that they lead to, or, in a
// lazy repository, with all their history.
func (x *exchange) known(ctx context.Context) ([]objects.ID, error) {
	var have []objects.ID
	for ref, err := range x.r.Refs.All(ctx, "refs/") {
		if err != nil {
			x.s.warn("%v", err)
			continue
		}
		have = append(have, ref.ID)
	}
	return have, nil
}

// tracking returns the ref that remembers where a branch of the remote is; empty
// for a remote without a name, and for what is no branch.
func (x *exchange) tracking(branch refs.Name) refs.Name {
	if x.m.name == "" || !branch.IsBranch() {
		return ""
	}
	return refs.Remote(x.m.name, branch.Short())
}

// remember notes where a branch of the remote is now; zero if it is gone.
func (x *exchange) remember(ctx context.Context, branch refs.Name, id objects.ID, why string) error {
	name := x.tracking(branch)
	if name == "" {
		return nil
	}
	for {
		old, err := x.r.Refs.Get(ctx, name)
		if err != nil && !errors.Is(err, refs.ErrNotFound) {
			return err
		}
		if old == id {
			return nil
		}
		err = x.r.Refs.Apply(ctx, refs.Update{Name: name, Old: old, New: id, Reason: why})
		if !errors.As(err, new(*refs.ConflictError)) {
			return err
		}
	}
}

// merge brings a commit of the remote into a branch. What reached the remote first
// stays; which keys that concerns is told at the end.
func (x *exchange) merge(ctx context.Context, branch refs.Name, theirs objects.ID) (repo.Merged, error) {
	const tries = 20
	message := fmt.Sprintf("Merge %s of %s", branch.Short(), x.m)
	o, err := x.options(ctx)
	if err != nil {
		return repo.Merged{}, err
	}
	for try := 1; ; try++ {
		merged, err := x.r.MergeCut(ctx, branch, theirs, o.ShallowThere, repo.Theirs, message)
		if errors.As(err, new(*refs.ConflictError)) && try < tries {
			continue // somebody here committed meanwhile
		}
		x.settled = append(x.settled, merged.Settled...)
		if merged.Baseless {
			x.s.warn("the history of %s at %s was cut off, and where it was before is not known here: what was taken out there may have come back", shown(branch.Short()), x.m)
		}
		return merged, err
	}
}
