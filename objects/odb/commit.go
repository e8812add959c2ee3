package odb

import (
	"context"
	"fmt"
	"slices"

	"github.com/cache-tool/cache-tool/internal/durable"
	"golang.org/x/sync/errgroup"
)

// Commit makes the objects of the batch part of the store, and survive what d
// says. Staged objects are as readable as durable ones. If it fails, nothing of
// the batch is promised to be there. The lock is held until Close.
func (b *Batch) Commit(ctx context.Context, d Durability) error {
	if err := b.commit(ctx, d); err != nil {
		return fmt.Errorf("commit objects: %w", err)
	}
	b.committed.Store(true)
	b.db.mergeInPassing(ctx, b.began)
	return nil
}

func (b *Batch) commit(ctx context.Context, d Durability) error {
	rest, err := b.collect()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if d == Durable {
		// What the batch found to be there may only be staged.
		if err := b.db.Seal(ctx); err != nil {
			return err
		}
	}
	outs, err := b.finish(rest)
	if err != nil || len(outs) == 0 {
		return err
	}
	done, err := b.db.makeRoom(ctx)
	if err != nil {
		return err
	}
	defer done()
	return b.db.publish(outs, d)
}

// collect takes the blocks that are still open, and ends the batch.
func (b *Batch) collect() ([]*openBlock, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.closed = true
	if n := len(b.lanes); n > 0 {
		return nil, fmt.Errorf("%d lanes are still open", n)
	}
	if b.err != nil {
		return nil, b.err
	}
	var rest []*openBlock
	for _, o := range append([]*openBlock{b.meta.open, b.recipes.open, b.data.open}, b.left...) {
		if o != nil && o.block != nil && len(o.block.Records) > 0 {
			rest = append(rest, o)
		}
	}
	return rest, nil
}

// finish writes what is left and returns the packs, which are whole but for
// their names.
func (b *Batch) finish(rest []*openBlock) ([]*output, error) {
	total := 0
	for _, o := range rest {
		total += o.block.Len()
	}
	if !b.metaPack.started() && !b.dataPack.started() && total < b.mixed {
		rest = mix(rest, b.dataPack)
	}
	var group errgroup.Group
	for _, o := range rest {
		group.Go(o.write)
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var outs []*output
	for _, p := range []*output{b.dataPack, b.metaPack} {
		if p.started() && !slices.Contains(outs, p) {
			outs = append(outs, p)
		}
	}
	for _, p := range outs {
		if err := p.finish(); err != nil {
			return nil, err
		}
	}
	return outs, nil
}

// mix sends all blocks to one pack, and puts those that are small into one: who
// wants one of the objects of so small a batch mostly wants the others too.
func mix(rest []*openBlock, to *output) []*openBlock {
	var mixed []*openBlock
	for _, o := range rest {
		o.to = to
		if n := len(mixed); n > 0 {
			if last := mixed[n-1].block; last.Len()+o.block.Len() <= metaBlock {
				for i, r := range o.block.Records {
					copy(last.Space(int(r.Size)), o.block.Body(i))
					last.Add(r)
				}
				continue
			}
		}
		mixed = append(mixed, o)
	}
	return mixed
}

// publish gives packs their names. Data first, names last.
func (db *DB) publish(outs []*output, d Durability) error {
	if d == Durable {
		var group errgroup.Group
		for _, p := range outs {
			group.Go(p.index.Sync)
			group.Go(p.file.Sync)
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	for _, p := range outs {
		if err := p.publish(d); err != nil {
			return err
		}
	}
	if d == Durable {
		if err := durable.SyncDir(db.dir); err != nil {
			return err
		}
	}
	_, _, err := db.refresh(db.set.Load())
	return err
}
