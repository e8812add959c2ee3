package gitbridge

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"

	"github.com/pjbgf/sha1cd"

	"github.com/cache-tool/cache-tool/objects"
)

// errBadPack says that what the server sent is no pack, or not a whole one.
var errBadPack = errors.New("the server sent a damaged pack")

// A packReader reads a Git pack (version 2, ids of SHA-1) that lies in a file. It
// knows the ids of all that is in it, from the bytes alone. What is small is read into
// memory; big objects are read as a stream, and kept in files where deltas need them.
type packReader struct {
	f       *os.File
	dir     string // for files that are needed for a while
	entries []packed
	byID    []int32 // numbers of entries, by their ids

	cache  map[int]body // of bases
	cached int64
}

// packed is an object in a pack.
type packed struct {
	at   int64 // where its deflated bytes begin
	size int64 // of its body
	id   oid
	kind objects.Kind // zero as long as it is not known
	base int32        // of a delta: the number of its base; else -1
}

// The kinds of entries in a pack besides those of objects.
const (
	offsetDelta = 6
	refDelta    = 7
)

const (
	// maxInMemory is up to what size a body is read into memory.
	maxInMemory = 8 << 20

	// maxCached is how many bytes of bases are kept.
	maxCached = 32 << 20
)

// openPack reads a pack through, and finds out what is in it.
func openPack(f *os.File, dir string) (*packReader, error) {
	p := &packReader{f: f, dir: dir, cache: map[int]body{}}
	if err := p.scan(); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it is cut short", errBadPack)
		}
		return nil, err
	}
	return p, nil
}

// A counted is a reader that knows how far it has come.
type counted struct {
	*bufio.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// scan passes over the pack once, and computes the ids of what is no delta; then those
// of deltas.
func (p *packReader) scan() error {
	sum := sha1cd.New()
	in := &counted{Reader: bufio.NewReaderSize(io.NewSectionReader(p.f, 0, 1<<62), 256<<10)}
	head := make([]byte, 12)
	if _, err := io.ReadFull(in, head); err != nil {
		return err
	}
	if string(head[:4]) != "PACK" || binary.BigEndian.Uint32(head[4:]) != 2 {
		return fmt.Errorf("%w: no pack of version 2", errBadPack)
	}
	n := binary.BigEndian.Uint32(head[8:])
	byOffset := map[int64]int32{} // of bases that came by offset
	var bases []oid               // of those that came by id: base is -2 - its number here
	var z io.ReadCloser
	for range n {
		began := in.n
		byOffset[began] = int32(len(p.entries))
		kind, size, err := entryHead(in)
		if err != nil {
			return err
		}
		e := packed{base: -1, size: size}
		switch kind {
		case byte(objects.Commit), byte(objects.Tree), byte(objects.Blob), byte(objects.Tag):
			e.kind = objects.Kind(kind)
		case offsetDelta:
			back, err := offset(in)
			if err != nil {
				return err
			}
			base, ok := byOffset[began-back]
			if !ok || back <= 0 {
				return fmt.Errorf("%w: a delta without its base", errBadPack)
			}
			e.base = base
		case refDelta:
			var id oid
			if _, err := io.ReadFull(in, id[:]); err != nil {
				return err
			}
			bases = append(bases, id)
			e.base = int32(-1 - len(bases))
		default:
			return fmt.Errorf("%w: an entry of kind %d", errBadPack, kind)
		}
		e.at = in.n
		if z, err = reset(z, in); err != nil {
			return err
		}
		if err := p.pass(&e, z, size); err != nil {
			return err
		}
		p.entries = append(p.entries, e)
	}
	size := in.n
	want := make([]byte, len(oid{}))
	if _, err := io.ReadFull(in, want); err != nil {
		return err
	}
	if _, err := io.Copy(sum, io.NewSectionReader(p.f, 0, size)); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return fmt.Errorf("%w: its checksum is wrong", errBadPack)
	}
	return p.resolve(bases)
}

