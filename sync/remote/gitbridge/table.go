package gitbridge

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// A table is a sorted part of the map, in one immutable file that is used where it
// lies. Integers are big-endian:
//
//	4 bytes   magic "CTGM"
//	4 bytes   version, 1
//	8 bytes   from what size on blobs were cut in pieces
//	4 bytes   n, the number of rows
//	n×53      rows, sorted: id of SHA-256 (32), what it is (1), id of SHA-1 (20)
//	n×4       the numbers of the rows, sorted by the ids of SHA-1 and then as they are
//	4 bytes   CRC-32C of the bytes above
type table struct {
	name string
	data []byte
	n    int
}

const (
	tableMagic   = "CTGM"
	tableVersion = 1
	tableHead    = 20
	rowSize      = objects.IDSize + 1 + len(oid{})
	maxRows      = 1 << 30
)

// A form is what the object of SHA-1 in a row is to the one of SHA-256. The first four
// are objects.Kind: the same object with other ids in it.
type form uint8

const (
	whole   = form(objects.Blob)
	asTree  = form(objects.Tree)
	commit  = form(objects.Commit)
	cutOff  = form(5) // a commit whose parents the server does not have
	pieces  = form(6) // the tree of the pieces of a blob
	asFile  = form(7) // that tree, where the blob stands in a tree as a file,
	asExec  = form(8) // and as an executable one
	piece   = form(9) // a piece of the blob
	maxForm = piece
)

// A row says that an object of SHA-1 stands for one of SHA-256.
type row struct {
	id objects.ID
	as form
	at oid
}

func compareRows(a, b row) int {
	return cmp.Or(a.id.Compare(b.id), cmp.Compare(a.as, b.as), a.at.compare(b.at))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errBadTable says that a table is not to be believed.
var errBadTable = errors.New("damaged table of ids")

// openTable opens a table, and checks all of it.
func openTable(name string, limit int64) (*table, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() < tableHead+4 || fi.Size() > tableHead+4+maxRows*int64(rowSize+4) {
		return nil, fmt.Errorf("%s: %w", name, errBadTable)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	t := &table{name: name, data: data}
	if err := t.check(limit); err != nil {
		t.close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func (t *table) check(limit int64) error {
	end := len(t.data) - 4
	if string(t.data[:4]) != tableMagic || binary.BigEndian.Uint32(t.data[4:]) != tableVersion ||
		crc32.Checksum(t.data[:end], castagnoli) != binary.BigEndian.Uint32(t.data[end:]) {
		return errBadTable
	}
	if binary.BigEndian.Uint64(t.data[8:]) != uint64(limit) {
		return fmt.Errorf("%w: it was made when blobs were cut from another size on", errBadTable)
	}
	t.n = int(binary.BigEndian.Uint32(t.data[16:]))
	if end != tableHead+t.n*(rowSize+4) {
		return errBadTable
	}
	for i := range t.n {
		if r := int(binary.BigEndian.Uint32(t.order(i))); r >= t.n {
			return errBadTable
		}
	}
	return nil
}

func (t *table) close() { _ = unix.Munmap(t.data) }

func (t *table) raw(i int) []byte { return t.data[tableHead+i*rowSize:][:rowSize] }

func (t *table) order(i int) []byte { return t.data[tableHead+t.n*rowSize+4*i:][:4] }

func (t *table) row(i int) (r row) {
	raw := t.raw(i)
	copy(r.id[:], raw)
	r.as = form(raw[objects.IDSize])
	copy(r.at[:], raw[objects.IDSize+1:])
	return r
}

// at returns row i in the order of the ids of SHA-1.
func (t *table) at(i int) row { return t.row(int(binary.BigEndian.Uint32(t.order(i)))) }

// find returns what stands for an object in one of its forms.
func (t *table) find(id objects.ID, as form) (oid, bool) {
	want := row{id: id, as: as}
	i := sort.Search(t.n, func(i int) bool { return compareRows(t.row(i), want) >= 0 })
	if i == t.n {
		return oid{}, false
	}
	r := t.row(i)
	return r.at, r.id == id && r.as == as
}

// from calls fn with the rows about an object of SHA-1, as long as it returns true.
func (t *table) from(at oid, fn func(row) bool) bool {
	i := sort.Search(t.n, func(i int) bool { return t.at(i).at.compare(at) >= 0 })
	for ; i < t.n; i++ {
		r := t.at(i)
		if r.at != at {
			break
		}
		if !fn(r) {
			return false
		}
	}
	return true
}

// writeTable writes a table of rows, which must be sorted and differ.
func writeTable(dir, name string, limit int64, rows []row) error {
	f, err := durable.Create(dir)
	if err != nil {
		return err
	}
	defer f.Abort()
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), 256<<10)
	head := binary.BigEndian.AppendUint32([]byte(tableMagic), tableVersion)
	head = binary.BigEndian.AppendUint64(head, uint64(limit))
	out.Write(binary.BigEndian.AppendUint32(head, uint32(len(rows))))
	order := make([]uint32, len(rows))
	for i, r := range rows {
		order[i] = uint32(i)
		out.Write(r.id[:])
		out.WriteByte(byte(r.as))
		out.Write(r.at[:])
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Or(rows[a].at.compare(rows[b].at), cmp.Compare(a, b)) })
	for _, i := range order {
		out.Write(binary.BigEndian.AppendUint32(out.AvailableBuffer(), i))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if _, err := f.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32())); err != nil {
		return err
	}
	// It can be made again: not worth a sync, and its checksum tells.
	return f.CommitAs(name, durable.NoSync)
}
