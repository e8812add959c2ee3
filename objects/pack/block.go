package pack

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
)

// A Record is what a Block remembers of one of its records.
type Record struct {
	ID   objects.ID
	Type Type
	Size uint32
}

// A Block is a block that is being filled. Its bytes are written in place:
//
//	n, _ := f.Read(b.Space(size))
//	b.Add(Record{ID: …, Type: Blob, Size: uint32(n)})
type Block struct {
	Records []Record
	raw     []byte
}

// Len returns how many bytes the records have, Cap for how many there is room.
func (b *Block) Len() int { return len(b.raw) }
func (b *Block) Cap() int { return cap(b.raw) }

// Space returns the n bytes behind the last record. They belong to the block
// once Add says so. What Space returned before is void if the block must grow.
func (b *Block) Space(n int) []byte {
	if have := len(b.raw); cap(b.raw)-have < n {
		grown := make([]byte, have, max(have+n, 2*have))
		copy(grown, b.raw)
		b.raw = grown
	}
	return b.raw[len(b.raw) : len(b.raw)+n]
}

// Grow makes room for n bytes in all, so that Space need not.
func (b *Block) Grow(n int) {
	if cap(b.raw) < n {
		b.raw = append(make([]byte, 0, n), b.raw...)
	}
}

// Add takes the first r.Size bytes of what Space returned for a record.
func (b *Block) Add(r Record) {
	b.raw = b.raw[:len(b.raw)+int(r.Size)]
	b.Records = append(b.Records, r)
}

// Tail returns the last n bytes.
func (b *Block) Tail(n int) []byte { return b.raw[len(b.raw)-n:] }

// Body returns the bytes of record i. It counts from the front: it is for the
// few who read what they have just written.
func (b *Block) Body(i int) []byte {
	off := 0
	for _, r := range b.Records[:i] {
		off += int(r.Size)
	}
	return b.raw[off : off+int(b.Records[i].Size)]
}

// Reset empties the block and keeps its memory.
func (b *Block) Reset() { b.Records, b.raw = b.Records[:0], b.raw[:0] }

// AppendTo appends the block to dst as it stands in a pack, compressed by e, or
// as it is where that saves nothing.
func (b *Block) AppendTo(dst []byte, e *compress.Encoder) []byte {
	start := len(dst)
	dst = slices.Grow(dst, blockHeaderSize+4*len(b.Records)+len(b.raw)/3+crcSize)
	dst = append(dst, make([]byte, blockHeaderSize)...)
	for _, r := range b.Records {
		dst = binary.AppendUvarint(dst, uint64(r.Size)<<4|uint64(r.Type))
	}
	table := len(dst) - start - blockHeaderSize
	dst, ok := e.Encode(dst, b.raw)
	codec := byte(codecZstd)
	if !ok {
		codec = codecRaw
		dst = append(dst, b.raw...)
	}
	head := dst[start:]
	head[0], head[1] = blockMark, codec
	binary.BigEndian.PutUint32(head[4:], uint32(len(b.Records)))
	binary.BigEndian.PutUint32(head[8:], uint32(table))
	binary.BigEndian.PutUint32(head[12:], uint32(len(b.raw)))
	binary.BigEndian.PutUint32(head[16:], uint32(len(head)-blockHeaderSize-table))
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(head, castagnoli))
}

// blockHeader is the head of a block, its numbers within their limits.
type blockHeader struct {
	codec                       byte
	records, table, raw, stored int
}

// size returns how long the block is in the pack.
func (h blockHeader) size() int { return blockHeaderSize + h.table + h.stored + crcSize }

func parseBlockHeader(p []byte) (blockHeader, error) {
	var h blockHeader
	if len(p) < blockHeaderSize || p[0] != blockMark || p[2] != 0 || p[3] != 0 {
		return h, badPack("no block begins here")
	}
	number := func(i int) int { return int(binary.BigEndian.Uint32(p[i:])) }
	h = blockHeader{p[1], number(4), number(8), number(12), number(16)}
	switch {
	case h.codec != codecRaw && h.codec != codecZstd:
		return h, badPack("unknown codec %d", h.codec)
	case h.records == 0 || h.table < h.records || h.table > maxTable || h.records > maxRecords:
		return h, badPack("%d records in a table of %d bytes", h.records, h.table)
	case h.raw > maxRaw || h.stored > h.raw || h.codec == codecRaw && h.stored != h.raw:
		return h, badPack("a payload of %d bytes stored in %d", h.raw, h.stored)
	}
	return h, nil
}

// Data is a block that was read. It can be read into again, which keeps its
// memory.
type Data struct {
	raw   []byte // the records, one after the other
	ends  []uint32
	types []Type
}

// Len returns the number of records.
func (d *Data) Len() int { return len(d.ends) }

// Record returns the type and the bytes of record i, counted within the block.
func (d *Data) Record(i int) (Type, []byte) {
	start := uint32(0)
	if i > 0 {
		start = d.ends[i-1]
	}
	return d.types[i], d.raw[start:d.ends[i]:d.ends[i]]
}

// Memory returns about how many bytes d keeps.
func (d *Data) Memory() int { return cap(d.raw) + 4*cap(d.ends) + cap(d.types) }

// Decode decodes a block as it stands in a pack, and keeps nothing of p.
func (d *Data) Decode(p []byte) error {
	h, err := parseBlockHeader(p)
	if err != nil {
		return err
	}
	body, err := checkBlock(p, h)
	if err != nil {
		return err
	}
	if err := d.parseTable(body[blockHeaderSize:][:h.table], h); err != nil {
		return err
	}
	payload := body[blockHeaderSize+h.table:]
	if h.codec == codecRaw {
		d.raw = append(d.raw[:0], payload...)
		return nil
	}
	raw, err := compress.Decode(d.raw, payload, h.raw)
	if err != nil {
		return badPack("%w", err)
	}
	d.raw = raw
	return nil
}

// checkBlock returns the block p without its checksum, which it proves.
func checkBlock(p []byte, h blockHeader) ([]byte, error) {
	if len(p) != h.size() {
		return nil, badPack("the block has %d bytes, want %d", len(p), h.size())
	}
	body, sum := p[:len(p)-crcSize], binary.BigEndian.Uint32(p[len(p)-crcSize:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, badPack("wrong checksum")
	}
	return body, nil
}

func (d *Data) parseTable(table []byte, h blockHeader) error {
	if cap(d.ends) < h.records { // at most the table's length: see parseBlockHeader
		d.ends, d.types = make([]uint32, 0, h.records), make([]Type, 0, h.records)
	}
	d.ends, d.types = d.ends[:0], d.types[:0]
	end := uint64(0)
	for range h.records {
		v, n := binary.Uvarint(table)
		if n <= 0 {
			return badPack("the table of records is malformed")
		}
		table = table[n:]
		t, size := Type(v&15), v>>4
		if end += size; !t.Valid() || size > MaxRecord || end > uint64(h.raw) {
			return badPack("a record of type %d and %d bytes", t, size)
		}
		d.ends, d.types = append(d.ends, uint32(end)), append(d.types, t)
	}
	if len(table) != 0 || end != uint64(h.raw) {
		return badPack("the table does not match the payload")
	}
	return nil
}
