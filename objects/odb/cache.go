package odb

import (
	"container/list"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects/pack"
)

// A cache keeps decoded blocks, those used last. Memory is used again rather
// than left to the collector: blocks are big, and their number in flight small.
type cache struct {
	max int64

	mu     sync.Mutex
	size   int64
	blocks map[blockKey]*block
	lru    list.List    // of *block that nobody holds; last used in front
	free   []*pack.Data // emptied, to be filled again
}

// A blockKey names a block: of which pack, and which one there.
type blockKey struct {
	pack any
	n    int
}

// A block is a decoded block. Its bytes are valid until release.
type block struct {
	*pack.Data
	key  blockKey
	c    *cache
	once sync.Once
	err  error

	// Guarded by c.mu:
	holders int
	size    int64         // about its bytes, as counted in c.size
	dropped bool          // not in c.blocks any more
	elem    *list.Element // in c.lru
}

// maxFree is how many emptied blocks are kept.
const maxFree = 2

func newCache(max int64) *cache {
	return &cache{max: max, blocks: map[blockKey]*block{}}
}

// get returns the block called key, of raw bytes, which load decodes if the
// cache has not got it. Several callers who want the same block wait for one
// load. The block must be released.
func (c *cache) get(key blockKey, raw int, load func(d *pack.Data) error) (*block, error) {
	b := c.hold(key, int64(raw))
	b.once.Do(func() { b.err = load(b.Data) })
	if b.err != nil {
		err := b.err
		c.mu.Lock()
		c.drop(b)
		c.mu.Unlock()
		b.release()
		return nil, err
	}
	return b, nil
}

func (c *cache) hold(key blockKey, raw int64) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.blocks[key]
	if b == nil {
		c.shrink(c.max - raw)
		b = &block{key: key, c: c, size: raw, Data: c.empty(raw)}
		c.blocks[key] = b
		c.size += raw
	}
	b.holders++
	if b.elem != nil {
		c.lru.Remove(b.elem)
		b.elem = nil
	}
	return b
}

// empty returns memory for a block of raw bytes. It does not waste that of a big
// block on a small one.
func (c *cache) empty(raw int64) *pack.Data {
	for i, d := range c.free {
		if n := int64(d.Memory()); n >= raw && n <= 2*raw+64<<10 {
			c.free = slices.Delete(c.free, i, i+1)
			return d
		}
	}
	return new(pack.Data)
}

// release gives the block back. Its bytes must not be looked at any more.
func (b *block) release() {
	c := b.c
	c.mu.Lock()
	defer c.mu.Unlock()
	b.holders--
	if b.holders > 0 {
		return
	}
	if b.dropped {
		c.recycle(b)
		return
	}
	b.elem = c.lru.PushFront(b)
	c.shrink(c.max)
}

// shrink drops what was not used for longest until the rest has no more than max
// bytes.
func (c *cache) shrink(max int64) {
	for c.size > max && c.lru.Len() > 0 {
		c.drop(c.lru.Back().Value.(*block))
	}
}

func (c *cache) drop(b *block) {
	if b.dropped {
		return
	}
	b.dropped = true
	delete(c.blocks, b.key)
	c.size -= b.size
	if b.elem != nil {
		c.lru.Remove(b.elem)
		b.elem = nil
		c.recycle(b)
	}
}

func (c *cache) recycle(b *block) {
	if len(c.free) == maxFree {
		c.free = slices.Delete(c.free, 0, 1)
	}
	c.free = append(c.free, b.Data)
	b.Data = nil
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.lru.Len() > 0 {
		c.drop(c.lru.Back().Value.(*block))
	}
	c.free = nil
}
