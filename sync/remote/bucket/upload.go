package bucket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/objects/pack"
)

// An upload is a pack that is in the bucket, but not yet in its root.
type upload struct {
	name    PackName
	size    int64
	blocks  []block
	entries []entry
	put     time.Time // when the bucket had it, without the monotonic clock, which stands still while a machine sleeps
	copied  bool      // what is in it was in the bucket before

	done bool // put into the root, or given up
	err  error
}

// Upload puts a pack into the bucket, with an index, and names both in the root:
// what was uploaded once is missing to nobody any more, even if the push that
// it was for breaks off.
func (r *Remote) Upload(ctx context.Context, p io.ReaderAt, size int64) error {
	u, err := examine(p, size)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	return r.upload(ctx, p, u, whosever)
}

// UploadIndexed is Upload for one who knows what is in the pack, as its index
// says. Nothing is read twice, or decoded: whoever fetches an object proves it.
func (r *Remote) UploadIndexed(ctx context.Context, p io.ReaderAt, size int64, index *pack.Index) error {
	u, err := fromIndex(size, index)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	return r.upload(ctx, p, u, whosever)
}

// upload puts a pack and enters it, unless the same is there under a name that will do.
func (r *Remote) upload(ctx context.Context, p io.ReaderAt, u *upload, willDo func(PackName) bool) error {
	fresh, err := r.putFresh(ctx, p, u, willDo)
	if err != nil || !fresh {
		return err
	}
	return r.enter(ctx, u)
}

// whosever lets any name of a pack do.
func whosever(PackName) bool { return true }

// putFresh puts a pack, unless the same is there under a name that will do. It reports
// whether it did: then the pack is to be named.
func (r *Remote) putFresh(ctx context.Context, p io.ReaderAt, u *upload, willDo func(PackName) bool) (fresh bool, err error) {
	v, err := r.known(ctx)
	if err != nil {
		return false, err
	}
	for name := range v.Packs {
		if name.Hash == u.name.Hash && willDo(name) {
			r.rely(name)
			return false, nil
		}
	}
	if len(u.entries) == 0 {
		return false, nil
	}
	return true, r.put(ctx, p, u)
}

func (r *Remote) put(ctx context.Context, p io.ReaderAt, u *upload) error {
	if err := r.b.Put(ctx, u.name.file(), p, u.size); err != nil {
		return err
	}
	u.put = time.Now().Round(0)
	return nil
}

// add puts a pack, and enters it.
func (r *Remote) add(ctx context.Context, p io.ReaderAt, u *upload) error {
	if err := r.put(ctx, p, u); err != nil {
		return err
	}
	return r.enter(ctx, u)
}

// examine proves the checksums of a pack and says what is in it.
func examine(p io.ReaderAt, size int64) (*upload, error) {
	hash, err := pack.CheckSum(p, size)
	if err != nil {
		return nil, err
	}
	u := &upload{name: PackName{hash, rand.Uint64()}, size: size}
	return u, pack.Scan(p, size, func(b pack.BlockInfo, d *pack.Data, err error) error {
		if err != nil {
			return err
		}
		u.blocks = append(u.blocks, block{size: uint32(b.Size()), off: b.Offset})
		for i := range d.Len() {
			t, body := d.Record(i)
			id, err := pack.RecordID(t, body)
			if err != nil {
				return err
			}
			u.entries = append(u.entries, entry{id, uint32(len(u.blocks) - 1), uint32(t)<<28 | uint32(i), uint32(len(body))})
		}
		return nil
	})
}

// fromIndex says what is in a pack.
func fromIndex(size int64, index *pack.Index) (*upload, error) {
	if size != index.PackSize() {
		return nil, fmt.Errorf("a pack of %d bytes, its index says %d", size, index.PackSize())
	}
	u := &upload{name: PackName{index.Name(), rand.Uint64()}, size: size}
	first := make([]uint32, index.Blocks())
	for n := range first {
		b, err := index.Block(n)
		if err != nil {
			return nil, err
		}
		first[n] = b.First
		u.blocks = append(u.blocks, block{size: uint32(b.Size()), off: b.Offset})
	}
	for id, e := range index.All() {
		n, err := index.BlockOf(e.Record)
		if err != nil {
			return nil, err
		}
		u.entries = append(u.entries, entry{id, uint32(n), uint32(e.Type)<<28 | (e.Record - first[n]), e.Size})
	}
	if len(u.entries) != index.Len() {
		return nil, pack.ErrBadIndex
	}
	return u, nil
}

// enter puts u into the root, together with what others want to enter
// meanwhile.
func (r *Remote) enter(ctx context.Context, u *upload) error {
	r.mu.Lock()
	r.pending = append(r.pending, u)
	r.mu.Unlock()
	select {
	case r.swapping <- struct{}{}:
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		r.pending = slices.DeleteFunc(r.pending, func(p *upload) bool { return p == u })
		return ctx.Err()
	}
	defer func() { <-r.swapping }()
	if u.done {
		return u.err
	}
	r.mu.Lock()
	batch := append(r.pending, r.held...) // what enters may be made of what is held
	r.pending, r.held = nil, nil
	r.mu.Unlock()
	err := r.enterAll(ctx, batch)
	if err != nil && ctx.Err() != nil {
		// The others need not suffer for that we were called off.
		r.mu.Lock()
		r.pending = append(slices.DeleteFunc(batch, func(p *upload) bool { return p == u }), r.pending...)
		r.mu.Unlock()
		return err
	}
	for _, p := range batch {
		p.done, p.err = true, err
	}
	return err
}

