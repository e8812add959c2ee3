package gitbridge

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/gitpack"
)

// A packSpool is a pack that is being made in a file, since how many objects it has is
// known only at its end, and that stands at its beginning. Its methods may be called from
// many goroutines at once.
type packSpool struct {
	mu   sync.Mutex
	f    *os.File
	out  *bufio.Writer // guarded by mu
	size int64         // guarded by mu; of all objects
	n    uint32        // guarded by mu
}

func newPackSpool(dir string) (*packSpool, error) {
	f, err := scratch(dir)
	if err != nil {
		return nil, fmt.Errorf("make a pack: %w", err)
	}
	return &packSpool{f: f, out: bufio.NewWriterSize(f, 256<<10)}, nil
}

func (p *packSpool) close() { p.f.Close() }

// add adds an object that is in memory.
func (p *packSpool) add(k objects.Kind, body []byte) error {
	return gitpack.Deflate(k, body, func(b []byte) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.write(b, 1)
	})
}

// stream adds an object while it is read. Others wait.
func (p *packSpool) stream(o objects.Object) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := uint32(1)
	return gitpack.DeflateBig(o, func(b []byte) error {
		err := p.write(b, n)
		n = 0
		return err
	})
}

// write must be called with mu held.
func (p *packSpool) write(b []byte, objects uint32) error {
	if p.n > math.MaxUint32-objects {
		return fmt.Errorf("make a pack: too many objects")
	}
	p.n += objects
	n, err := p.out.Write(b)
	p.size += int64(n)
	return err
}

// packedBytes counts the bytes of packs, for tests.
var packedBytes atomic.Int64

// finish ends the pack. It may then be opened any number of times.
func (p *packSpool) finish() (total int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	total = int64(len(p.head())) + p.size + sha1.Size
	packedBytes.Add(total)
	return total, p.out.Flush()
}

func (p *packSpool) head() []byte {
	head := binary.BigEndian.AppendUint32([]byte("PACK"), 2)
	return binary.BigEndian.AppendUint32(head, p.n)
}

// open reads the pack. Its checksum is computed on the way.
func (p *packSpool) open() io.Reader {
	sum := sha1.New()
	all := io.MultiReader(bytes.NewReader(p.head()), io.NewSectionReader(p.f, 0, p.size))
	return io.MultiReader(io.TeeReader(all, sum), &later{make: func() []byte { return sum.Sum(nil) }})
}

// later is bytes that are made when they are read first.
type later struct {
	make func() []byte
	r    *bytes.Reader
}

func (l *later) Read(p []byte) (int, error) {
	if l.r == nil {
		l.r = bytes.NewReader(l.make())
	}
	return l.r.Read(p)
}
