package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// Fetch makes sure that db has tips, with all that they lead to. Have are commits
// that db is known to have so. Nothing is asked for that is here already, so that
// a Fetch that was broken off goes on where it stopped; and nothing enters db
// before it is proven. What came is durable on return, even with an error. If the
// remote lacks something the error is an objects.ErrNotFound.
func Fetch(ctx context.Context, db *odb.DB, r remote.Remote, tips, have []objects.ID, o Options) (Stats, error) {
	return fetch(ctx, db, r, tips, have, remote.Closure, o)
}

// FetchHistory is Fetch for the commits alone, without their trees.
func FetchHistory(ctx context.Context, db *odb.DB, r remote.Remote, tips, have []objects.ID, o Options) (Stats, error) {
	return fetch(ctx, db, r, tips, have, remote.History, o)
}

// FetchObjects makes sure that db has these objects, big blobs with all their
// chunks, and nothing that they lead to.
func FetchObjects(ctx context.Context, db *odb.DB, r remote.Remote, ids []objects.ID, o Options) (Stats, error) {
	return collect(ctx, db, o, func(ctx context.Context, f *fetcher) error {
		return f.persist(ctx, func() error {
			missing, err := f.b.Missing(ctx, ids)
			if err != nil {
				return err
			}
			return f.bring(ctx, r, remote.Request{Want: missing})
		})
	})
}

// A Finder is a remote that finds objects by their paths.
type Finder interface {
	remote.Remote
	remote.PathFetcher
}

// FetchPaths makes sure that db has the trees that lead to paths, and as much of
// what is there as the budget allows: see remote.PathFetcher.
func FetchPaths(ctx context.Context, db *odb.DB, r Finder, paths []remote.Path, budget int64, o Options) (Stats, error) {
	return collect(ctx, db, o, func(ctx context.Context, f *fetcher) error {
		find := func() error {
			body, err := r.FetchPaths(ctx, paths, budget)
			if err != nil {
				return refusal{err}
			}
			defer body.Close()
			if err := f.receive(ctx, body); err != nil {
				return err
			}
			return f.complete(ctx, r, nil)
		}
		return f.persist(ctx, func() error { return twice(ctx, find) })
	})
}

// persist calls fn until it comes through, or there is no sense in that any more.
func (f *fetcher) persist(ctx context.Context, fn func() error) error {
	for failed := 1; ; failed++ {
		err := fn()
		if err == nil || isFinal(ctx, err) || failed == patience {
			return err
		}
		if err := rest(ctx, failed); err != nil {
			return err
		}
	}
}

// twice calls fn again if what came is damaged: it may have been so on its way
// only.
func twice(ctx context.Context, fn func() error) error {
	err := fn()
	if isDamaged(err) && ctx.Err() == nil {
		err = fn()
	}
	return err
}

// collect makes one batch of what fill brings. It keeps what came before an error:
// that need not come again.
func collect(ctx context.Context, db *odb.DB, o Options, fill func(context.Context, *fetcher) error) (Stats, error) {
	whole := ctx
	ctx = odb.Local(ctx) // it is us who fetch
	b, err := db.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return Stats{}, err
	}
	f := &fetcher{db: db, b: b, o: o.withDefaults()}
	err = fill(ctx, f)
	if f.b == nil {
		return f.stats, err
	}
	defer f.b.Close()
	// A fetch that is called off keeps what it has, too.
	if e := f.b.Commit(context.WithoutCancel(ctx), f.durability()); err == nil {
		err = e
	}
	if err == nil && o.Then != nil {
		err = o.Then(f.b.Within(whole), f.stats)
	}
	return f.stats, err
}

// A fetcher is one fetch.
type fetcher struct {
	db    *odb.DB
	b     *odb.Batch
	o     Options
	stats Stats
	held  int64 // bytes that the batch has received
}

func fetch(ctx context.Context, db *odb.DB, r remote.Remote, tips, have []objects.ID, extent remote.Extent, o Options) (Stats, error) {
	return collect(ctx, db, o, func(ctx context.Context, f *fetcher) error {
		l := loop{r: r, tips: tips, have: have, extent: extent}
		_, l.follows = r.(remote.PathFetcher)
		if err := f.foresee(ctx, &l); err != nil {
			return err
		}
		met, err := f.all(ctx, l)
		if err == nil && len(met) > 0 {
			err = f.judge(ctx, met, l)
		}
		return err
	})
}

// A loop asks a remote until nothing is missing.
type loop struct {
	r          remote.Remote
	tips, have []objects.ID
	extent     remote.Extent
	follows    bool // the remote is a program
	whole      bool // all that is new is to be asked for by the tips
	pieces     bool // what is missing is asked for by itself, as long as much is here
}

