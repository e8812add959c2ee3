package bucket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// A head is the beginning of an index of several packs. An index is read in
// pieces: the head once, and then only what lies where the ids that are looked
// for would be. All numbers are big-endian:
//
//	4 bytes    "CTBX"
//	4 bytes    version, 1
//	8 bytes    a number that no other index has
//	4 bytes    n, the number of ids
//	4 bytes    m, the number of blocks
//	4 bytes    p, the number of packs
//	4 bytes    b, the fan-out looks at so many bits, at most 20
//	p × 40     packs, sorted: 32 bytes hash, 8 bytes nonce
//	m × 16     blocks, by pack and offset: 4 bytes number of the pack, 4 bytes length in the
//	           pack, 8 bytes offset in the pack
//	2^b × 4    how many ids begin with bits of at most 0, 1, …
//	4 bytes    CRC-32C of the file up to here
//	n × 44     ids, sorted: 32 bytes id; 4 bytes number of the block; 4 bits type, 28 bits
//	           number of the record in its block; 4 bytes its size
//
// An id stands there once for each pack that has it.
type head struct {
	unique uint64
	n      int
	packs  []PackName
	blocks []block
	bits   int
	fan    []uint32 // with a zero in front
}

// A block says where in which pack a block is.
type block struct {
	pack uint32
	size uint32
	off  int64
}

// An entry says where an id is.
type entry struct {
	id    objects.ID
	block uint32
	where uint32 // type << 28 | number of the record in its block
	size  uint32
}

const (
	indexMagic    = "CTBX"
	indexVersion  = 1
	indexFixed    = 4 + 4 + 8 + 4*4
	packSize      = objects.IDSize + 8
	blockSize     = 4 + 4 + 8
	entrySize     = objects.IDSize + 4 + 4 + 4
	crcSize       = 4
	maxFanBits    = 20
	idsPerCounter = 256 // about 11 KB to read for an id
	maxHead       = 256 << 20
)

// ErrBadIndex is what every error about the content of an index is.
var ErrBadIndex = errors.New("damaged index of a bucket")

func badIndex(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBadIndex, fmt.Errorf(format, args...))
}

// fanBits returns how many bits the fan-out for n ids looks at.
func fanBits(n int) int { return min(maxFanBits, bits.Len(uint(n/idsPerCounter))) }

// prefix returns the first bits of id.
func prefix(id *objects.ID, bits int) int {
	return int(binary.BigEndian.Uint32(id[:]) >> (32 - maxFanBits) >> (maxFanBits - bits))
}

// size returns how long the head is in the file.
func (h *head) size() int64 { return headSize(len(h.packs), len(h.blocks), h.bits) }

func headSize(packs, blocks, bits int) int64 {
	return indexFixed + int64(packs)*packSize + int64(blocks)*blockSize + 4<<bits + crcSize
}

// fileSize returns how long the index is.
func (h *head) fileSize() int64 { return h.size() + int64(h.n)*entrySize }

// between returns which of the entries begin with these bits.
func (h *head) between(prefix int) (from, to int) { return int(h.fan[prefix]), int(h.fan[prefix+1]) }

func (h *head) encode() []byte {
	p := make([]byte, 0, h.size())
	p = append(p, indexMagic...)
	p = binary.BigEndian.AppendUint32(p, indexVersion)
	p = binary.BigEndian.AppendUint64(p, h.unique)
	for _, n := range []int{h.n, len(h.blocks), len(h.packs), h.bits} {
		p = binary.BigEndian.AppendUint32(p, uint32(n))
	}
	for _, name := range h.packs {
		p = append(p, name.Hash[:]...)
		p = binary.BigEndian.AppendUint64(p, name.Nonce)
	}
	for _, b := range h.blocks {
		p = binary.BigEndian.AppendUint32(p, b.pack)
		p = binary.BigEndian.AppendUint32(p, b.size)
		p = binary.BigEndian.AppendUint64(p, uint64(b.off))
	}
	for _, n := range h.fan[1:] {
		p = binary.BigEndian.AppendUint32(p, n)
	}
	return sealedHead(p)
}

