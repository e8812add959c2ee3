package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// Fetch returns a pack of the blocks in which the wanted objects are. A bucket is
// no program: it does not go beyond what is wanted, whatever the extent.
func (r *Remote) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	f := &fetch{r: r, q: q, sent: map[spot]bool{}, bad: map[spot]error{}}
	// Of history it is the tips whose trees are wanted next.
	f.around = q.Extent == remote.Only || q.Extent == remote.History && !r.began.Swap(true)
	// The first look finds out whether all is there, before anything is sent.
	blocks, err := f.locate(ctx, q.Want)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	f.out = pack.NewPipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.out.End(f.run(ctx, blocks))
	}()
	return &fetched{f.out, func() {
		cancel()
		f.out.Close()
		<-done
	}}, nil
}

// fetched is the pack that a fetch makes. Closing it ends the fetch.
type fetched struct {
	*pack.Pipe
	end func()
}

func (f *fetched) Close() error {
	f.end()
	return nil
}

// A fetch is on its way. What it holds is for one goroutine.
type fetch struct {
	r      *Remote
	q      remote.Request
	around bool // what stands before trees and commits is to come along
	out    *pack.Pipe
	sent   map[spot]bool
	bad    map[spot]error // blocks that could not be read
	data   pack.Data

	readers sync.WaitGroup
}

// A spot is where a block is.
type spot struct {
	pack PackName
	off  int64
}

// A wanted block is one that is to be sent, because of these objects; of none if it
// only stands near one that is.
type wanted struct {
	spot
	size    int64
	ids     []place
	recipes int // 1 if some of them are
}

// locate chooses for each id a block that has not failed yet. What was sent
// already is not chosen again. The blocks come in the order of their packs, but
// those with recipes first: who has them can prove big blobs as their chunks come.
func (f *fetch) locate(ctx context.Context, ids []objects.ID) ([]wanted, error) {
	blocks, err := f.locateIn(ctx, f.r.seen, ids, false)
	if errors.Is(err, objects.ErrNotFound) || errors.Is(err, remote.ErrNotFound) {
		// It may have come since, or have moved to another pack.
		return f.locateIn(ctx, f.r.load, ids, true)
	}
	return blocks, err
}

func (f *fetch) locateIn(ctx context.Context, which func(context.Context) (*view, error), ids []objects.ID, proof bool) ([]wanted, error) {
	var places [][]place
	_, err := f.r.again(ctx, which, func(v *view) error {
		places = make([][]place, len(ids))
		return f.r.find(ctx, v, ids, proof, func(i int, p place) (enough bool) {
			places[i] = append(places[i], p)
			return len(f.bad) == 0 // else another copy may be wanted
		})
	})
	if err != nil {
		return nil, err
	}
	chosen := map[spot]*wanted{}
	for i, id := range ids {
		if err := f.choose(chosen, id, places[i]); err != nil {
			return nil, err
		}
	}
	if f.around && len(chosen) <= parallel {
		f.lookAround(chosen)
	}
	blocks := make([]wanted, 0, len(chosen))
	for _, b := range chosen {
		blocks = append(blocks, *b)
	}
	slices.SortFunc(blocks, func(a, b wanted) int {
		return cmp.Or(cmp.Compare(b.recipes, a.recipes), a.pack.compare(b.pack), cmp.Compare(a.off, b.off))
	})
	return blocks, nil
}

func (f *fetch) choose(chosen map[spot]*wanted, id objects.ID, places []place) error {
	var best *place
	var failed error
	for i, p := range places {
		at := spot{p.pack, p.at.off}
		if f.sent[at] {
			return nil
		}
		if err := f.bad[at]; err != nil {
			failed = err
		} else if best == nil || chosen[at] != nil {
			best = &places[i]
		}
	}
	switch {
	case best == nil && failed != nil:
		return failed
	case best == nil:
		return fmt.Errorf("%s: %w in the bucket", id.Short(), objects.ErrNotFound)
	}
	at := spot{best.pack, best.at.off}
	if chosen[at] == nil {
		chosen[at] = &wanted{spot: at, size: int64(best.at.size)}
	}
	chosen[at].ids = append(chosen[at].ids, *best)
	if best.typ() == pack.Recipe {
		chosen[at].recipes = 1
	}
	return nil
}

// lookAround chooses besides what stands just before trees and commits: who wrote them
// wrote before them what they lead to, which will be asked for next.
func (f *fetch) lookAround(chosen map[spot]*wanted) {
	for _, b := range slices.Collect(maps.Values(chosen)) {
		p := b.ids[0]
		if !p.typ().IsMeta() {
			continue
		}
		for i := int(p.block) - 1; i >= 0; i-- {
			at := p.in.blocks[i]
			before := spot{p.pack, at.off}
			if p.in.packs[at.pack] != p.pack || b.off-at.off > gap || at.off+int64(at.size) > b.off || f.sent[before] {
				break
			}
			if chosen[before] == nil {
				chosen[before] = &wanted{spot: before, size: int64(at.size)}
			}
		}
	}
}

