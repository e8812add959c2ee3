package odb

import (
	"container/heap"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A big blob is proven by hashing its chunks in their order. Two ways lead there.
// Chunks that are received while the recipe waits are hashed as they come by, as
// long as they come in order. What has come before, or in another order, is read
// again from where it was stored, by a prover, which puts many blobs together at
// once so that the blocks of what they share are decoded once and not for each.

// An assembly is a blob that is being put together.
type assembly struct {
	id     objects.ID
	record []byte
	recipe pack.BlobRecipe
	known  bool // the store has the blob; it is only to be proven

	mu   sync.Mutex
	sum  *objects.Hasher // guarded by mu, as is all below
	next int             // the chunk that is to be hashed next
	done bool            // the last one was
	at   chunkAt         // for a prover: where the next one is
}

func newAssembly(id objects.ID, record []byte) (*assembly, error) {
	recipe, err := pack.ParseRecipe(record)
	if err != nil {
		return nil, err
	}
	if recipe.ID != id {
		return nil, errWrongID(pack.Recipe)
	}
	return &assembly{id: id, record: record, recipe: recipe, sum: objects.NewHasher(objects.Blob, recipe.Size)}, nil
}

// isWhole reports whether there is no chunk left. a.mu is held.
func (a *assembly) isWhole() bool { return a.next == a.recipe.Len() }

// add hashes the next chunk. a.mu is held.
func (a *assembly) add(ctx context.Context, body []byte) error {
	if err := ctx.Err(); err != nil {
		return err // a stranger's recipe may be of one chunk, over and over
	}
	if piece := a.recipe.Piece(a.next); len(body) != int(piece.Size) {
		return fmt.Errorf("%w: blob %s: chunk %s has %d bytes, want %d", pack.ErrBadPack, a.id, piece.ID, len(body), piece.Size)
	}
	a.sum.Write(body)
	a.next++
	return nil
}

// prove keeps the recipe of a blob that is whole, if it hashes to its id.
func (b *Batch) prove(a *assembly) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done || !a.isWhole() {
		return nil
	}
	if got, err := a.sum.ID(); err != nil || got != a.id {
		return fmt.Errorf("%w: blob %s: its chunks do not hash to it", pack.ErrBadPack, a.id)
	}
	a.done = true
	if a.known {
		b.unwait(a.id)
		return nil
	}
	if err := b.recipes.put(pack.Record{ID: a.id, Type: pack.Recipe, Size: uint32(len(a.record))}, a.record); err != nil {
		return err
	}
	b.unwait(a.id)
	return nil
}

