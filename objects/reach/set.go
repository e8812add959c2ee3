package reach

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
)

// A Set holds ids, millions of them, in 20 to 32 bytes each. It may be used
// concurrently. The zero Set is empty.
//
// It keeps the first half of each id. Two objects whose ids share 128 bits are
// not to be had by chance, and whoever can make them on purpose only harms what
// he stores himself.
type Set struct {
	shards [256]shard
}

// A shard is the ids that begin with one byte: an open hash table with linear
// probing. It grows by half, and one at a time, so that growing never doubles the
// memory of the whole.
type shard struct {
	mu    sync.Mutex
	slots []half // zero if free
	n     int
	zero  bool // the half that is all zeros is in the set
}

type half [2]uint64

const minSlots = 16

// Add puts id into the set and reports whether it is new there.
func (s *Set) Add(id objects.ID) bool {
	return s.shards[id[0]].add(halfOf(id))
}

// Remove takes id out of the set and reports whether it was there.
func (s *Set) Remove(id objects.ID) bool {
	return s.shards[id[0]].remove(halfOf(id))
}

// Has reports whether id is in the set.
func (s *Set) Has(id objects.ID) bool {
	sh, h := &s.shards[id[0]], halfOf(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if h == (half{}) {
		return sh.zero
	}
	if len(sh.slots) == 0 {
		return false
	}
	return sh.slots[sh.find(h)] == h
}

// Clone returns a set with the same ids.
func (s *Set) Clone() *Set {
	c := new(Set)
	for i := range s.shards {
		from, to := &s.shards[i], &c.shards[i]
		from.mu.Lock()
		to.slots, to.n, to.zero = slices.Clone(from.slots), from.n, from.zero
		from.mu.Unlock()
	}
	return c
}

// AddAll puts all ids of another set into the set.
func (s *Set) AddAll(other *Set) {
	for i := range other.shards {
		from, to := &other.shards[i], &s.shards[i]
		from.mu.Lock()
		slots, zero := slices.Clone(from.slots), from.zero
		from.mu.Unlock()
		for _, h := range slots {
			if h != (half{}) {
				to.add(h)
			}
		}
		if zero {
			to.add(half{})
		}
	}
}

// Len returns how many ids are in the set.
func (s *Set) Len() int {
	n := 0
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += sh.n
		sh.mu.Unlock()
	}
	return n
}

func halfOf(id objects.ID) half {
	return half{binary.LittleEndian.Uint64(id[:]), binary.LittleEndian.Uint64(id[8:])}
}

func (s *shard) add(h half) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h == (half{}) {
		isNew := !s.zero
		s.zero = true
		if isNew {
			s.n++
		}
		return isNew
	}
	if s.n >= len(s.slots)-len(s.slots)/5 { // four fifths
		s.grow()
	}
	i := s.find(h)
	if s.slots[i] == h {
		return false
	}
	s.slots[i] = h
	s.n++
	return true
}

func (s *shard) remove(h half) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h == (half{}) {
		was := s.zero
		s.zero = false
		if was {
			s.n--
		}
		return was
	}
	if len(s.slots) == 0 {
		return false
	}
	i := s.find(h)
	if s.slots[i] != h {
		return false
	}
	s.n--
	// What follows without a gap may have been pushed on by h: it moves up, unless it
	// would come to stand before its home.
	for j := s.after(i); s.slots[j] != (half{}); j = s.after(j) {
		home := s.home(s.slots[j])
		if i <= j && i < home && home <= j || i > j && (i < home || home <= j) {
			continue
		}
		s.slots[i], i = s.slots[j], j
	}
	s.slots[i] = half{}
	return true
}

// find returns the slot of h, or the free one where it would go.
func (s *shard) find(h half) int {
	i := s.home(h)
	for s.slots[i] != h && s.slots[i] != (half{}) {
		i = s.after(i)
	}
	return i
}

// home returns the slot where h would be if there were nothing else.
func (s *shard) home(h half) int {
	// The table's size is no power of two: the high bits of a product choose.
	// The second word is used whole; the first has the shard's byte in it.
	hi, _ := bits.Mul64(h[1], uint64(len(s.slots)))
	return int(hi)
}

func (s *shard) after(i int) int {
	if i++; i == len(s.slots) {
		return 0
	}
	return i
}

func (s *shard) grow() {
	old := s.slots
	s.slots = make([]half, max(minSlots, len(old)+len(old)/2))
	for _, h := range old {
		if h != (half{}) {
			s.slots[s.find(h)] = h
		}
	}
}
