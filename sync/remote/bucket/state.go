package bucket

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// A State is what the root of a bucket says. In its file it is lines of text:
//
//	cache-tool bucket 1
//	unique NONCE                     no other root has it
//	past HASH                        the roots before, newest first, at most 16
//	pack HASH-NONCE SIZE TIME        a live pack, and when it was added
//	condemned HASH-NONCE SIZE TIME   one that does not count any more, and since when
//	index HASH SIZE HEAD             of some packs; at most ten, oldest first
//	dropped HASH TIME                an index that does not count any more
//	shallow ID                       a commit whose parents were cut off
//	ref ID NAME
//	CRC-32C of the bytes above, 8 hexadecimal digits
//
// Each line ends in LF. Kinds of lines come in this order, and lines of a kind
// sorted, but for past and index. Hashes and ids are 64 hexadecimal digits,
// nonces 16, TIME is in seconds since 1970 by the clock of who wrote it.
type State struct {
	Unique    uint64
	Past      []objects.ID
	Packs     map[PackName]PackInfo
	Condemned map[PackName]PackInfo
	Indexes   []IndexInfo
	Dropped   map[objects.ID]time.Time
	Shallow   map[objects.ID]bool
	Refs      map[refs.Name]objects.ID
}

// A PackName tells a pack from all others, even from one with the same bytes
// that was there before: a file that is about to be deleted never comes back to
// life under the same name.
type PackName struct {
	Hash  objects.ID // of the pack; see package pack
	Nonce uint64
}

// PackInfo is what a root says about a pack.
type PackInfo struct {
	Size int64
	Time time.Time // when it was added, or condemned
}

// IndexInfo is what a root says about an index.
type IndexInfo struct {
	Hash objects.ID // SHA-256 of the file
	Size int64
	Head int64 // how much of it comes before the ids
}

const (
	stateHead  = "cache-tool bucket "
	maxPast    = 16
	maxIndexes = 10
	maxState   = 64 << 20 // bytes of a root that are read
)

// ErrBadRoot is what every error about the content of a root is.
var ErrBadRoot = errors.New("damaged root of a bucket")

func badRoot(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBadRoot, fmt.Errorf(format, args...))
}

func (p PackName) String() string { return fmt.Sprintf("%s-%016x", p.Hash, p.Nonce) }

func (p PackName) compare(q PackName) int {
	return cmp.Or(p.Hash.Compare(q.Hash), cmp.Compare(p.Nonce, q.Nonce))
}

// file is where the pack is in the bucket.
func (p PackName) file() string { return "packs/" + p.String() + ".pack" }

func (x IndexInfo) file() string { return indexFile(x.Hash) }

func indexFile(hash objects.ID) string { return "indexes/" + hash.String() + ".idx" }

func rootFile(hash objects.ID) string { return "roots/" + hash.String() }

func newState() *State {
	return &State{
		Packs: map[PackName]PackInfo{}, Condemned: map[PackName]PackInfo{}, Dropped: map[objects.ID]time.Time{},
		Shallow: map[objects.ID]bool{}, Refs: map[refs.Name]objects.ID{},
	}
}

// clone returns a state that can be changed without changing s.
func (s *State) clone() *State {
	c := *s
	c.Past, c.Indexes = slices.Clone(s.Past), slices.Clone(s.Indexes)
	c.Packs, c.Condemned, c.Dropped = maps.Clone(s.Packs), maps.Clone(s.Condemned), maps.Clone(s.Dropped)
	c.Shallow, c.Refs = maps.Clone(s.Shallow), maps.Clone(s.Refs)
	return &c
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *State) encode() []byte {
	b := fmt.Appendf(nil, "%s1\nunique %016x\n", stateHead, s.Unique)
	for _, hash := range s.Past {
		b = fmt.Appendf(b, "past %s\n", hash)
	}
	for _, p := range slices.SortedFunc(maps.Keys(s.Packs), PackName.compare) {
		b = fmt.Appendf(b, "pack %s %d %d\n", p, s.Packs[p].Size, s.Packs[p].Time.Unix())
	}
	for _, p := range slices.SortedFunc(maps.Keys(s.Condemned), PackName.compare) {
		b = fmt.Appendf(b, "condemned %s %d %d\n", p, s.Condemned[p].Size, s.Condemned[p].Time.Unix())
	}
	for _, x := range s.Indexes {
		b = fmt.Appendf(b, "index %s %d %d\n", x.Hash, x.Size, x.Head)
	}
	for _, hash := range slices.SortedFunc(maps.Keys(s.Dropped), objects.ID.Compare) {
		b = fmt.Appendf(b, "dropped %s %d\n", hash, s.Dropped[hash].Unix())
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.Shallow), objects.ID.Compare) {
		b = fmt.Appendf(b, "shallow %s\n", id)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Refs)) {
		b = fmt.Appendf(b, "ref %s %s\n", s.Refs[name], name)
	}
	return sealed(b)
}