// entryHead reads the kind and size of an entry.
func entryHead(in io.ByteReader) (kind byte, size int64, err error) {
	b, err := in.ReadByte()
	if err != nil {
		return 0, 0, err
	}
	kind, size = b>>4&7, int64(b&15)
	for shift := 4; b&0x80 != 0; shift += 7 {
		if b, err = in.ReadByte(); err != nil {
			return 0, 0, err
		}
		if shift > 53 {
			return 0, 0, fmt.Errorf("%w: an object is too big", errBadPack)
		}
		size |= int64(b&0x7f) << shift
	}
	return kind, size, nil
}

// offset reads how far a base lies before its delta.
func offset(in io.ByteReader) (int64, error) {
	b, err := in.ReadByte()
	back := int64(b & 0x7f)
	for err == nil && b&0x80 != 0 {
		if b, err = in.ReadByte(); back > 1<<55 {
			return 0, fmt.Errorf("%w: a base is too far away", errBadPack)
		}
		back = (back+1)<<7 | int64(b&0x7f)
	}
	return back, err
}

func reset(z io.ReadCloser, in io.Reader) (io.ReadCloser, error) {
	if z == nil {
		return zlib.NewReader(in)
	}
	return z, z.(zlib.Resetter).Reset(in, nil)
}

// pass goes past the body of an entry: it computes the id, or, of a delta, learns the size
// of what it makes.
func (p *packReader) pass(e *packed, z io.Reader, size int64) error {
	if e.kind != 0 {
		id, err := hashOf(e.kind, size, z)
		e.id = id
		return err
	}
	rest := bufio.NewReaderSize(io.LimitReader(z, size), 64)
	if _, err := binary.ReadUvarint(rest); err != nil {
		return badDelta(err)
	}
	made, err := binary.ReadUvarint(rest)
	if err != nil || made > 1<<60 {
		return badDelta(err)
	}
	e.size = int64(made)
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return err
	}
	return atEnd(z)
}

// hashOf reads a body of size bytes to its end and returns the id.
func hashOf(k objects.Kind, size int64, r io.Reader) (id oid, err error) {
	h := sha1cd.New()
	start(h, k, size)
	if n, err := io.Copy(h, io.LimitReader(r, size)); err != nil {
		return id, err
	} else if n != size {
		return id, fmt.Errorf("%w: an object is shorter than it should be", errBadPack)
	}
	if err := atEnd(r); err != nil {
		return id, err
	}
	// Two objects of one id, as can be made of SHA-1, give themselves away.
	sum, collides := h.(sha1cd.CollisionResistantHash).CollisionResistantSum(nil)
	if collides {
		return id, fmt.Errorf("%w: an object is made to have the id of another", errBadPack)
	}
	copy(id[:], sum)
	return id, nil
}

