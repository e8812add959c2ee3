// Package gitpack writes Git's own packs, and whole repositories made of them,
// so that real git can check and show what a cache holds. It reads back only
// what it needs to add to such a repository: which objects are there.
//
// A pack, version 2 (gitformat-pack), integers big-endian:
//
//	4 bytes   "PACK"
//	4 bytes   version, 2
//	4 bytes   number of objects
//	          for each object: its kind and size, then its body, deflated (zlib).
//	          Kind and size are a varint, low bits first, with the kind in bits
//	          4 to 6 of its first byte. No object here is a delta.
//	32 bytes  SHA-256 of the bytes above
//
// Its index, version 2, of a repository of object format sha256:
//
//	4 bytes   "\377tOc"
//	4 bytes   version, 2
//	256×4     fan-out: how many ids have a first byte of at most i
//	n×32      the ids, sorted
//	n×4       CRC-32 (IEEE) of each object as it stands in the pack
//	n×4       its offset in the pack; from 2 GiB on, bit 31 and a row below
//	m×8       offsets that need more than 31 bits
//	32 bytes  the pack's SHA-256
//	32 bytes  SHA-256 of the bytes above
package gitpack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"

	"github.com/cache-tool/cache-tool/objects"
)

const (
	packMagic   = "PACK"
	packVersion = 2
)

// level is zlib's fastest: an export is written once and read seldom, and
// whoever keeps it can let git repack it.
const level = zlib.BestSpeed

// A Writer writes one pack. Add and AddBytes may be called from many
// goroutines; each object's bytes land in the pack in one piece. After an error
// the pack is of no use.
type Writer struct {
	mu    sync.Mutex
	out   io.Writer         // guarded by mu
	hash  hash.Hash         // guarded by mu; of all that went out
	off   uint64            // guarded by mu
	rows  []row             // guarded by mu; in the order of the pack
	bad   error             // guarded by mu; the first write that failed
	sum   [sha256.Size]byte // guarded by mu; set by Close
	count int               // set by NewWriter: how many objects the header promises
	added int               // guarded by mu; objects so far

	unindexed bool // nobody wants an index: there are no rows
}

// row is what the index says of one object.
type row struct {
	id  objects.ID
	crc uint32
	off uint64
}

// NewWriter starts a pack of exactly count objects on w, which need not seek: it
// may be a connection.
func NewWriter(w io.Writer, count int) (*Writer, error) {
	if count < 0 || int64(count) > 1<<32-1 {
		return nil, fmt.Errorf("git pack of %d objects", count)
	}
	p := &Writer{out: w, hash: sha256.New(), count: count}
	head := binary.BigEndian.AppendUint32([]byte(packMagic), packVersion)
	head = binary.BigEndian.AppendUint32(head, uint32(count))
	return p, p.write(head)
}

// write must be called with mu held, or before p is shared.
func (p *Writer) write(b []byte) error {
	if p.bad != nil {
		return p.bad
	}
	n, err := p.out.Write(b)
	p.hash.Write(b[:n])
	p.off += uint64(n)
	p.bad = err
	return err
}

// note counts an object, and remembers where it is. p.mu is held.
func (p *Writer) note(r row) {
	p.added++
	if !p.unindexed {
		p.rows = append(p.rows, r)
	}
}

// AddBytes adds a whole object. The id is believed. Many goroutines compress at
// once; only the writing is one at a time.
func (p *Writer) AddBytes(id objects.ID, k objects.Kind, body []byte) error {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	if err := d.deflate(k, body); err != nil {
		return fmt.Errorf("git pack: %s %s: %w", k, id, err)
	}
	crc := crc32.ChecksumIEEE(d.buf.Bytes())

	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(row{id: id, crc: crc, off: p.off})
	return p.write(d.buf.Bytes())
}

// Close ends the pack and returns its checksum, after which Git names it. It
// does not close the file below.
func (p *Writer) Close() ([sha256.Size]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum [sha256.Size]byte
	if p.bad == nil && p.added != p.count {
		p.bad = fmt.Errorf("git pack has %d objects, announced were %d", p.added, p.count)
	}
	if p.bad != nil {
		return sum, p.bad
	}
	p.hash.Sum(sum[:0])
	p.sum = sum
	return sum, p.write(sum[:])
}

// Deflate emits an object as it stands in a pack, of whatever ids. What it emits is
// valid until emit returns.
func Deflate(k objects.Kind, body []byte, emit func([]byte) error) error {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	if err := d.deflate(k, body); err != nil {
		return err
	}
	return emit(d.buf.Bytes())
}

// A deflater makes one object at a time into what stands in a pack.
type deflater struct {
	buf bytes.Buffer
	zip *zlib.Writer
}

var deflaters = sync.Pool{New: func() any {
	zip, err := zlib.NewWriterLevel(io.Discard, level)
	if err != nil {
		panic(err) // the level is a constant
	}
	return &deflater{zip: zip}
}}

// deflate leaves the object in d.buf.
func (d *deflater) deflate(k objects.Kind, body []byte) error {
	d.buf.Reset()
	d.buf.Write(appendHeader(d.buf.AvailableBuffer(), k, int64(len(body))))
	d.zip.Reset(&d.buf)
	if _, err := d.zip.Write(body); err != nil {
		return err
	}
	return d.zip.Close()
}

// appendHeader appends the varint of an object's kind and size.
func appendHeader(dst []byte, k objects.Kind, size int64) []byte {
	b, rest := byte(k)<<4|byte(size&0x0f), size>>4
	for rest > 0 {
		dst = append(dst, b|0x80)
		b, rest = byte(rest&0x7f), rest>>7
	}
	return append(dst, b)
}
