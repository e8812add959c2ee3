package gitpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/flate"

	"github.com/cache-tool/cache-tool/objects"
)

// pieceSize is how much of a big object one goroutine deflates at a time.
const pieceSize = 1 << 20

// Add adds an object of any size while it is read, up to io.EOF: a body that
// proves its id only there is proven. Nothing else is added meanwhile.
func (p *Writer) Add(id objects.ID, o objects.Object) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	off := p.off
	crc := crc32.NewIEEE()
	err := DeflateBig(o, func(b []byte) error {
		crc.Write(b)
		return p.write(b)
	})
	if err != nil {
		// Half an object went out: there is no way on.
		p.bad = fmt.Errorf("git pack: %s %s: %w", o.Kind, id, err)
		return p.bad
	}
	p.note(row{id: id, crc: crc.Sum32(), off: off})
	return nil
}

// A piece is a part of a body. Deflated by itself and ended at a byte boundary,
// it can be followed by the next: together they are one valid stream.
type piece struct {
	raw  []byte
	out  bytes.Buffer
	zip  *flate.Writer
	done chan error
}

var pieces = sync.Pool{New: func() any {
	zip, err := flate.NewWriter(io.Discard, level)
	if err != nil {
		panic(err) // the level is a constant
	}
	return &piece{raw: make([]byte, pieceSize), zip: zip, done: make(chan error, 1)}
}}

func (c *piece) deflate(last bool) {
	c.out.Reset()
	c.zip.Reset(&c.out)
	_, err := c.zip.Write(c.raw)
	if last {
		err = errors.Join(err, c.zip.Close())
	} else {
		err = errors.Join(err, c.zip.Flush())
	}
	c.done <- err
}

// DeflateBig is Deflate for an object of any size, in pieces, and while it is read up to
// io.EOF. It reads on while pieces are deflated, one for each processor.
func DeflateBig(o objects.Object, emit func([]byte) error) error {
	if err := emit(append(appendHeader(nil, o.Kind, o.Size), 0x78, 0x01)); err != nil { // zlib, fastest
		return err
	}
	var queue []*piece // under way, oldest first
	defer func() {
		for _, c := range queue {
			<-c.done
			pieces.Put(c)
		}
	}()
	next := func() error {
		c := queue[0]
		queue = queue[1:]
		defer pieces.Put(c)
		if err := <-c.done; err != nil {
			return err
		}
		return emit(c.out.Bytes())
	}
	sum := adler32.New()
	for left := o.Size; ; {
		c := pieces.Get().(*piece)
		c.raw = c.raw[:min(left, pieceSize)]
		if _, err := io.ReadFull(o.Body, c.raw); err != nil {
			pieces.Put(c)
			return noEOF(err)
		}
		sum.Write(c.raw)
		left -= int64(len(c.raw))
		go c.deflate(left == 0)
		queue = append(queue, c)
		if left == 0 {
			break
		}
		if len(queue) < runtime.GOMAXPROCS(0) {
			continue
		}
		if err := next(); err != nil {
			return err
		}
	}
	for len(queue) > 0 {
		if err := next(); err != nil {
			return err
		}
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(o.Body, 1)); n > 0 {
		return fmt.Errorf("body is longer than %d bytes", o.Size)
	} else if err != nil {
		return err
	}
	return emit(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
}

// noEOF makes the end of a body that is too short an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
