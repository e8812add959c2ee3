package odb

import (
	"context"
	"iter"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// Info says how something is stored.
type Info struct {
	ID     objects.ID
	Kind   objects.Kind // zero for a chunk of a big blob
	Size   int64        // bytes of the body; of a tree that is a delta, what is kept of it
	Stored int64        // about how many bytes of its pack it takes, compressed
	Staged bool         // it may be lost in a power cut

	// Chunked says that it is a big blob: Size is the blob's, but its bytes are
	// those of its chunks, which other blobs may share.
	Chunked bool
}

// All yields what is stored, once each, pack by pack, from the indexes.
func (db *DB) All(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		s, err := db.packs()
		if err == nil {
			s, _, err = db.refresh(s)
		}
		if err != nil {
			yield(Info{}, err)
			return
		}
		for i, p := range s.packs {
			if !db.allOf(ctx, p, s.packs[:i], yield) {
				return
			}
		}
	}
}

// allOf yields what p holds and the packs before do not.
func (db *DB) allOf(ctx context.Context, p *stored, before []*stored, yield func(Info, error) bool) bool {
	x, err := db.open(p)
	if err != nil {
		return yield(Info{}, err)
	}
	for id, e := range x.All() {
		if err := ctx.Err(); err != nil {
			yield(Info{}, err)
			return false
		}
		if db.holds(before, &id) {
			continue
		}
		info := Info{ID: id, Kind: e.Type.Kind(), Size: int64(e.Size), Staged: p.isStaged()}
		if n, err := x.BlockOf(e.Record); err == nil {
			if b, err := x.Block(n); err == nil && b.Raw > 0 {
				info.Stored = int64(e.Size) * int64(b.Stored) / int64(b.Raw)
			}
		}
		if e.Type == pack.Recipe {
			info.Chunked = true
			if _, size, err := db.Stat(ctx, id); err == nil {
				info.Size = size
			}
		}
		if !yield(info, nil) {
			return false
		}
	}
	return true
}

// Usage is how much the packs take.
type Usage struct {
	Packs, Staged int
	Bytes         int64 // with the indexes
	Weight        int64 // of all that is stored, as Weigh has it: the rest is the packs' own
}

// Usage returns how much the packs take now.
func (db *DB) Usage() (Usage, error) {
	var u Usage
	s, _, err := db.refresh(db.set.Load())
	if err != nil {
		return u, err
	}
	for _, p := range s.packs {
		u.Packs++
		if p.isStaged() {
			u.Staged++
		}
		u.Bytes += p.size + fileSize(p.path+indexExt)
		u.Weight += db.weightOf(p)
	}
	return u, nil
}
