package pack

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
)

// BlockInfo says where in a pack a block is.
type BlockInfo struct {
	Offset int64
	First  uint32 // number of its first record
	Raw    uint32 // bytes of the payload, decompressed
	Stored uint32 // bytes of the payload in the pack
	Table  uint32
}

// Size returns how many bytes of the pack the block takes.
func (b BlockInfo) Size() int { return blockHeaderSize + int(b.Table) + int(b.Stored) + crcSize }

// A Writer writes a pack and remembers what its index must say. Append may be
// called from many goroutines at once.
type Writer struct {
	mu      sync.Mutex
	w       io.Writer
	sum     hash.Hash
	size    int64
	blocks  []BlockInfo
	entries []indexed
	records int
	err     error // the first failure; nothing works after it
}

// NewWriter starts a pack that is written to w.
func NewWriter(w io.Writer) *Writer {
	pw := &Writer{w: w, sum: sha256.New()}
	head := binary.BigEndian.AppendUint32([]byte(packMagic), version)
	_ = pw.write(head) // an error stays until somebody looks
	return pw
}

func (w *Writer) write(p []byte) error {
	if w.err != nil {
		return w.err
	}
	summed := w.hash(p)
	n, err := w.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	w.err = err
	w.size += int64(n)
	summed()
	return err
}

// hash adds p to the pack's checksum; a big block while it is written. Done waits for
// that.
func (w *Writer) hash(p []byte) (done func()) {
	const big = 256 << 10
	if len(p) < big {
		w.sum.Write(p)
		return func() {}
	}
	c := make(chan struct{})
	go func() {
		w.sum.Write(p)
		close(c)
	}()
	return func() { <-c }
}

// Append adds a block, as Block.AppendTo made it, with its records. Those with a
// zero id are not indexed. It returns the block's number.
func (w *Writer) Append(stored []byte, records []Record) (int, error) {
	h, err := parseBlockHeader(stored)
	if err == nil && (h.records != len(records) || h.size() != len(stored)) {
		err = badPack("%d records in %d bytes", h.records, len(stored))
	}
	if err != nil {
		return 0, fmt.Errorf("append of a block: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.records+len(records) > maxRecords {
		return 0, fmt.Errorf("append of a block: more than %d records in a pack", maxRecords)
	}
	info := BlockInfo{w.size, uint32(w.records), uint32(h.raw), uint32(h.stored), uint32(h.table)}
	if err := w.write(stored); err != nil {
		return 0, err
	}
	for i, r := range records {
		if r.ID.IsZero() {
			continue
		}
		w.entries = append(w.entries, indexed{r.ID, uint32(w.records+i) | uint32(r.Type)<<28, r.Size})
	}
	w.records += len(records)
	w.blocks = append(w.blocks, info)
	return len(w.blocks) - 1, nil
}

// CheckBlock proves the checksum of a block as it stands in a pack, and returns
// how many records it has.
func CheckBlock(stored []byte) (records int, err error) {
	h, err := parseBlockHeader(stored)
	if err != nil {
		return 0, err
	}
	_, err = checkBlock(stored, h)
	return h.records, err
}

// Block returns where block n was written.
func (w *Writer) Block(n int) BlockInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blocks[n]
}

// Size returns how many bytes were written so far.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// Finish writes the trailer and returns the pack's name. Nothing can be
// appended any more; WriteIndex comes next.
func (w *Writer) Finish() (objects.ID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := append(make([]byte, 0, trailerSize), trailerMark, 0, 0, 0)
	end = binary.BigEndian.AppendUint32(end, uint32(len(w.blocks)))
	end = binary.BigEndian.AppendUint64(end, uint64(w.records))
	if err := w.write(end); err != nil {
		return objects.ID{}, err
	}
	var name objects.ID
	w.sum.Sum(name[:0])
	return name, w.write(name[:])
}
