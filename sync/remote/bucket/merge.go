package bucket

import (
	"bufio"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
)

// A merge makes one index of several, entry by entry: however big they are, it
// takes little memory. Packs that do not count any more are left out.
type merge struct {
	live    map[PackName]PackInfo
	fresh   []PackName // count too
	sources []*source
}

// A source is an index that is being read.
type source struct {
	x       *index
	entries io.Reader
	close   func()
	sum     hash.Hash // of what was read; nil if that is proven

	blocks []int64 // where each block comes in the new index; -1 nowhere
	left   int
	now    entry // the next one, if there is any
	any    bool
	last   objects.ID
}

// open adds an index of the bucket.
func (m *merge) open(ctx context.Context, r *Remote, info IndexInfo) error {
	if info.Head > min(maxHead, info.Size) {
		return badIndex("a head of %d bytes of %d", info.Head, info.Size)
	}
	body, err := r.reader(ctx, info)
	if err != nil {
		return err
	}
	sum := sha256.New()
	proving := io.TeeReader(body, sum)
	head, err := io.ReadAll(io.LimitReader(proving, info.Head))
	if err == nil && int64(len(head)) < info.Head {
		err = io.ErrUnexpectedEOF
	}
	var x *index
	if err == nil {
		x, err = newIndex(IndexInfo{info.Hash, info.Size, info.Head}, head)
	}
	if err != nil {
		body.Close()
		return err
	}
	m.add(x, bufio.NewReaderSize(proving, 64<<10), body.Close)
	m.sources[len(m.sources)-1].sum = sum
	return nil
}

// add adds an index whose entries are read from entries.
func (m *merge) add(x *index, entries io.Reader, close func()) {
	if close == nil {
		close = func() {}
	}
	m.sources = append(m.sources, &source{x: x, entries: entries, close: close, left: x.n})
}

func (m *merge) close() {
	for _, s := range m.sources {
		s.close()
	}
}

// next reads the source's next entry that counts.
func (s *source) next() error {
	var buf [entrySize]byte
	for s.any = false; s.left > 0; s.left-- {
		if _, err := io.ReadFull(s.entries, buf[:]); err != nil {
			return err
		}
		e := parseEntry(buf[:])
		if e.id.Compare(s.last) < 0 || int64(e.block) >= int64(len(s.blocks)) {
			return badIndex("its ids are out of order")
		}
		s.last = e.id
		if to := s.blocks[e.block]; to >= 0 {
			e.block = uint32(to)
			s.now, s.any = e, true
			s.left--
			return nil
		}
	}
	if s.sum != nil && [32]byte(s.sum.Sum(nil)) != s.x.info.Hash {
		return badIndex("its bytes do not hash to its name")
	}
	return nil
}

// head makes the head of the new index, but for its counts, and tells the
// sources where their blocks come.
func (m *merge) head() *head {
	h := &head{unique: rand.Uint64()}
	of := map[PackName]*source{} // the first that has the pack; others are not asked
	most := 0
	for _, s := range m.sources {
		most += s.x.n
		for _, p := range s.x.packs {
			_, live := m.live[p]
			if _, ok := of[p]; !ok && (live || slices.Contains(m.fresh, p)) {
				of[p] = s
				h.packs = append(h.packs, p)
			}
		}
	}
	slices.SortFunc(h.packs, PackName.compare)
	number := map[PackName]uint32{}
	for i, p := range h.packs {
		number[p] = uint32(i)
	}
	type moved struct {
		block
		s    *source
		from int
	}
	var all []moved
	for _, s := range m.sources {
		s.blocks = make([]int64, len(s.x.blocks))
		for i, b := range s.x.blocks {
			s.blocks[i] = -1
			if p := s.x.packs[b.pack]; of[p] == s {
				all = append(all, moved{block{number[p], b.size, b.off}, s, i})
			}
		}
	}
	slices.SortFunc(all, func(a, b moved) int {
		if a.pack != b.pack {
			return int(a.pack) - int(b.pack)
		}
		return int(min(1, max(-1, a.off-b.off)))
	})
	for i, b := range all {
		h.blocks = append(h.blocks, b.block)
		b.s.blocks[b.from] = int64(i)
	}
	h.bits = fanBits(most)
	h.fan = make([]uint32, 1+1<<h.bits)
	return h
}

// write makes the new index.
func (m *merge) write() (*spool, error) {
	h := m.head()
	out := &spool{}
	err := m.entries(h, out)
	if err == nil {
		h.addUp()
		err = out.finish(h)
	}
	if err != nil {
		out.close()
		return nil, err
	}
	return out, nil
}

// entries writes all entries in order, and counts them in h.
func (m *merge) entries(h *head, out *spool) error {
	for _, s := range m.sources {
		if err := s.next(); err != nil {
			return err
		}
	}
	var buf []byte
	for {
		var first *source
		for _, s := range m.sources {
			if s.any && (first == nil || s.now.compare(first.now) < 0) {
				first = s
			}
		}
		if first == nil || len(buf) >= 256<<10 {
			if err := out.write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
		if first == nil {
			return nil
		}
		buf = appendEntry(buf, first.now)
		h.fan[prefix(&first.now.id, h.bits)+1]++
		h.n++
		if err := first.next(); err != nil {
			return err
		}
	}
}

// A spool holds the entries of an index until its head is known: a few in
// memory, many in a file without a name.
type spool struct {
	info IndexInfo
	head []byte
	mem  []byte
	file *os.File
	size int64 // of the entries
}

const spoolInMemory = 8 << 20

func (s *spool) write(p []byte) error {
	if s.file == nil && s.size+int64(len(p)) > spoolInMemory {
		f, err := os.CreateTemp("", "cache-tool-")
		if err != nil {
			return err
		}
		s.file = f
		os.Remove(f.Name())
		if _, err := f.Write(s.mem); err != nil {
			return err
		}
		s.mem = nil
	}
	s.size += int64(len(p))
	if s.file == nil {
		s.mem = append(s.mem, p...)
		return nil
	}
	_, err := s.file.Write(p)
	return err
}

// finish puts the head in front and computes the name.
func (s *spool) finish(h *head) error {
	s.head = h.encode()
	s.info.Head, s.info.Size = int64(len(s.head)), int64(len(s.head))+s.size
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(s, 0, s.info.Size)); err != nil {
		return err
	}
	sum.Sum(s.info.Hash[:0])
	return nil
}

// ReadAt reads the index.
func (s *spool) ReadAt(p []byte, off int64) (n int, err error) {
	if off < s.info.Head {
		n = copy(p, s.head[off:])
		if n == len(p) {
			return n, nil
		}
	}
	at := off + int64(n) - s.info.Head
	var m int
	switch {
	case s.file != nil:
		m, err = s.file.ReadAt(p[n:], at)
	case at >= s.size:
		err = io.EOF
	default:
		if m = copy(p[n:], s.mem[at:]); m < len(p)-n {
			err = io.EOF
		}
	}
	return n + m, err
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
}