// enterAll puts uploads into the root. What they are made of must still be there:
// else others would be told that an object is there which lacks a part.
func (r *Remote) enterAll(ctx context.Context, batch []*upload) error {
	e := entrance{r: r, batch: batch}
	err := r.change(ctx, func(v *view, s *State) (bool, error) {
		if !batch[0].copied {
			if err := r.stillThere(v); err != nil {
				return false, err
			}
		}
		return true, e.into(ctx, v, s)
	})
	if err == nil {
		e.done()
	}
	return err
}

// An entrance puts the names of uploads into one root after the other, until one is
// swapped in.
type entrance struct {
	r     *Remote
	batch []*upload

	put IndexInfo   // the index that the last try has put
	of  []IndexInfo // and the indexes that it has taken in
	at  time.Time   // and when
}

// into names the uploads in s, which follows v.
func (e *entrance) into(ctx context.Context, v *view, s *State) error {
	for _, u := range e.batch {
		if isLate(u.put) {
			return fmt.Errorf("%s was put %v ago, and is not believed to be there any more", u.name.file(), time.Since(u.put).Round(time.Second))
		}
	}
	keep, take := choose(v.Indexes, e.batch)
	if e.put.Size == 0 || isLate(e.at) || !slices.Equal(take, e.of) {
		e.drop(ctx)
		put, err := e.r.putIndex(ctx, v, take, e.batch)
		if err != nil {
			return err
		}
		e.put, e.of, e.at = put, take, time.Now().Round(0)
	}
	s.Indexes = append(slices.Clone(keep), e.put)
	now := time.Now()
	for _, x := range take {
		s.Dropped[x.Hash] = now
	}
	for _, u := range e.batch {
		s.Packs[u.name] = PackInfo{u.size, now}
	}
	return nil
}

// drop deletes the index that the last try has put, which has lost.
func (e *entrance) drop(ctx context.Context) {
	if e.put.Size > 0 {
		e.r.discard(ctx, e.put.file())
		e.put = IndexInfo{}
	}
}

// done notes that the caller counts on what has entered.
func (e *entrance) done() {
	for _, u := range e.batch {
		if !u.copied {
			e.r.rely(u.name)
		}
	}
}

// choose says which indexes are merged with that of new packs: from the newest
// on those that are not much bigger than what comes after them, so that their
// number stays within the logarithm of their size, and within ten.
func choose(all []IndexInfo, batch []*upload) (keep, take []IndexInfo) {
	var total int64
	for _, u := range batch {
		total += int64(len(u.entries)) * entrySize
	}
	n := len(all)
	for n > 0 && (all[n-1].Size <= 2*total || n+1 > maxIndexes) {
		n--
		total += all[n].Size
	}
	return all[:n], all[n:]
}

// putIndex makes one index of others and of new packs, and puts it.
func (r *Remote) putIndex(ctx context.Context, v *view, take []IndexInfo, batch []*upload) (IndexInfo, error) {
	var packs []PackName
	var blocks []block
	var entries []entry
	slices.SortFunc(batch, func(a, b *upload) int { return a.name.compare(b.name) })
	for i, u := range batch {
		first := uint32(len(blocks))
		packs = append(packs, u.name)
		for _, b := range u.blocks {
			blocks = append(blocks, block{uint32(i), b.size, b.off})
		}
		for _, e := range u.entries {
			e.block += first
			entries = append(entries, e)
		}
	}
	data, headLen := encodeIndex(rand.Uint64(), packs, blocks, entries)
	info := IndexInfo{sum(data), int64(len(data)), headLen}
	fresh, err := newIndex(info, data)
	if err != nil {
		return info, err
	}
	if len(take) == 0 {
		return info, r.putAndKeep(ctx, info, bytes.NewReader(data))
	}
	m := merge{live: v.Packs}
	defer m.close()
	for _, x := range take {
		if err := m.open(ctx, r, x); err != nil {
			return info, fmt.Errorf("%s: %w", x.file(), err)
		}
	}
	m.add(fresh, bytes.NewReader(data[info.Head:]), nil)
	for _, u := range batch {
		m.fresh = append(m.fresh, u.name)
	}
	out, err := m.write()
	if err != nil {
		return info, err
	}
	defer out.close()
	return out.info, r.putAndKeep(ctx, out.info, out)
}

// putAndKeep puts an index, and remembers it: it is needed at once when refs are
// moved to what is in it.
func (r *Remote) putAndKeep(ctx context.Context, info IndexInfo, data io.ReaderAt) error {
	if err := r.b.Put(ctx, info.file(), data, info.Size); err != nil {
		return err
	}
	f, err := r.cache.copy(info, io.NewSectionReader(data, 0, info.Size))
	if f != nil {
		f.Close()
	}
	if err != nil || info.Size > wholeIndex {
		return err
	}
	whole := make([]byte, info.Size)
	if _, err := io.ReadFull(io.NewSectionReader(data, 0, info.Size), whole); err != nil {
		return err
	}
	x, err := newIndex(info, whole)
	if err == nil {
		r.keep(x)
	}
	return err
}
