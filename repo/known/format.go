package known

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/cache-tool/cache-tool/objects"
)

const (
	magic   = "CTKN"
	version = 1

	maxString = math.MaxUint16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(places map[place]objects.ID, entries map[objects.ID]Entry) []byte {
	b := make([]byte, 0, 12+len(places)*160+len(entries)*320)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(places)))
	for p, id := range places {
		b = append(append(b, p.root[:]...), id[:]...)
		b = appendString(b, p.path)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	for id, e := range entries {
		b = append(append(b, id[:]...), e.Body[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(e.Size))
		b = appendString(b, e.Meta)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// parse is the inverse of encode. Of what is not whole it returns nothing.
func parse(b []byte) (map[place]objects.ID, map[objects.ID]Entry) {
	end := len(b) - crc32.Size
	if end < 0 || crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return nil, nil
	}
	r := reader{rest: string(b[:end])} // of which the paths are parts
	if r.take(len(magic)) != magic || r.uint32() != version {
		return nil, nil
	}
	n := r.count()
	places := make(map[place]objects.ID, n)
	for range n {
		root, id := r.id(), r.id()
		places[place{root, r.string()}] = id
	}
	n = r.count()
	entries := make(map[objects.ID]Entry, n)
	for range n {
		id, body := r.id(), r.id()
		size := int64(r.uint32())<<32 | int64(r.uint32())
		entries[id] = Entry{Meta: r.string(), Body: body, Size: size}
	}
	if r.short || r.rest != "" {
		return nil, nil
	}
	return places, entries
}

// A reader takes one thing after the other off the front. What it returns once it was
// short means nothing.
type reader struct {
	rest  string
	short bool
}

func (r *reader) take(n int) string {
	if n > len(r.rest) {
		r.rest, r.short = "", true
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) uint32() (n uint32) {
	for _, c := range []byte(r.take(4)) {
		n = n<<8 | uint32(c)
	}
	return n
}

func (r *reader) id() (id objects.ID) {
	copy(id[:], r.take(len(id)))
	return id
}

func (r *reader) string() string {
	n := 0
	for _, c := range []byte(r.take(2)) {
		n = n<<8 | int(c)
	}
	return r.take(n)
}

// count returns how many things follow; none if it is not to be believed.
func (r *reader) count() int {
	n := r.uint32()
	if n > most {
		r.short = true
		return 0
	}
	return int(n)
}
