package stage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cache-tool/cache-tool/objects"
)

const (
	magic   = "CTSJ"
	version = 1

	headerFixed = 4 + 4 + 8 + 2 // before the branch's name
	recordFixed = 4 + 4 + objects.IDSize + 4
	maxPath     = 1 << 15 // so that a length that means anything begins with two zero bytes

	moreFlag = 1 << 31 // of a record's mode
)

// ErrNewer says that a journal was made by a later version of this program.
var ErrNewer = errors.New("journal is newer than this program")

var errHeader = errors.New("damaged header")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Record says what stands at a path since then: an entry, or nothing if ID is
// zero.
type Record struct {
	Path string
	Mode objects.Mode
	ID   objects.ID
}

func appendHeader(dst []byte, seq uint64, branch string) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.BigEndian.AppendUint32(dst, version)
	dst = binary.BigEndian.AppendUint64(dst, seq)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(branch)))
	dst = append(dst, branch...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// A header is what a journal says of itself.
type header struct {
	seq    uint64
	branch string
	size   int // bytes that it takes
}

// parseHeader reads the header at the front of b, which may be the front of one:
// then the error is errHeader, as if it were damaged.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerFixed || string(b[:4]) != magic {
		return header{}, errHeader
	}
	// The version comes before the checksum: a later one may have its own. Where ours
	// is right but for the version, that is damaged.
	if v := binary.BigEndian.Uint32(b[4:]); v != version {
		if v > version && v < 1000 && !isOurs(b) {
			return header{}, fmt.Errorf("%w: it has version %d, known is %d", ErrNewer, v, version)
		}
		return header{}, errHeader
	}
	end := headerFixed + int(binary.BigEndian.Uint16(b[headerFixed-2:]))
	if len(b) < end+4 || crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return header{}, errHeader
	}
	return header{
		seq:    binary.BigEndian.Uint64(b[8:]),
		branch: string(b[headerFixed:end]),
		size:   end + 4,
	}, nil
}

// isOurs reports whether b begins with a header of ours, if the version is not
// looked at.
func isOurs(b []byte) bool {
	b = bytes.Clone(b[:min(len(b), headerFixed+1<<16+4)])
	binary.BigEndian.PutUint32(b[4:], version)
	_, err := parseHeader(b)
	return err == nil
}

// appendRecords appends a group of records.
func appendRecords(dst []byte, records []Record) []byte {
	var sum uint32
	for i, r := range records {
		start := len(dst)
		mode := uint32(r.Mode)
		if i < len(records)-1 {
			mode |= moreFlag
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(recordFixed-4+len(r.Path)))
		dst = binary.BigEndian.AppendUint32(dst, mode)
		dst = append(dst, r.ID[:]...)
		dst = append(dst, r.Path...)
		sum = crc32.Update(sum, castagnoli, dst[start:])
		dst = binary.BigEndian.AppendUint32(dst, sum)
	}
	return dst
}

// A rawRecord is a record as it stands in a journal.
type rawRecord []byte

func (r rawRecord) more() bool   { return r[4]&0x80 != 0 }
func (r rawRecord) path() []byte { return r[8+objects.IDSize : len(r)-4] }
func (r rawRecord) sum() uint32  { return binary.BigEndian.Uint32(r[len(r)-4:]) }

func (r rawRecord) mode() objects.Mode {
	return objects.Mode(binary.BigEndian.Uint32(r[4:]) &^ moreFlag)
}
func (r rawRecord) id() objects.ID { return objects.ID(r[8 : 8+objects.IDSize]) }
func (r rawRecord) record() Record { return Record{string(r.path()), r.mode(), r.id()} }

// cutRecord returns the record at the front of b, nil if there is no whole one.
// Sum is the checksum of the record before it in its group, zero for the first.
// Torn says that b may be the front of a record.
func cutRecord(b []byte, sum uint32) (r rawRecord, torn bool) {
	if len(b) < 8 {
		return nil, len(b) < 4 || plausible(binary.BigEndian.Uint32(b))
	}
	n := binary.BigEndian.Uint32(b)
	if !plausible(n) || !knownMode(binary.BigEndian.Uint32(b[4:])&^moreFlag) {
		return nil, false
	}
	if len(b) < 4+int(n) {
		return nil, true
	}
	r = rawRecord(b[:4+n])
	if crc32.Update(sum, castagnoli, r[:n]) != r.sum() {
		return nil, false
	}
	return r, false
}

func plausible(length uint32) bool {
	return length > recordFixed-4 && length <= recordFixed-4+maxPath
}

func knownMode(m uint32) bool { return m == 0 || objects.Mode(m).Valid() }

// scan calls fn for each whole group of records in b, which is what follows a
// journal's header, or some later part of it that begins with a group. It
// returns how many bytes it is done with, what follows being perhaps still
// written, and how many of them were damaged.
//
// Behind damage it looks for the next group byte by byte. It cannot take
// something else for one: a path holds no NUL, an id is too short, and so
// nothing within a record looks like a record; and what is not the first of its
// group has the wrong checksum for it.
func scan(b []byte, fn func(group []byte)) (done, damaged int) {
	for done < len(b) {
		n, torn := cutGroup(b[done:])
		if n > 0 {
			fn(b[done : done+n])
			done += n
			continue
		}
		next := findGroup(b, done+1)
		if next == len(b) && torn && !wrongLength(b[done:]) {
			break
		}
		damaged += next - done
		done = next
	}
	return done, damaged
}

// cutGroup returns how many bytes the group at the front of b has, zero if there
// is no whole one. Torn says that b may be the front of a group.
func cutGroup(b []byte) (n int, torn bool) {
	var sum uint32
	for {
		r, torn := cutRecord(b[n:], sum)
		if r == nil {
			return 0, torn
		}
		n += len(r)
		sum = r.sum()
		if !r.more() {
			return n, false
		}
	}
}

// wrongLength reports whether what seems to be the front of a group is a whole one
// that does not look so because a bit of one of its lengths is damaged.
func wrongLength(b []byte) bool {
	var sum uint32
	at := 0
	for {
		r, _ := cutRecord(b[at:], sum)
		if r == nil {
			break
		}
		at += len(r)
		sum = r.sum()
	}
	if len(b) < at+recordFixed {
		return false
	}
	mended := bytes.Clone(b)
	for bit := range 32 {
		mended[at+bit/8] ^= 1 << (bit % 8)
		if n, _ := cutGroup(mended); n > 0 {
			return true
		}
		mended[at+bit/8] ^= 1 << (bit % 8)
	}
	return false
}

// findGroup returns where the next whole group of b begins, from from on; len(b)
// if there is none.
func findGroup(b []byte, from int) int {
	for from < len(b) {
		i := bytes.IndexByte(b[from:], 0)
		if i < 0 {
			break
		}
		from += i
		if n, _ := cutGroup(b[from:]); n > 0 {
			return from
		}
		from++
	}
	return len(b)
}

// eachRecord calls fn for the records of a group that scan has shown.
func eachRecord(group []byte, fn func(rawRecord)) {
	for len(group) > 0 {
		n := 4 + int(binary.BigEndian.Uint32(group))
		fn(rawRecord(group[:n]))
		group = group[n:]
	}
}
