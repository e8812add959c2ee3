package action

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Sets are the sets of files that runs of one action were found to read beyond
// its declared inputs, newest first. They are the value of an entry of kind
// "deps":
//
//	"cache-tool deps 1\n"
//	uvarint   paths
//	then for each: the place, NUL; sorted
//	then for each set:
//	uvarint   members
//	then for each: uvarint, the path's number less that of the member before
//	          less 1 (the first: its number)
//
// Runs include much the same files, so each path stands there once.
type Sets struct {
	Paths   []string // places, sorted
	Members [][]int  // numbers of Paths, ascending, one slice for each set
}

const (
	setsMagic = "cache-tool deps 1\n"
	maxSets   = 32
	maxPaths  = 1 << 20
)

// ErrBadSets is what every error of ParseSets is.
var ErrBadSets = errors.New("malformed sets of inputs")

// Add puts the set of places in front, and drops the oldest beyond the bound.
// The places must be sorted.
func (s Sets) Add(places []string) Sets {
	return unite([][]string{places}, s.expand())
}

// MergeSets is the union of two values: the sets of both, those of a first.
// A merge of branches takes it for the value of "deps" entries.
func MergeSets(a, b []byte) ([]byte, error) {
	ours, err := ParseSets(a)
	if err != nil {
		return nil, err
	}
	theirs, err := ParseSets(b)
	if err != nil {
		return nil, err
	}
	return unite(ours.expand(), theirs.expand()).Encode(), nil
}

// expand returns the sets as places.
func (s Sets) expand() [][]string {
	sets := make([][]string, len(s.Members))
	for i, members := range s.Members {
		sets[i] = make([]string, len(members))
		for j, n := range members {
			sets[i][j] = s.Paths[n]
		}
	}
	return sets
}

// unite keeps the first maxSets different ones of the sets.
func unite(lists ...[][]string) Sets {
	var sets [][]string
	paths := 0
	for _, list := range lists {
		for _, set := range list {
			same := func(other []string) bool { return slices.Equal(set, other) }
			if len(sets) == maxSets || paths+len(set) > maxPaths || slices.ContainsFunc(sets, same) {
				continue
			}
			sets = append(sets, set)
			paths += len(set)
		}
	}
	var s Sets
	s.Paths = slices.Concat(sets...)
	slices.Sort(s.Paths)
	s.Paths = slices.Compact(s.Paths)
	for _, set := range sets {
		members := make([]int, len(set))
		for i, place := range set {
			members[i], _ = slices.BinarySearch(s.Paths, place)
		}
		s.Members = append(s.Members, members)
	}
	return s
}

// Encode returns the value.
func (s Sets) Encode() []byte {
	b := []byte(setsMagic)
	b = binary.AppendUvarint(b, uint64(len(s.Paths)))
	for _, p := range s.Paths {
		b = append(append(b, p...), 0)
	}
	for _, members := range s.Members {
		b = binary.AppendUvarint(b, uint64(len(members)))
		last := -1
		for _, n := range members {
			b = binary.AppendUvarint(b, uint64(n-last-1))
			last = n
		}
	}
	return b
}

// ParseSets is the inverse of Encode.
func ParseSets(body []byte) (Sets, error) {
	rest, ok := strings.CutPrefix(string(body), setsMagic)
	if !ok {
		return Sets{}, fmt.Errorf("%w: it begins with %.20q", ErrBadSets, body)
	}
	p := setsParser{rest: rest}
	var s Sets
	count := p.number(min(maxPaths, len(rest)))
	s.Paths = make([]string, 0, count)
	for range count {
		s.Paths = append(s.Paths, p.place())
		if n := len(s.Paths); n > 1 && s.Paths[n-2] >= s.Paths[n-1] {
			p.fail("paths are out of order")
		}
	}
	for p.rest != "" && p.err == nil {
		members := make([]int, p.number(min(count, len(p.rest))))
		last := -1
		for i := range members {
			if last += 1 + p.number(count); last >= count {
				p.fail("a member has no path")
				break
			}
			members[i] = last
		}
		if s.Members = append(s.Members, members); len(s.Members) > maxSets {
			p.fail("too many sets")
		}
	}
	if p.err != nil {
		return Sets{}, fmt.Errorf("%w: %w", ErrBadSets, p.err)
	}
	return s, nil
}

type setsParser struct {
	rest string
	err  error
}

func (p *setsParser) fail(reason string) {
	if p.err == nil {
		p.err = fmt.Errorf("%s, %d bytes before the end", reason, len(p.rest))
	}
}

func (p *setsParser) number(most int) int {
	var v uint64
	for i := range len(p.rest) {
		if i == binary.MaxVarintLen32 {
			break
		}
		c := p.rest[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			p.rest = p.rest[i+1:]
			if v > uint64(most) {
				p.fail("a number is too big")
				return 0
			}
			return int(v)
		}
	}
	p.fail("a number is cut short")
	return 0
}

func (p *setsParser) place() string {
	place, rest, ok := strings.Cut(p.rest, "\x00")
	if !ok {
		p.fail("a path is cut short")
		return ""
	}
	if err := checkPlace(place); err != nil && p.err == nil {
		p.err = err
	}
	p.rest = rest
	return place
}
