package bucket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// An index is a head, and all entries if they are few.
type index struct {
	*head
	info    IndexInfo
	entries []byte
}

// How indexes and packs are read: a round trip costs about as much as so many
// bytes more.
const (
	wholeIndex = 1 << 20  // indexes up to this size are read as a whole and kept
	gap        = 64 << 10 // what lies between two pieces is read too, up to this
	maxRange   = 4 << 20  // bytes that are read from packs at once, if blocks allow
	parallel   = 4        // requests at a time
)

// A place is one copy of what is looked for.
type place struct {
	entry
	pack PackName
	at   block
}

// find looks ids up in all indexes of v, and calls fn for each copy that is in a
// live pack, with the number of the id. Calls come one at a time.
func (r *Remote) find(ctx context.Context, v *view, ids []objects.ID, fn func(i int, p place)) error {
	if len(ids) == 0 {
		return nil
	}
	order := make([]int, len(ids))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return ids[a].Compare(ids[b]) })
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, info := range v.Indexes {
		g.Go(func() error {
			x, err := r.index(ctx, info)
			if err == nil {
				err = r.findIn(ctx, x, ids, order, func(i int, e entry) {
					at := x.blocks[e.block]
					name := x.packs[at.pack]
					if _, live := v.Packs[name]; !live {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					fn(i, place{e, name, at})
				})
			}
			if err != nil {
				return fmt.Errorf("%s: %w", info.file(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// index returns what must be known of an index before ids can be looked up.
func (r *Remote) index(ctx context.Context, info IndexInfo) (*index, error) {
	r.mu.Lock()
	x, ok := r.heads[info.Hash]
	r.mu.Unlock()
	if ok {
		return x, nil
	}
	if info.Head > maxHead || info.Head > info.Size {
		return nil, badIndex("a head of %d bytes of %d", info.Head, info.Size)
	}
	n := info.Head
	if info.Size <= wholeIndex {
		n = info.Size
	}
	data, err := r.read(ctx, info.file(), 0, n)
	if err != nil {
		return nil, err
	}
	if x, err = newIndex(info, data); err != nil {
		return nil, err
	}
	r.keep(x)
	return x, nil
}

// keep remembers an index, as long as a root names it.
func (r *Remote) keep(x *index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heads[x.info.Hash] = x
}

// newIndex parses the head of an index, or all of it.
func newIndex(info IndexInfo, data []byte) (*index, error) {
	h, err := parseHead(data[:info.Head])
	if err != nil {
		return nil, err
	}
	if h.fileSize() != info.Size {
		return nil, badIndex("%d bytes for %d ids", info.Size, h.n)
	}
	x := &index{head: h, info: info}
	if int64(len(data)) == info.Size {
		if sha256.Sum256(data) != info.Hash {
			return nil, badIndex("its bytes do not hash to its name")
		}
		x.entries = data[info.Head:]
	}
	return x, nil
}

// A span is some entries in a row, and the ids that may be among them.
type span struct {
	from, to int
	order    []int
}

// spans returns what must be read of x to find ids, which order sorts.
func (x *index) spans(ids []objects.ID, order []int) []span {
	var spans []span
	for i := 0; i < len(order); {
		p := prefix(&ids[order[i]], x.bits)
		j := i + 1
		for j < len(order) && prefix(&ids[order[j]], x.bits) == p {
			j++
		}
		from, to := x.between(p)
		last := len(spans) - 1
		switch {
		case from == to:
		case last >= 0 && from-spans[last].to <= gap/entrySize:
			spans[last].to, spans[last].order = to, append(spans[last].order, order[i:j]...)
		default:
			spans = append(spans, span{from, to, slices.Clone(order[i:j])})
		}
		i = j
	}
	return spans
}

// findIn looks ids up in one index.
func (r *Remote) findIn(ctx context.Context, x *index, ids []objects.ID, order []int, fn func(int, entry)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, s := range x.spans(ids, order) {
		if x.entries != nil {
			if err := x.scan(bytes.NewReader(x.entries[s.from*entrySize:s.to*entrySize]), s, ids, fn); err != nil {
				return err
			}
			continue
		}
		g.Go(func() error {
			body := r.stream(ctx, x.info.file(), x.info.Head+int64(s.from)*entrySize, int64(s.to-s.from)*entrySize)
			defer body.Close()
			return x.scan(bufio.NewReaderSize(body, 64<<10), s, ids, fn)
		})
	}
	return g.Wait()
}

// scan reads the entries of a span and calls fn for those that are looked for.
func (x *index) scan(entries io.Reader, s span, ids []objects.ID, fn func(int, entry)) error {
	var buf [entrySize]byte
	next := 0 // in s.order: the first id that is not less than the entry
	for range s.to - s.from {
		if _, err := io.ReadFull(entries, buf[:]); err != nil {
			return err
		}
		e := parseEntry(buf[:])
		for next < len(s.order) && ids[s.order[next]].Compare(e.id) < 0 {
			next++
		}
		if int64(e.block) >= int64(len(x.blocks)) {
			return badIndex("an id in block %d of %d", e.block, len(x.blocks))
		}
		for i := next; i < len(s.order) && ids[s.order[i]] == e.id; i++ {
			fn(s.order[i], e)
		}
	}
	return nil
}

// Missing returns those of ids that are in no live pack.
func (r *Remote) Missing(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	return r.missing(ctx, r.load, ids, func(place) bool { return true })
}

// MissingBases returns those of ids that are in no live pack as whole trees.
func (r *Remote) MissingBases(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	return r.missing(ctx, r.load, ids, func(p place) bool { return p.typ() == pack.Tree })
}

func (r *Remote) missing(ctx context.Context, first func(context.Context) (*view, error), ids []objects.ID, counts func(place) bool) ([]objects.ID, error) {
	var there []bool
	_, err := r.again(ctx, first, func(v *view) error {
		there = make([]bool, len(ids))
		return r.find(ctx, v, ids, func(i int, p place) {
			if counts(p) {
				there[i] = true
				r.rely(p.pack)
			}
		})
	})
	if err != nil {
		return nil, err
	}
	var missing []objects.ID
	for i, id := range ids {
		if !there[i] {
			missing = append(missing, id)
		}
	}
	return missing, nil
}

func (r *Remote) rely(p PackName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.relied[p] = true
}

// again calls fn with a view, and again with a later one as long as fn finds
// that a file of its view is gone.
func (r *Remote) again(ctx context.Context, first func(context.Context) (*view, error), fn func(*view) error) (*view, error) {
	v, err := first(ctx)
	for try := 1; err == nil; try++ {
		if err = fn(v); !errors.Is(err, remote.ErrNotFound) || try == tries {
			return v, err
		}
		before := v.root
		if v, err = r.load(ctx); err == nil && v.root == before {
			return v, fn(v) // it is not that somebody else was faster
		}
	}
	return nil, err
}