// await has a told when its next chunk comes by.
func (b *Batch) await(a *assembly) {
	a.mu.Lock()
	whole := a.isWhole()
	var next objects.ID
	if !whole {
		next = a.recipe.Piece(a.next).ID
	}
	a.mu.Unlock()
	if whole {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.awaited == nil {
		b.awaited = map[objects.ID][]*assembly{}
	}
	b.awaited[next] = append(b.awaited[next], a)
}

// passing adds a chunk that has come, and is proven, to the blobs that wait for it.
func (b *Batch) passing(ctx context.Context, id objects.ID, body []byte) error {
	for {
		b.mu.Lock()
		all := b.awaited[id]
		delete(b.awaited, id)
		b.mu.Unlock()
		if len(all) == 0 {
			return nil
		}
		for _, a := range all {
			if err := a.pass(ctx, id, body); err != nil {
				return err
			}
			if err := b.prove(a); err != nil {
				return err
			}
			b.await(a)
		}
	}
}

func (a *assembly) pass(ctx context.Context, id objects.ID, body []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.isWhole() && a.recipe.Piece(a.next).ID == id { // else a prover was faster
		if err := a.add(ctx, body); err != nil {
			return err
		}
	}
	return nil
}

// chunkAt says where a chunk is stored.
type chunkAt struct {
	key    blockKey // zero if it is in no block that could be decoded
	order  int64    // by which blocks are sorted as they are stored
	raw    int      // bytes of the block
	load   func(*pack.Data) error
	record int // in the block
}

// whereIs returns where a chunk is.
func (p *prover) whereIs(ctx context.Context, id objects.ID) (at chunkAt) {
	if place, ok := p.b.seen.get(&id); ok && place.block != nil && !p.b.committed.Load() {
		n, written := place.block.written()
		if !written {
			return at
		}
		to := place.block.to
		return chunkAt{blockKey{to, n}, int64(n), int(to.w.Block(n).Raw), func(d *pack.Data) error { return to.read(n, d) }, int(place.record)}
	}
	_ = p.b.db.eachCopy(ctx, id, func(h hit) error {
		if h.entry.Type != pack.Chunk {
			return errSkip
		}
		n, err := h.index.BlockOf(h.entry.Record)
		if err != nil {
			return err
		}
		info, err := h.index.Block(n)
		if err != nil {
			return err
		}
		load := func(d *pack.Data) error { return readInfo(h.pack.file, info, d) }
		at = chunkAt{blockKey{h.pack, n}, p.rank(h.pack)<<32 | int64(n), int(info.Raw), load, int(h.entry.Record - info.First)}
		return nil
	})
	return at
}

// A prover puts blobs together of which all chunks are stored.
//
// Of versions of one blob each has chunks of its own, and the rest is all over the
// blocks of the version that was stored first. So blobs go on that want a block
// which was decoded a moment ago. When there are none, the one goes on that wants
// the block which was stored last: the others wait, and catch up, before all of them
// need the next block that they share. Blobs that share nothing are gone through
// from the last to the first.
type prover struct {
	b *Batch

	mu     sync.Mutex
	wake   *sync.Cond
	spots  map[blockKey]*spot
	queue  lastStored // of spots where somebody is
	busy   int        // workers with an assembly
	recent []*spot    // that were used last, the latest at the end
	ranks  map[*stored]int64
	failed bool
}

// A spot is a block, and who wants it next.
type spot struct {
	key    blockKey
	order  int64
	raw    int
	all    []*assembly
	queued bool
}

func (b *Batch) proveAll(ctx context.Context, all []*assembly) error {
	p := &prover{b: b, spots: map[blockKey]*spot{}, ranks: map[*stored]int64{}}
	p.wake = sync.NewCond(&p.mu)
	for _, a := range all {
		if err := p.park(ctx, a); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for range min(len(all), runtime.GOMAXPROCS(0)) {
		group.Go(func() error {
			err := p.work(ctx)
			if err != nil {
				p.mu.Lock()
				p.failed = true
				p.mu.Unlock()
				p.wake.Broadcast()
			}
			return err
		})
	}
	return group.Wait()
}

// rank numbers packs.
func (p *prover) rank(s *stored) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.ranks[s]; !ok {
		p.ranks[s] = int64(len(p.ranks) + 1)
	}
	return p.ranks[s]
}

// park puts an assembly where its next chunk is.
func (p *prover) park(ctx context.Context, a *assembly) error {
	a.mu.Lock()
	whole := a.isWhole()
	if !whole {
		a.at = p.whereIs(ctx, a.recipe.Piece(a.next).ID)
	}
	at := a.at
	a.mu.Unlock()
	if whole {
		return p.b.prove(a)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.spots[at.key]
	if s == nil {
		s = &spot{key: at.key, order: at.order, raw: at.raw}
		p.spots[at.key] = s
	}
	if s.all = append(s.all, a); !s.queued {
		s.queued = true
		heap.Push(&p.queue, s)
	}
	p.wake.Broadcast()
	return nil
}

func (p *prover) work(ctx context.Context) error {
	for {
		a := p.choose()
		if a == nil {
			return nil
		}
		err := ctx.Err()
		if err == nil {
			err = p.advance(ctx, a)
		}
		if err == nil {
			err = p.park(ctx, a)
		}
		p.mu.Lock()
		p.busy--
		p.mu.Unlock()
		p.wake.Broadcast()
		if err != nil {
			return err
		}
	}
}

// choose returns the assembly that goes on, nil at the end.
func (p *prover) choose() *assembly {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.failed {
		for _, s := range slices.Backward(p.recent) {
			if len(s.all) > 0 {
				return p.take(s)
			}
		}
		for len(p.queue) > 0 {
			if s := p.queue[0]; len(s.all) > 0 {
				return p.take(s)
			}
			heap.Pop(&p.queue).(*spot).queued = false
		}
		if p.busy == 0 {
			return nil
		}
		p.wake.Wait()
	}
	return nil
}

// take takes one of those who want a block, which will be in the cache then.
func (p *prover) take(s *spot) *assembly {
	last := len(s.all) - 1
	a := s.all[last]
	s.all = s.all[:last]
	p.busy++
	p.recent = append(slices.DeleteFunc(p.recent, func(r *spot) bool { return r == s }), s)
	left := p.b.db.cache.max
	for i, r := range slices.Backward(p.recent) {
		if left -= int64(r.raw); left < 0 && i < len(p.recent)-1 {
			p.recent = slices.Delete(p.recent, 0, i+1)
			break
		}
	}
	return a
}

// advance hashes the chunks that lie in one block.
func (p *prover) advance(ctx context.Context, a *assembly) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var d *block
	if a.at.load != nil {
		var err error
		if d, err = p.b.db.cache.get(a.at.key, a.at.raw, a.at.load); err == nil {
			defer d.release()
		}
	}
	for first := a.at.key; !a.isWhole(); {
		id := a.recipe.Piece(a.next).ID
		if d == nil || a.at.record >= d.Len() {
			return p.single(ctx, a, id)
		}
		t, body := d.Record(a.at.record)
		if t != pack.Chunk || len(body) != int(a.recipe.Piece(a.next).Size) {
			return p.single(ctx, a, id)
		}
		if err := a.add(ctx, body); err != nil {
			return err
		}
		if a.isWhole() {
			return nil
		}
		if a.at = p.whereIs(ctx, a.recipe.Piece(a.next).ID); a.at.key != first {
			return nil
		}
	}
	return nil
}

// single adds one chunk in the way that finds it wherever there is a good copy.
func (p *prover) single(ctx context.Context, a *assembly, id objects.ID) error {
	body, done, err := p.b.chunk(ctx, id)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("blob %s: %w: chunk %s: %w", a.id, pack.ErrBadPack, id, err)
	}
	defer done()
	return a.add(ctx, body)
}

// lastStored is a heap of blocks, the one that was stored last in front.
type lastStored []*spot

func (q lastStored) Len() int           { return len(q) }
func (q lastStored) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q lastStored) Less(i, j int) bool { return q[i].order > q[j].order }
func (q *lastStored) Push(x any)        { *q = append(*q, x.(*spot)) }
func (q *lastStored) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
