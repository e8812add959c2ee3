package gitpack

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
)

const (
	indexMagic   = "\377tOc"
	indexVersion = 2
	fanOutAt     = 8
	idsAt        = fanOutAt + 256*4

	// wideOffset marks an offset that stands in the table of 8-byte offsets.
	wideOffset = 1 << 31
)

// WriteIndex writes the index of a pack that is closed.
func (p *Writer) WriteIndex(w io.Writer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad != nil {
		return p.bad
	}
	slices.SortFunc(p.rows, func(a, b row) int { return a.id.Compare(b.id) })
	for i := 1; i < len(p.rows); i++ {
		if p.rows[i].id == p.rows[i-1].id {
			return fmt.Errorf("git pack: object %s was added twice", p.rows[i].id)
		}
	}
	hash := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(w, hash))
	writeIndex(out, p.rows)
	out.Write(p.sum[:])
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := w.Write(hash.Sum(nil))
	return err
}

// writeIndex writes what stands above the checksums. An error stays in out.
func writeIndex(out *bufio.Writer, rows []row) {
	put := func(v uint32) { out.Write(binary.BigEndian.AppendUint32(out.AvailableBuffer(), v)) }
	out.WriteString(indexMagic)
	put(indexVersion)
	n := 0
	for first := range 256 {
		for n < len(rows) && int(rows[n].id[0]) == first {
			n++
		}
		put(uint32(n))
	}
	for _, r := range rows {
		out.Write(r.id[:])
	}
	for _, r := range rows {
		put(r.crc)
	}
	var wide []uint64
	for _, r := range rows {
		if r.off < wideOffset {
			put(uint32(r.off))
			continue
		}
		put(wideOffset | uint32(len(wide)))
		wide = append(wide, r.off)
	}
	for _, off := range wide {
		out.Write(binary.BigEndian.AppendUint64(out.AvailableBuffer(), off))
	}
}

// An Index says which objects are in one pack of a Git repository. It is used
// where it lies; nothing is loaded.
type Index struct {
	data []byte // mapped by OpenIndex
	n    int
}

var errBadIndex = errors.New("no pack index of version 2 with SHA-256 ids")

// OpenIndex opens the index of any pack that git or this package wrote.
func OpenIndex(name string) (*Index, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() < idsAt {
		return nil, fmt.Errorf("%s: %w", name, errBadIndex)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	x, err := parseIndex(data)
	if err != nil {
		_ = unix.Munmap(data)
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return x, nil
}

// Close ends the use of the index.
func (x *Index) Close() error { return unix.Munmap(x.data) }

// parseIndex checks all that Has relies on. That the ids are in order it takes
// on trust: where they are not, Has misses some, and git's fsck says so.
func parseIndex(data []byte) (*Index, error) {
	if len(data) < idsAt || string(data[:4]) != indexMagic || binary.BigEndian.Uint32(data[4:]) != indexVersion {
		return nil, errBadIndex
	}
	x := &Index{data: data}
	for first := range 256 {
		n := x.fanOut(first)
		if n < x.n {
			return nil, fmt.Errorf("%w: fan-out falls at %02x", errBadIndex, first)
		}
		x.n = n
	}
	wide := len(data) - idsAt - x.n*(objects.IDSize+4+4) - 2*sha256.Size
	if wide < 0 || wide%8 != 0 || wide/8 > x.n {
		return nil, fmt.Errorf("%w: %d bytes for %d objects", errBadIndex, len(data), x.n)
	}
	return x, nil
}

func (x *Index) fanOut(first int) int {
	return int(binary.BigEndian.Uint32(x.data[fanOutAt+4*first:]))
}

// Len returns how many objects the pack holds.
func (x *Index) Len() int { return x.n }

// Has reports whether the pack holds the object.
func (x *Index) Has(id objects.ID) bool {
	from, to := 0, x.fanOut(int(id[0]))
	if id[0] > 0 {
		from = x.fanOut(int(id[0]) - 1)
	}
	i := from + sort.Search(to-from, func(i int) bool { return bytes.Compare(x.id(from+i), id[:]) >= 0 })
	return i < to && bytes.Equal(x.id(i), id[:])
}

func (x *Index) id(i int) []byte {
	return x.data[idsAt+i*objects.IDSize:][:objects.IDSize]
}