// run sends blocks, then the bases of what was sent and other copies of what
// could not be read, until there is nothing left.
func (f *fetch) run(ctx context.Context, blocks []wanted) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		f.readers.Wait()
	}()
	for len(blocks) > 0 {
		var more []objects.ID
		next := f.read(ctx, ranges(blocks))
		for {
			c, ok := next()
			if !ok {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			for _, b := range c.blocks {
				ids, err := f.send(c, b)
				if err != nil {
					return err
				}
				more = append(more, ids...)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if blocks, err = f.locate(ctx, more); err != nil {
			return err
		}
	}
	return nil
}

// send sends one block of c. It returns what must come besides.
func (f *fetch) send(c contents, b wanted) (more []objects.ID, err error) {
	if len(b.ids) == 0 {
		return nil, f.sendAlong(c, b)
	}
	err = c.err
	var stored []byte
	if err == nil {
		stored = c.data[b.off-c.off:][:b.size]
		_, err = pack.CheckBlock(stored)
	}
	if err == nil {
		more, err = f.bases(b, stored)
	}
	if err != nil {
		f.bad[b.spot] = fmt.Errorf("%s: block at offset %d: %w", b.pack.file(), b.off, err)
		for _, p := range b.ids {
			more = append(more, p.id)
		}
		return more, nil
	}
	f.sent[b.spot] = true
	return more, f.out.Append(stored)
}

// bases returns the trees that deltas among the wanted objects of a block refer
// to.
func (f *fetch) bases(b wanted, stored []byte) (bases []objects.ID, err error) {
	decoded := false
	for _, p := range b.ids {
		if p.typ() != pack.Delta {
			continue
		}
		if !decoded {
			if err := f.data.Decode(stored); err != nil {
				return nil, err
			}
			decoded = true
		}
		if p.record() >= f.data.Len() {
			return nil, badIndex("record %d of %d", p.record(), f.data.Len())
		}
		_, body := f.data.Record(p.record())
		d, err := pack.ParseDelta(body)
		if err != nil {
			return nil, err
		}
		if (f.q.Holds == nil || !f.q.Holds(d.Base)) && !slices.Contains(f.q.Have, d.Base) {
			bases = append(bases, d.Base)
		}
	}
	return bases, nil
}

// sendAlong sends a block that nobody wants yet, if it can be read and what is in it is
// worth something by itself.
func (f *fetch) sendAlong(c contents, b wanted) error {
	if c.err != nil {
		return nil
	}
	stored := c.data[b.off-c.off:][:b.size]
	if f.data.Decode(stored) != nil {
		return nil
	}
	for i := range f.data.Len() {
		switch t, _ := f.data.Record(i); t {
		case pack.Delta, pack.Recipe, pack.Chunk:
			return nil
		}
	}
	f.sent[b.spot] = true
	return f.out.Append(stored)
}

// contents are bytes of a pack, with several blocks in a row.
type contents struct {
	spot
	size   int64
	blocks []wanted
	data   []byte
	err    error
}

// ranges puts blocks together that are near each other.
func ranges(blocks []wanted) []contents {
	var all []contents
	for _, b := range blocks {
		if last := len(all) - 1; last >= 0 {
			c := &all[last]
			end := b.off + b.size - c.off
			if c.pack == b.pack && b.off >= c.off && b.off <= c.off+c.size+gap && end <= maxRange {
				c.size = max(c.size, end)
				c.blocks = append(c.blocks, b)
				continue
			}
		}
		all = append(all, contents{spot: b.spot, size: b.size, blocks: []wanted{b}})
	}
	return all
}

// read returns an iterator over all that reads a few of them ahead.
func (f *fetch) read(ctx context.Context, all []contents) (next func() (contents, bool)) {
	var ahead []chan contents
	start := func() {
		if len(all) == 0 {
			return
		}
		c, ch := all[0], make(chan contents, 1)
		all, ahead = all[1:], append(ahead, ch)
		f.readers.Go(func() {
			c.data, c.err = f.r.read(ctx, c.pack.file(), c.off, c.size)
			ch <- c
		})
	}
	for range parallel {
		start()
	}
	return func() (contents, bool) {
		if len(ahead) == 0 {
			return contents{}, false
		}
		c := <-ahead[0]
		ahead = ahead[1:]
		start()
		return c, true
	}
}
