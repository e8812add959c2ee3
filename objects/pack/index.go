package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"iter"
	"runtime"
	"runtime/debug"
	"sort"

	"github.com/cache-tool/cache-tool/objects"
)

// An Index finds objects in a pack by their ids. It is used where it lies, in
// memory that is mapped from the file; only what a lookup touches is read.
// Its methods may be called from many goroutines at once.
//
//	4 bytes     "CTIX"
//	4 bytes     version, 1
//	4 bytes     flags: 1 some records are commits, trees, tags or deltas; 2 some are not;
//	            4 damaged records were left out
//	4 bytes     n, the number of ids
//	4 bytes     m, the number of blocks
//	8 bytes     size of the pack
//	32 bytes    name of the pack
//	256 × 4     how many ids have a first byte of at most 0, 1, … 255
//	4 bytes     CRC-32C of the file up to here
//	n × 32      ids, sorted, each once
//	n × 8       where they are: 4 bits type, 28 bits number of the record; 4 bytes size
//	m × 24      blocks: 8 bytes offset in the pack; 4 bytes each: number of the first
//	            record, length of the payload decompressed, as stored, length of the table
//	32 bytes    SHA-256 of the file up to here
//
// Opening an index checks what stands before the ids, and that the file is as
// long as it must be. What is wrong further down leads to a wrong record, whose
// bytes do not hash to the id. Check finds it beforehand.
type Index struct {
	data    region
	n, m    int
	flags   uint32
	size    int64
	name    objects.ID
	fan     [257]uint32 // copied, with a zero in front
	blockAt int         // where the blocks begin
}

const (
	indexMagic    = "CTIX"
	indexFanAt    = 4 + 4 + 4 + 4 + 4 + 8 + objects.IDSize
	indexHeadSize = indexFanAt + 256*4 + crcSize
	locationSize  = 4 + 4
	blockInfoSize = 8 + 4*4

	flagMeta   = 1
	flagData   = 2
	flagPruned = 4
)

// An Entry is where an Index says that an object is.
type Entry struct {
	Record uint32 // number of the record in the pack
	Type   Type
	Size   uint32 // bytes of the record
}

// OpenIndex opens the index in the file called name.
func OpenIndex(name string) (*Index, error) {
	data, err := openRegion(name)
	if err != nil {
		return nil, err
	}
	return newIndex(data)
}

// ParseIndex is OpenIndex for one that is in memory already.
func ParseIndex(p []byte) (*Index, error) { return newIndex(region{bytes: p}) }

func newIndex(data region) (x *Index, err error) {
	defer guard(debug.SetPanicOnFault(true), &err)
	p := data.bytes
	if err := checkMagic(p, indexMagic, "pack index", ErrBadIndex); err != nil {
		if hasOurHead(p) {
			err = badIndex("wrong version")
		}
		return nil, err
	}
	if len(p) < indexHeadSize+sha256.Size {
		return nil, badIndex("it is cut short")
	}
	sum := indexHeadSize - crcSize
	if crc32.Checksum(p[:sum], castagnoli) != binary.BigEndian.Uint32(p[sum:]) {
		return nil, badIndex("wrong checksum of its head")
	}
	x = &Index{
		data:  data,
		flags: binary.BigEndian.Uint32(p[8:]),
		n:     int(binary.BigEndian.Uint32(p[12:])),
		m:     int(binary.BigEndian.Uint32(p[16:])),
		size:  int64(binary.BigEndian.Uint64(p[20:])),
	}
	copy(x.name[:], p[28:])
	for i := range 256 {
		x.fan[i+1] = binary.BigEndian.Uint32(p[indexFanAt+4*i:])
		if x.fan[i+1] < x.fan[i] {
			return nil, badIndex("its fan-out table goes down")
		}
	}
	x.blockAt = indexHeadSize + x.n*(objects.IDSize+locationSize)
	if int(x.fan[256]) != x.n || len(p) != x.blockAt+x.m*blockInfoSize+sha256.Size {
		return nil, badIndex("%d bytes for %d ids and %d blocks", len(p), x.n, x.m)
	}
	return x, nil
}

// hasOurHead reports whether the head of an index has the right checksum but for the
// version: then that is damaged, and no later one.
func hasOurHead(p []byte) bool {
	if len(p) < indexHeadSize {
		return false
	}
	sum := indexHeadSize - crcSize
	crc := crc32.Checksum([]byte(indexMagic), castagnoli)
	crc = crc32.Update(crc, castagnoli, binary.BigEndian.AppendUint32(nil, version))
	return crc32.Update(crc, castagnoli, p[8:sum]) == binary.BigEndian.Uint32(p[sum:])
}

// guard makes an error of a fault in mapped memory: the file was cut short, or
// its disk fails. It must be deferred with debug.SetPanicOnFault(true).
func guard(before bool, err *error) {
	debug.SetPanicOnFault(before)
	if r := recover(); r != nil {
		fault, ok := r.(interface {
			runtime.Error
			Addr() uintptr
		})
		if !ok {
			panic(r)
		}
		*err = badIndex("it cannot be read: %w", fault)
	}
}

// Len returns the number of ids.
func (x *Index) Len() int { return x.n }

// Blocks returns the number of blocks.
func (x *Index) Blocks() int { return x.m }

// PackSize returns how many bytes the pack must have.
func (x *Index) PackSize() int64 { return x.size }

// Name returns the name of the pack.
func (x *Index) Name() objects.ID { return x.name }

// Holds reports whether the pack has records that are Type.IsMeta, and others.
func (x *Index) Holds() (meta, data bool) { return x.flags&flagMeta != 0, x.flags&flagData != 0 }