// foresee chooses how to ask a remote whose history was cut off. What it lacks of
// what is here it cannot compare with: it would send all that its tips lead to, most
// of which is here. So the commits come first; if they end where history was cut off
// there, the rest is asked for by itself.
func (f *fetcher) foresee(ctx context.Context, l *loop) error {
	if len(f.o.ShallowThere) == 0 || len(l.have) == 0 || !l.follows || l.extent != remote.Closure {
		return nil
	}
	commits := *l
	commits.extent = remote.History
	before := f.stats.Objects
	met, err := f.all(ctx, commits)
	l.pieces = len(met) > 0
	l.whole = f.stats.Objects > before && !l.pieces
	return err
}

// all brings all that is missing, and returns the new commits at which history was cut
// off, there or once here.
func (f *fetcher) all(ctx context.Context, l loop) (met []objects.ID, err error) {
	commits, failed := l.extent == remote.History, 0
	extent := l.extent
	if l.pieces {
		extent = remote.Only
	}
	var asked []objects.ID
	for first := true; ; first = false {
		missing, look, err := f.missing(ctx, l.tips, l.have, commits)
		if err != nil || len(missing) == 0 {
			return look.met, err
		}
		if slices.Equal(missing, asked) && failed == 0 {
			return nil, fmt.Errorf("the remote sends nothing of %d objects that are missing, as %s: %w", len(missing), missing[0].Short(), objects.ErrNotFound)
		}
		before := f.stats.Objects
		want := missing
		switch {
		case first && l.whole:
			want = l.tips
		case first && l.follows && extent == remote.Closure && len(missing) == maxWant && look.here < maxWant:
			// Little of it is here, such as the trees that came along with a look-up: all at once
			// is less than in pieces.
			want = l.tips
		case l.pieces && len(missing) == maxWant && before > manyPieces && look.here < 2*before:
			extent, l.pieces = remote.Closure, false // little of it was here, after all
		case look.onlyBlobs:
			// Somebody has begun this before: the chunks of some may be here.
			extent = remote.Only
			fallthrough
		default:
			asked = slices.Clone(missing)
		}
		q := remote.Request{Want: want, Have: l.have, Extent: extent, Neighbours: true}
		if extent != remote.Only {
			q.Shallow = slices.Collect(maps.Keys(f.o.Shallow))
		}
		err = f.bring(ctx, l.r, q)
		switch {
		case err == nil:
			failed = 0
		case isFinal(ctx, err):
			return nil, err
		case f.stats.Objects > before: // some came
			failed = 1
		default:
			if failed++; failed == patience {
				return nil, err
			}
		}
		if failed > 0 {
			// The same again would bring what has come already.
			extent, l.pieces = remote.Only, false
			if err := rest(ctx, failed); err != nil {
				return nil, err
			}
		}
		if err := f.settle(ctx); err != nil {
			return nil, err
		}
	}
}

// judge tells at which of the commits that were met history ends here, too: those
// whose parents are not here.
func (f *fetcher) judge(ctx context.Context, met []objects.ID, l loop) error {
	lacking, err := reach.Cut(ctx, f.b, met, l.have, reach.Options{
		Shallow: func(id objects.ID) bool { return f.o.Shallow[id] },
		Commits: l.extent == remote.History,
	})
	if err != nil {
		return err
	}
	f.stats.Cut = lacking
	for _, id := range met {
		if f.o.Shallow[id] && !slices.Contains(lacking, id) {
			f.stats.Whole = append(f.stats.Whole, id)
		}
	}
	return nil
}

// How many objects are wanted at once: as many as may be without asking for a block
// twice because what it holds is wanted in two requests.
const (
	maxWant  = 8 << 10
	maxParts = 256 << 10 // chunks and bases

	// manyPieces is after how many objects it is asked whether pieces are worth while.
	manyPieces = 64 << 10
)

var errEnough = errors.New("enough")

// A look is what missing has met besides.
type look struct {
	here      int          // objects that are not missing
	onlyBlobs bool         // nothing else is missing
	met       []objects.ID // new commits at which history may end
}