func sealed(b []byte) []byte { return fmt.Appendf(b, "%08x\n", crc32.Checksum(b, castagnoli)) }

// sum is the hash of a root by which it is called.
func sum(root []byte) objects.ID { return sha256.Sum256(root) }

// parseState is the inverse of encode, and takes nothing else.
func parseState(data []byte) (*State, error) {
	version, ok := strings.CutPrefix(string(data), stateHead)
	if version, _, _ = strings.Cut(version, "\n"); !ok {
		return nil, badRoot("it does not begin with %q", stateHead)
	} else if version != "1" {
		return nil, fmt.Errorf("bucket of version %.10q: a newer cache-tool is needed", version)
	}
	end := len(data) - len("00000000\n")
	if end < 0 || fmt.Sprintf("%08x\n", crc32.Checksum(data[:end], castagnoli)) != string(data[end:]) {
		return nil, badRoot("wrong checksum")
	}
	s := newState()
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data[:end]), "\n"), "\n") {
		if err := s.parseLine(line); err != nil {
			return nil, badRoot("line %.200q: %w", line, err)
		}
	}
	if len(s.Past) > maxPast || len(s.Indexes) > maxIndexes || string(s.encode()) != string(data) {
		return nil, badRoot("it is not as it would have been written")
	}
	return s, nil
}

func (s *State) parseLine(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	f := &fields{rest: rest}
	switch kind {
	case "cache-tool":
		f.rest = "" // looked at before
	case "unique":
		s.Unique = f.nonce()
	case "past":
		s.Past = append(s.Past, f.id())
	case "pack":
		s.Packs[f.pack()] = PackInfo{f.number(), f.time()}
	case "condemned":
		s.Condemned[f.pack()] = PackInfo{f.number(), f.time()}
	case "index":
		s.Indexes = append(s.Indexes, IndexInfo{f.id(), f.number(), f.number()})
	case "dropped":
		s.Dropped[f.id()] = f.time()
	case "shallow":
		s.Shallow[f.id()] = true
	case "ref":
		id := f.id()
		name, err := refs.ParseName(f.rest)
		if err == nil && id.IsZero() {
			err = errors.New("it points nowhere")
		}
		s.Refs[name], f.rest = id, ""
		f.fail(err)
	default:
		return errors.New("unknown")
	}
	if f.err == nil && f.rest != "" {
		return errors.New("more than is known of")
	}
	return f.err
}

// fields reads a line field by field. The first error stays.
type fields struct {
	rest string
	err  error
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *fields) next() string {
	field, rest, _ := strings.Cut(f.rest, " ")
	f.rest = rest
	return field
}

func (f *fields) id() objects.ID {
	id, err := objects.ParseID(f.next())
	f.fail(err)
	return id
}

func (f *fields) nonce() uint64 {
	n, err := strconv.ParseUint(f.next(), 16, 64)
	f.fail(err)
	return n
}

func (f *fields) number() int64 {
	n, err := strconv.ParseInt(f.next(), 10, 64)
	if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	f.fail(err)
	return n
}

func (f *fields) time() time.Time { return time.Unix(f.number(), 0) }

func (f *fields) pack() PackName {
	hash, nonce, _ := strings.Cut(f.next(), "-")
	id, err := objects.ParseID(hash)
	f.fail(err)
	n, err := strconv.ParseUint(nonce, 16, 64)
	f.fail(err)
	return PackName{id, n}
}