func sealedHead(p []byte) []byte {
	return binary.BigEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

// parseHead reads the head of an index. It allocates no more than p is long.
func parseHead(p []byte) (*head, error) {
	if len(p) < indexFixed+crcSize || string(p[:4]) != indexMagic {
		return nil, badIndex("it does not begin with %q", indexMagic)
	}
	if v := binary.BigEndian.Uint32(p[4:]); v != indexVersion {
		return nil, fmt.Errorf("index of version %d: a newer cache-tool is needed", v)
	}
	number := func(off int) int { return int(binary.BigEndian.Uint32(p[off:])) }
	h := &head{unique: binary.BigEndian.Uint64(p[8:]), n: number(16), bits: number(28)}
	blocks, packs := number(20), number(24)
	if h.bits > maxFanBits || headSize(packs, blocks, h.bits) != int64(len(p)) {
		return nil, badIndex("%d blocks in %d packs make no head of %d bytes", blocks, packs, len(p))
	}
	body := p[:len(p)-crcSize]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(p[len(body):]) {
		return nil, badIndex("wrong checksum of its head")
	}
	body = body[indexFixed:]
	h.packs, h.blocks, h.fan = make([]PackName, packs), make([]block, blocks), make([]uint32, 1+1<<h.bits)
	for i := range h.packs {
		copy(h.packs[i].Hash[:], body)
		h.packs[i].Nonce = binary.BigEndian.Uint64(body[objects.IDSize:])
		body = body[packSize:]
	}
	for i := range h.blocks {
		b := block{binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:]), int64(binary.BigEndian.Uint64(body[8:]))}
		if int64(b.pack) >= int64(packs) || b.off < 0 || b.off > maxPack || int64(b.size) > maxBlock {
			return nil, badIndex("block %d: pack %d, %d bytes at %d", i, b.pack, b.size, b.off)
		}
		h.blocks[i], body = b, body[blockSize:]
	}
	for i := range h.fan[1:] {
		if h.fan[i+1] = binary.BigEndian.Uint32(body[4*i:]); h.fan[i+1] < h.fan[i] {
			return nil, badIndex("its fan-out goes down")
		}
	}
	if int(h.fan[len(h.fan)-1]) != h.n {
		return nil, badIndex("its fan-out does not lead to its end")
	}
	return h, nil
}

// maxPack bounds where blocks are, so that nothing overflows.
const maxPack = 1 << 50

// maxBlock bounds the blocks that are taken into memory: more than one record
// of any size, with its table.
const maxBlock = pack.MaxRecord + 96<<20

func appendEntry(p []byte, e entry) []byte {
	p = append(p, e.id[:]...)
	p = binary.BigEndian.AppendUint32(p, e.block)
	p = binary.BigEndian.AppendUint32(p, e.where)
	return binary.BigEndian.AppendUint32(p, e.size)
}

// parseEntry reads one of the n × 44 bytes.
func parseEntry(p []byte) (e entry) {
	copy(e.id[:], p)
	e.block = binary.BigEndian.Uint32(p[objects.IDSize:])
	e.where = binary.BigEndian.Uint32(p[objects.IDSize+4:])
	e.size = binary.BigEndian.Uint32(p[objects.IDSize+8:])
	return e
}

func (e entry) typ() pack.Type { return pack.Type(e.where >> 28) }

func (e entry) record() int { return int(e.where & (1<<28 - 1)) }

func (e entry) compare(f entry) int {
	if c := bytes.Compare(e.id[:], f.id[:]); c != 0 {
		return c
	}
	return int(int64(e.block) - int64(f.block))
}

// encodeIndex makes an index of entries, which it sorts.
func encodeIndex(unique uint64, packs []PackName, blocks []block, entries []entry) (data []byte, headLen int64) {
	slices.SortFunc(entries, entry.compare)
	// Within a pack one copy is enough.
	entries = slices.CompactFunc(entries, func(a, b entry) bool {
		return a.id == b.id && blocks[a.block].pack == blocks[b.block].pack
	})
	h := &head{unique: unique, n: len(entries), packs: packs, blocks: blocks, bits: fanBits(len(entries))}
	h.fan = make([]uint32, 1+1<<h.bits)
	for _, e := range entries {
		h.fan[prefix(&e.id, h.bits)+1]++
	}
	h.addUp()
	data = slices.Grow(h.encode(), len(entries)*entrySize)
	for _, e := range entries {
		data = appendEntry(data, e)
	}
	return data, h.size()
}

// addUp makes sums of the counts in the fan-out.
func (h *head) addUp() {
	for i := range h.fan[1:] {
		h.fan[i+1] += h.fan[i]
	}
}
