package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// A cache keeps what was read of the bucket, or written to it, in two generations. When
// the younger one has grown to half of what the cache may take, it becomes the older
// one, and what was that goes. What is wanted again is copied into the younger one.
type cache struct {
	o       Options
	connect func() *bucket.Remote
	dir     string
	lock    *durable.Lock // tells others that somebody uses dir

	mu    sync.Mutex
	n     int         // guarded by mu; generations so far
	young *generation // guarded by mu
	old   *generation // guarded by mu; may be nil
}

// newCache makes an empty cache, and drops those of replicas that were killed.
func newCache(o Options, connect func() *bucket.Remote) (*cache, error) {
	if err := durable.MkdirAll(o.Dir, durable.NoSync); err != nil {
		return nil, err
	}
	// One at a time: a cache that is being made has no lock yet.
	starting, err := durable.LockExclusive(context.Background(), filepath.Join(o.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer starting.Unlock()
	left, err := filepath.Glob(filepath.Join(o.Dir, "replica-*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range left {
		if lock, err := durable.TryExclusive(filepath.Join(dir, "lock")); err == nil {
			_ = os.RemoveAll(dir)
			lock.Unlock()
		}
	}
	dir, err := os.MkdirTemp(o.Dir, "replica-")
	if err != nil {
		return nil, err
	}
	lock, err := durable.TryExclusive(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	c := &cache{o: o, connect: connect, dir: dir, lock: lock}
	c.young, err = c.newGeneration(nil)
	return c, err
}

func (c *cache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := os.RemoveAll(c.dir)
	c.lock.Unlock()
	return err
}

func (c *cache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.young.bytes.Load()
	if c.old != nil {
		n += c.old.bytes.Load()
	}
	return n
}

// use returns the younger generation. It stays until it is released.
func (c *cache) use() *generation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young.bytes.Load() > c.o.Size/2 {
		c.turn()
	}
	c.young.hold()
	return c.young
}

// turn makes a new generation. c.mu is held. That it can't be made is no reason to
// stop: the one that is there goes on to grow.
func (c *cache) turn() {
	g, err := c.newGeneration(c.young)
	if err != nil {
		c.o.Warn(fmt.Errorf("cache: %w", err))
		return
	}
	was := c.young
	c.old, c.young = was, g
	was.release() // g holds it
}

// A generation is a store of what was wanted while it was the younger one. What it
// lacks it takes from the one before, or from the bucket.
type generation struct {
	dir    string
	db     *odb.DB
	bucket *bucket.Remote // for reading
	bytes  atomic.Int64   // about; of packs

	mu     sync.Mutex
	before *generation // guarded by mu; held until it is the older one no more
	users  int         // guarded by mu
}

func (c *cache) newGeneration(before *generation) (*generation, error) {
	c.n++
	g := &generation{dir: filepath.Join(c.dir, fmt.Sprint(c.n)), bucket: c.connect(), users: 1, before: before}
	var err error
	if g.db, err = odb.Open(g.dir, odb.Options{Fetch: g.fetch, Warn: c.o.Warn}); err != nil {
		return nil, err
	}
	if before != nil {
		before.hold()
		before.forget()
	}
	return g, nil
}

func (g *generation) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users++
}

func (g *generation) release() {
	g.mu.Lock()
	g.users--
	last := g.users == 0
	g.mu.Unlock()
	if !last {
		return
	}
	g.forget()
	_ = g.db.Close()
	_ = os.RemoveAll(g.dir)
}

// forget lets go of the generation before.
func (g *generation) forget() {
	g.mu.Lock()
	before := g.before
	g.before = nil
	g.mu.Unlock()
	if before != nil {
		before.release()
	}
}

// previous returns the generation before, held, or nil.
func (g *generation) previous() *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.before != nil {
		g.before.hold()
	}
	return g.before
}

// fetch brings objects into the store.
func (g *generation) fetch(ctx context.Context, ids []objects.ID) error {
	missing, err := g.db.Missing(odb.Local(ctx), ids) // somebody may have been faster
	if err != nil || len(missing) == 0 {
		return err
	}
	if before := g.previous(); before != nil {
		defer before.release()
		if missing, err = g.take(ctx, before, missing); err != nil || len(missing) == 0 {
			return err
		}
	}
	err = g.bring(ctx, missing)
	if errors.Is(err, objects.ErrNotFound) && len(missing) > 1 {
		// What is not there keeps nothing from coming that is.
		lost, e := g.bucket.Missing(ctx, missing)
		if there := without(missing, lost); e == nil && len(lost) > 0 && len(there) > 0 {
			e = g.bring(ctx, there)
		}
		if e != nil {
			return e
		}
	}
	return err
}

// bring fetches objects from the bucket.
func (g *generation) bring(ctx context.Context, ids []objects.ID) error {
	stats, err := transfer.FetchObjects(ctx, g.db, g.bucket, ids, transfer.Options{Staged: true})
	g.bytes.Add(stats.Bytes)
	return err
}

// take copies what the generation before has, and returns what it lacks.
func (g *generation) take(ctx context.Context, before *generation, ids []objects.ID) ([]objects.ID, error) {
	missing, err := before.db.Missing(odb.Local(ctx), ids)
	if err != nil || len(missing) == len(ids) {
		return ids, err
	}
	there := peer.New(before.db, nil, cuts(nil))
	stats, err := transfer.FetchObjects(ctx, g.db, there, without(ids, missing), transfer.Options{Staged: true})
	g.bytes.Add(stats.Bytes)
	if errors.Is(err, objects.ErrNotFound) {
		return ids, nil // it is damaged there
	}
	return missing, err
}

// maxWaiting is how many bytes of a pack may be recipes, and deltas of what is not here.
const maxWaiting = 128 << 20

// prove adds what is in a pack to the store, each object proven.
func (g *generation) prove(ctx context.Context, p io.ReaderAt, size int64) error {
	b, err := g.db.NewBatch(ctx, odb.BatchOptions{Waiting: maxWaiting, ProveKnown: true})
	if err != nil {
		return err
	}
	defer b.Close()
	if _, err := b.Receive(ctx, io.NewSectionReader(p, 0, size)); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	lacking, err := b.Prove(ctx, nil)
	if err == nil && len(lacking) > 0 {
		if err = g.fetch(b.Within(ctx), lacking); err == nil {
			lacking, err = b.Prove(ctx, nil)
		}
	}
	if err == nil && len(lacking) > 0 {
		err = fmt.Errorf("%d parts of its objects are neither in it nor here: %s …: %w", len(lacking), lacking[0].Short(), objects.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	g.bytes.Add(size)
	return b.Commit(ctx, odb.Staged)
}
