package odb

import (
	"context"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// seen is the ids that a batch has met, with where it put their objects.
type seen [64]struct {
	mu sync.Mutex
	m  map[objects.ID]place
}

// A place is a record in a block of the batch; in none if the store had it.
type place struct {
	block  *openBlock
	record int32
	typ    pack.Type
}

func (s *seen) get(id *objects.ID) (place, bool) {
	sh := &s[id[0]&63]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p, ok := sh.m[*id]
	return p, ok
}

// claim reports whether id is new to the batch. It is to be put at p then.
func (s *seen) claim(id *objects.ID, p place) bool {
	sh := &s[id[0]&63]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, ok := sh.m[*id]; ok {
		return false
	}
	if sh.m == nil {
		sh.m = map[objects.ID]place{}
	}
	sh.m[*id] = p
	return true
}

func (s *seen) forget(id *objects.ID) {
	sh := &s[id[0]&63]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.m[*id] = place{}
}

// claim reports whether r is to be put at the end of o, which the caller holds:
// neither the batch nor the store has it.
func (b *Batch) claim(o *openBlock, r *pack.Record) (bool, error) {
	if !b.seen.claim(&r.ID, place{o, int32(len(o.block.Records)), r.Type}) {
		return false, nil
	}
	if b.merging {
		return true, nil
	}
	known, err := b.db.isKept(&r.ID)
	if known || err != nil {
		b.seen.forget(&r.ID)
	}
	return !known && err == nil, b.fail(err)
}

// has reports whether the batch or the store has id.
func (b *Batch) has(ctx context.Context, id *objects.ID) (bool, error) {
	if _, ok := b.seen.get(id); ok {
		return true, nil
	}
	return b.db.has(ctx, id)
}