// missing returns objects that tips lead to and that are not here, those nearest
// to tips first; not all of them, but none only if there are none.
func (f *fetcher) missing(ctx context.Context, tips, have []objects.ID, commits bool) (missing []objects.ID, l look, err error) {
	l.onlyBlobs = true
	err = reach.Since(ctx, f.b, tips, have, reach.Options{
		// What was noted here of a commit that is new here was left behind.
		Shallow:      func(id objects.ID) bool { return f.o.ShallowThere[id] },
		ShallowThere: func(id objects.ID) bool { return f.o.Shallow[id] },
		CheckBlobs:   true,
		Commits:      commits,
		Unplaced:     true,
		Visit: func(id objects.ID, k objects.Kind) error {
			l.here++
			if k == objects.Commit && (f.o.ShallowThere[id] || f.o.Shallow[id]) {
				l.met = append(l.met, id)
			}
			return nil
		},
		Missing: func(m reach.Missing) error {
			if !errors.Is(m, objects.ErrNotFound) {
				return m
			}
			l.onlyBlobs = l.onlyBlobs && m.Kind == objects.Blob
			if missing = append(missing, m.ID); len(missing) == maxWant {
				return errEnough
			}
			return nil
		},
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return missing, l, err
}

// bring fetches what q asks for, and what that needs to be proven.
func (f *fetcher) bring(ctx context.Context, r remote.Remote, q remote.Request) error {
	return twice(ctx, func() error { return f.bringOnce(ctx, r, q) })
}

func (f *fetcher) bringOnce(ctx context.Context, r remote.Remote, q remote.Request) error {
	wanted := make(map[objects.ID]bool, len(q.Want))
	for _, id := range q.Want {
		wanted[id] = true
	}
	// Some may have come before, as neighbours of others.
	q.Want = slices.DeleteFunc(slices.Clone(q.Want), f.b.Waits)
	q.Holds = f.holds(ctx)
	if len(q.Want) > 0 {
		body, err := r.Fetch(ctx, q)
		if err != nil {
			return refusal{err}
		}
		defer body.Close()
		if err := f.receive(ctx, body); err != nil {
			return err
		}
	}
	return f.complete(ctx, r, func(id objects.ID) bool { return wanted[id] })
}

// holds returns what tells whether an object is here.
func (f *fetcher) holds(ctx context.Context) func(objects.ID) bool {
	b := f.b
	return func(id objects.ID) bool {
		_, err := b.KindOf(ctx, id)
		return err == nil
	}
}

func (f *fetcher) receive(ctx context.Context, body io.Reader) error {
	var fresh int
	var err error
	if s, ok := body.(pack.Source); ok {
		fresh, err = f.b.ReceiveBlocks(ctx, &blockCounter{s, f})
	} else {
		fresh, err = f.b.Receive(ctx, &counter{body, f})
	}
	f.stats.Objects += fresh
	f.stats.Packs++
	f.o.Meter.Done(fresh, 0)
	return err
}

// complete fetches the chunks and bases that wanted objects lack.
func (f *fetcher) complete(ctx context.Context, r remote.Remote, wanted func(objects.ID) bool) error {
	lacking, err := f.b.Prove(ctx, wanted)
	for err == nil && len(lacking) > 0 {
		for part := range slices.Chunk(lacking, maxParts) {
			if err := f.parts(ctx, r, part); err != nil {
				return err
			}
		}
		before := len(lacking)
		if lacking, err = f.b.Prove(ctx, wanted); err == nil && len(lacking) >= before {
			return fmt.Errorf("the remote sends nothing of %d parts that are missing: %w", before, objects.ErrNotFound)
		}
	}
	return err
}

func (f *fetcher) parts(ctx context.Context, r remote.Remote, ids []objects.ID) error {
	body, err := r.Fetch(ctx, remote.Request{Want: ids, Holds: f.holds(ctx)})
	if err != nil {
		return refusal{err}
	}
	defer body.Close()
	return f.receive(ctx, body)
}

// settle makes what has come part of the store, if it is much: a batch remembers
// all that it has met.
func (f *fetcher) settle(ctx context.Context) error {
	if f.held < f.o.PackSize {
		return nil
	}
	f.held = 0
	if err := f.b.Commit(ctx, f.durability()); err != nil {
		return err
	}
	f.b.Close()
	f.b = nil
	b, err := f.db.NewBatch(ctx, odb.BatchOptions{})
	if err == nil {
		f.b = b
	}
	return err
}

func (f *fetcher) durability() odb.Durability {
	if f.o.Staged {
		return odb.Staged
	}
	return odb.Durable
}

// A counter counts what comes.
type counter struct {
	r io.Reader
	f *fetcher
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.f.came(n)
	return n, err
}

// A blockCounter counts what comes in blocks.
type blockCounter struct {
	pack.Source
	f *fetcher
}

func (c *blockCounter) Next(buf []byte) ([]byte, error) {
	block, err := c.Source.Next(buf)
	if err == nil {
		c.f.came(len(block))
	}
	return block, err
}

func (f *fetcher) came(n int) {
	f.stats.Bytes += int64(n)
	f.held += int64(n)
	f.o.Meter.Done(0, int64(n))
}