// Find looks id up.
func (x *Index) Find(id *objects.ID) (e Entry, ok bool, err error) {
	lo, hi := int(x.fan[id[0]]), int(x.fan[int(id[0])+1])
	if lo == hi {
		return e, false, nil
	}
	defer guard(debug.SetPanicOnFault(true), &err)
	i, ok := x.search(id, lo, hi)
	if !ok {
		return e, false, nil
	}
	e = x.entry(i)
	runtime.KeepAlive(x)
	return e, true, nil
}

// search finds id among those from lo to hi, which share its first byte. Ids are
// evenly spread, so the bytes that follow say about where it is, and how far it
// is from there: mostly two or three cache lines are read, where halving reads a
// dozen.
func (x *Index) search(id *objects.ID, lo, hi int) (int, bool) {
	ids := x.data.bytes[indexHeadSize : indexHeadSize+x.n*objects.IDSize]
	at := func(i int) []byte { return ids[i*objects.IDSize:][:objects.IDSize] }
	n := int64(hi - lo)
	want := int64(binary.BigEndian.Uint32(id[1:]))
	i := lo + int(n*want>>32)
	for range 3 {
		off := int(n * (want - int64(binary.BigEndian.Uint32(at(i)[1:]))) >> 32)
		if -4 < off && off < 4 {
			break
		}
		i = min(max(i+off, lo), hi-1)
	}
	c := bytes.Compare(at(i), id[:])
	if c < 0 {
		lo = i + 1
	} else if c > 0 {
		hi = i
	}
	for range 16 {
		switch {
		case c == 0:
			return i, true
		case c < 0:
			i, lo = i+1, i+1
		default:
			i, hi = i-1, i
		}
		if i < lo || i >= hi {
			return 0, false
		}
		before := c
		if c = bytes.Compare(at(i), id[:]); c != 0 && c != before {
			return 0, false // between the two
		}
	}
	for lo < hi { // the ids are not evenly spread after all
		mid := int(uint(lo+hi) >> 1)
		switch c := bytes.Compare(at(mid), id[:]); {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false
}

func (x *Index) id(i int) (id objects.ID) {
	copy(id[:], x.data.bytes[indexHeadSize+i*objects.IDSize:])
	return id
}

func (x *Index) entry(i int) Entry {
	p := x.data.bytes[indexHeadSize+x.n*objects.IDSize+i*locationSize:]
	v := binary.BigEndian.Uint32(p)
	return Entry{v & maxRecords, Type(v >> 28), binary.BigEndian.Uint32(p[4:])}
}

func (x *Index) block(n int) BlockInfo {
	p := x.data.bytes[x.blockAt+n*blockInfoSize:][:blockInfoSize]
	return BlockInfo{
		Offset: int64(binary.BigEndian.Uint64(p)),
		First:  binary.BigEndian.Uint32(p[8:]),
		Raw:    binary.BigEndian.Uint32(p[12:]),
		Stored: binary.BigEndian.Uint32(p[16:]),
		Table:  binary.BigEndian.Uint32(p[20:]),
	}
}

// Block returns where block n is.
func (x *Index) Block(n int) (b BlockInfo, err error) {
	if n < 0 || n >= x.m {
		return b, badIndex("no block %d", n)
	}
	defer guard(debug.SetPanicOnFault(true), &err)
	b = x.block(n)
	if b.Offset < headerSize || b.Offset+int64(b.Size()) > x.size-trailerSize || b.Raw > maxRaw || b.Table > maxTable || b.Stored > b.Raw {
		return b, badIndex("block %d is outside of the pack", n)
	}
	runtime.KeepAlive(x)
	return b, nil
}

// BlockOf returns the number of the block that holds a record.
func (x *Index) BlockOf(record uint32) (n int, err error) {
	defer guard(debug.SetPanicOnFault(true), &err)
	n = sort.Search(x.m, func(i int) bool { return x.block(i).First > record }) - 1
	if n < 0 {
		return 0, badIndex("no block holds record %d", record)
	}
	runtime.KeepAlive(x)
	return n, nil
}

// All yields what the index holds, by id. A fault ends it early: Check tells.
func (x *Index) All() iter.Seq2[objects.ID, Entry] {
	return func(yield func(objects.ID, Entry) bool) {
		for i := range x.n {
			id, e, err := x.At(i)
			if err != nil || !yield(id, e) {
				return
			}
		}
	}
}

// At returns the id that is the i-th in their order, from 0 on.
func (x *Index) At(i int) (id objects.ID, e Entry, err error) {
	defer guard(debug.SetPanicOnFault(true), &err)
	id, e = x.id(i), x.entry(i)
	runtime.KeepAlive(x)
	return id, e, nil
}

// Check reads the whole index and proves its checksum and its order.
func (x *Index) Check() (err error) {
	defer guard(debug.SetPanicOnFault(true), &err)
	p := x.data.bytes
	end := len(p) - sha256.Size
	if sha256.Sum256(p[:end]) != [sha256.Size]byte(p[end:]) {
		return badIndex("wrong checksum")
	}
	for i := range x.n {
		if id := x.id(i); i > 0 && bytes.Compare(p[indexHeadSize+(i-1)*objects.IDSize:][:objects.IDSize], id[:]) >= 0 ||
			i < int(x.fan[id[0]]) || i >= int(x.fan[int(id[0])+1]) {
			return badIndex("id %d is out of order", i)
		}
		if e := x.entry(i); !e.Type.Valid() {
			return badIndex("id %d is of type %d", i, e.Type)
		}
	}
	runtime.KeepAlive(x)
	return nil
}
