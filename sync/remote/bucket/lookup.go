package bucket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// An index is a head, and all of it if that is at hand.
type index struct {
	*head
	info IndexInfo

	mu     sync.Mutex
	body   io.ReaderAt // guarded by mu; nil if it must be read in the bucket
	proven bool        // guarded by mu; body was hashed
	asked  int64       // guarded by mu; bytes that were read of it without having it
	unkept bool        // guarded by mu; it is too big for memory, and the cache won't have it
}

// How indexes and packs are read: a round trip costs about as much as so many
// bytes more.
const (
	wholeIndex = 3 << 20  // indexes up to this size are read as a whole and kept
	gap        = 64 << 10 // what lies between two pieces is read too, up to this
	maxRange   = 4 << 20  // bytes that are read from packs at once, if blocks allow
	parallel   = 4        // requests at a time
)

// A place is one copy of what is looked for.
type place struct {
	entry
	pack PackName
	at   block
	in   *head // of the index that says so
}

// find looks ids up in the indexes of v, and calls fn for each copy that is in a
// live pack, with the number of the id. Calls come one at a time. Small indexes,
// which are those of what came last, are looked at first, and bigger ones only for
// ids of which fn has not said that it knows enough. With proof no copy of an index
// on this machine is believed as it is.
func (r *Remote) find(ctx context.Context, v *view, ids []objects.ID, proof bool, fn func(i int, p place) (enough bool)) error {
	s := search{r: r, v: v, ids: ids, proof: proof, fn: fn, done: make([]bool, len(ids)), order: make([]int, len(ids))}
	for i := range ids {
		s.order[i] = i
	}
	slices.SortFunc(s.order, func(a, b int) int { return ids[a].Compare(ids[b]) })
	above := int64(-1)
	for _, most := range []int64{gap, wholeIndex, math.MaxInt64} {
		if err := s.look(ctx, above, most); err != nil {
			return err
		}
		s.order = slices.DeleteFunc(s.order, func(i int) bool { return s.done[i] })
		above = most
	}
	return nil
}

// A search is one find.
type search struct {
	r     *Remote
	v     *view
	ids   []objects.ID
	order []int // numbers of the ids that are looked for, sorted by these
	proof bool

	mu   sync.Mutex
	fn   func(i int, p place) bool // called under mu
	done []bool                    // guarded by mu; of which ids enough is known
}

// look looks into the indexes of more than above and at most most bytes.
func (s *search) look(ctx context.Context, above, most int64) error {
	if len(s.order) == 0 {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, info := range s.v.Indexes {
		if info.Size <= above || info.Size > most {
			continue
		}
		g.Go(func() error {
			x, err := s.r.index(ctx, info)
			if err == nil {
				err = s.lookIn(ctx, x)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", info.file(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (s *search) found(x *index, i int, e entry) {
	at := x.blocks[e.block]
	name := x.packs[at.pack]
	if _, live := s.v.Packs[name]; !live {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fn(i, place{e, name, at, x.head}) {
		s.done[i] = true
	}
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
	if x := r.fromCache(info); x != nil {
		r.keep(x)
		return x, nil
	}
	n := info.Head
	if info.Size <= wholeIndex {
		n = info.Size
	}
	for try := 1; ; try++ {
		data, err := r.read(ctx, info.file(), 0, n)
		if err != nil {
			return nil, err
		}
		x, err := newIndex(info, data)
		if err == nil {
			name := headName(info)
			if x.body != nil {
				name = indexName(info)
			}
			r.cache.write(name, data)
			r.keep(x)
			return x, nil
		}
		if try == 2 { // it may have been damaged on its way only
			return nil, err
		}
	}
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
		x.body, x.proven = bytes.NewReader(data), true
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

// lookIn looks into one index: into the copy of it on this machine, if there is one
// and it makes sense.
func (s *search) lookIn(ctx context.Context, x *index) error {
	spans := x.spans(s.ids, s.order)
	for {
		body, err := s.r.bodyFor(ctx, x, spans, s.proof)
		if err != nil {
			return err
		}
		if body == nil {
			return s.lookThere(ctx, x, spans)
		}
		for _, span := range spans {
			off, n := x.info.Head+int64(span.from)*entrySize, int64(span.to-span.from)*entrySize
			if err = s.scan(bufio.NewReaderSize(io.NewSectionReader(body, off, n), int(min(n, 64<<10))), x, span); err != nil {
				break
			}
		}
		x.mu.Lock()
		again := err != nil && !x.proven
		if again {
			s.r.distrust(x)
		}
		x.mu.Unlock()
		if !again {
			return err
		}
	}
}

// lookThere looks into one index where it lies in the bucket.
func (s *search) lookThere(ctx context.Context, x *index, spans []span) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, span := range spans {
		g.Go(func() error {
			body := s.r.stream(ctx, x.info.file(), x.info.Head+int64(span.from)*entrySize, int64(span.to-span.from)*entrySize)
			defer body.Close()
			return s.scan(bufio.NewReaderSize(body, 64<<10), x, span)
		})
	}
	return g.Wait()
}

// scan reads the entries of a span, and notes those that are looked for.
func (s *search) scan(entries io.Reader, x *index, span span) error {
	var buf [entrySize]byte
	next := 0 // in span.order: the first id that is not less than the entry
	for range span.to - span.from {
		if _, err := io.ReadFull(entries, buf[:]); err != nil {
			return err
		}
		e := parseEntry(buf[:])
		for next < len(span.order) && s.ids[span.order[next]].Compare(e.id) < 0 {
			next++
		}
		if int64(e.block) >= int64(len(x.blocks)) {
			return badIndex("an id in block %d of %d", e.block, len(x.blocks))
		}
		for i := next; i < len(span.order) && s.ids[span.order[i]] == e.id; i++ {
			s.found(x, span.order[i], e)
		}
	}
	return nil
}

// Missing returns those of ids that are in no live pack.
func (r *Remote) Missing(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	r.ask()
	ids = without(ids, r.hold(), func(entry) bool { return true })
	return r.missing(ctx, r.known, ids, func(place) bool { return true })
}

// MissingBases returns those of ids that are in no live pack as whole trees.
func (r *Remote) MissingBases(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	r.ask()
	ids = without(ids, r.hold(), func(e entry) bool { return e.typ() == pack.Tree })
	return r.missing(ctx, r.known, ids, func(p place) bool { return p.typ() == pack.Tree })
}

func (r *Remote) missing(ctx context.Context, first func(context.Context) (*view, error), ids []objects.ID, counts func(place) bool) ([]objects.ID, error) {
	var there []bool
	_, err := r.again(ctx, first, func(v *view) error {
		there = make([]bool, len(ids))
		return r.find(ctx, v, ids, true, func(i int, p place) bool {
			if counts(p) {
				there[i] = true
				r.rely(p.pack)
			}
			return there[i]
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