func atEnd(r io.Reader) error {
	var more [1]byte
	n, err := io.ReadFull(r, more[:])
	if n > 0 {
		return fmt.Errorf("%w: an object is longer than it should be", errBadPack)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// resolve computes the ids of deltas. A base may stand behind its delta.
func (p *packReader) resolve(bases []oid) error {
	p.sort()
	for left := true; left; {
		left = false
		progress := false
		for i := range p.entries {
			e := &p.entries[i]
			if e.kind != 0 {
				continue
			}
			if e.base < -1 {
				if base, ok := p.find(bases[-2-e.base]); ok {
					e.base = int32(base)
				}
			}
			if e.base < 0 || p.entries[e.base].kind == 0 {
				left = true
				continue
			}
			e.kind = p.entries[e.base].kind
			b, err := p.body(i)
			if err != nil {
				return err
			}
			e.id, err = hashOf(e.kind, e.size, io.NewSectionReader(b, 0, e.size))
			if err := errors.Join(err, p.release(i, b)); err != nil {
				return err
			}
			progress = true
		}
		if left && !progress {
			return fmt.Errorf("%w: a delta without its base", errBadPack)
		}
		p.sort()
	}
	return nil
}

// sort makes the entries be found whose ids are known.
func (p *packReader) sort() {
	p.byID = p.byID[:0]
	for i := range p.entries {
		if p.entries[i].kind != 0 {
			p.byID = append(p.byID, int32(i))
		}
	}
	slices.SortFunc(p.byID, func(a, b int32) int { return p.entries[a].id.compare(p.entries[b].id) })
}

// find returns the number of the entry with an id.
func (p *packReader) find(id oid) (int, bool) {
	i := sort.Search(len(p.byID), func(i int) bool { return p.entries[p.byID[i]].id.compare(id) >= 0 })
	if i == len(p.byID) || p.entries[p.byID[i]].id != id {
		return 0, false
	}
	return int(p.byID[i]), true
}

// A body is one in memory, or in a file.
type body interface {
	io.ReaderAt
	Size() int64
}

type fileBody struct {
	*os.File
	size int64
}

func (b fileBody) Size() int64 { return b.size }

// inflate opens the deflated bytes of an entry.
func (p *packReader) inflate(i int) (io.ReadCloser, error) {
	at := p.entries[i].at
	return zlib.NewReader(bufio.NewReaderSize(io.NewSectionReader(p.f, at, 1<<62-at), 32<<10))
}

// body returns a whole body. Whoever has read it gives it back to release.
func (p *packReader) body(i int) (body, error) {
	// From the delta down to what is none, and then up again: chains are long.
	chain := []int{i}
	for p.cache[chain[len(chain)-1]] == nil && p.entries[chain[len(chain)-1]].base >= 0 {
		chain = append(chain, int(p.entries[chain[len(chain)-1]].base))
	}
	var below body
	for at := len(chain) - 1; at >= 0; at-- {
		n := chain[at]
		b, err := p.one(n, below)
		if below != nil {
			err = errors.Join(err, p.release(chain[at+1], below))
		}
		if err != nil {
			return nil, err
		}
		below = b
	}
	return below, nil
}

// one returns the body of an entry whose base is at hand.
func (p *packReader) one(i int, base body) (body, error) {
	if b := p.cache[i]; b != nil {
		return b, nil
	}
	z, err := p.inflate(i)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	size := p.entries[i].size
	if size <= maxInMemory {
		out := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
		if err := unfold(out, z, base, size); err != nil {
			return nil, err
		}
		return bytes.NewReader(out.Bytes()), nil
	}
	f, err := scratch(p.dir)
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(f, 256<<10)
	if err := errors.Join(unfold(out, z, base, size), out.Flush()); err != nil {
		f.Close()
		return nil, err
	}
	return fileBody{f, size}, nil
}

// release gives a body back. Small ones are kept: others may be made from them.
func (p *packReader) release(i int, b body) error {
	if f, ok := b.(fileBody); ok {
		return f.Close()
	}
	if p.cache[i] == nil {
		if p.cached += b.Size(); p.cached > maxCached {
			clear(p.cache)
			p.cached = b.Size()
		}
		p.cache[i] = b
	}
	return nil
}

// open opens the body of an entry for reading once.
func (p *packReader) open(i int) (io.ReadCloser, error) {
	e := p.entries[i]
	if e.base < 0 && e.size > maxInMemory {
		return p.inflate(i)
	}
	b, err := p.body(i)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(b, 0, e.size), closer(func() error { return p.release(i, b) })}, nil
}

// read returns the body of an entry that is no blob.
func (p *packReader) read(i int) ([]byte, error) {
	e := p.entries[i]
	if e.size > objects.MaxInMemory {
		return nil, fmt.Errorf("%s %s: %d bytes are too many to read at once", e.kind, e.id, e.size)
	}
	r, err := p.open(i)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, e.size)
	_, err = io.ReadFull(r, data)
	return data, err
}

type closer func() error

func (c closer) Close() error { return c() }

// scratch makes a file in dir that is gone when it is closed, or we are.
func scratch(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "tmp-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
