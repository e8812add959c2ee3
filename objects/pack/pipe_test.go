package pack_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// someBlocks returns blocks as they stand in a pack.
func someBlocks(n int) (blocks [][]byte) {
	e := compress.GetEncoder(compress.Default, 64<<10)
	defer compress.PutEncoder(e)
	for i := range n {
		var b pack.Block
		for j := range i + 1 {
			body := bytes.Repeat(fmt.Append(nil, "record ", j, " of block ", i), 1000)
			copy(b.Space(len(body)), body)
			b.Add(pack.Record{ID: objects.Sum(objects.Blob, body), Type: pack.Blob, Size: uint32(len(body))})
		}
		blocks = append(blocks, b.AppendTo(nil, e))
	}
	return blocks
}

// send hands over blocks until the pipe is closed, and scribbles on them then. What
// became of it can be waited for.
func send(p *pack.Pipe, blocks [][]byte, end error) (done chan error) {
	done = make(chan error, 1)
	go func() {
		var err error
		for _, b := range blocks {
			b = bytes.Clone(b)
			if err = p.Append(b); err != nil {
				break
			}
			clear(b)
		}
		p.End(errors.Join(err, end))
		done <- err
	}()
	return done
}

func TestPipe(t *testing.T) {
	blocks := someBlocks(5)
	for name, open := range map[string]func(*pack.Pipe) pack.Source{
		"taken":             func(p *pack.Pipe) pack.Source { return p },
		"read":              func(p *pack.Pipe) pack.Source { return pack.NewStream(p) },
		"read byte by byte": func(p *pack.Pipe) pack.Source { return pack.NewStream(iotest.OneByteReader(p)) },
	} {
		for _, end := range []error{nil, errors.New("broken")} {
			p := pack.NewPipe()
			done := send(p, blocks, end)
			s := open(p)
			var buf []byte
			var err error
			n := 0
			for ; ; n++ {
				if buf, err = s.Next(buf); err != nil {
					break
				}
				if !bytes.Equal(buf, blocks[n]) {
					t.Errorf("%s: block %d is another one", name, n)
				}
			}
			if n != len(blocks) || end == nil && err != io.EOF || end != nil && !errors.Is(err, end) {
				t.Errorf("%s: %d blocks, then %v", name, n, err)
			}
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
			p.Close()
		}
	}
}

// TestPipeClosed closes it anywhere: whoever sends is told.
func TestPipeClosed(t *testing.T) {
	blocks := someBlocks(3)
	for n := range 50 { // the pack is longer than three times that
		p := pack.NewPipe()
		done := send(p, blocks, nil)
		if n%2 == 0 {
			_, _ = io.ReadFull(p, make([]byte, n*3))
		} else if n%3 > 0 {
			_, _ = p.Next(nil)
		}
		p.Close()
		if err := <-done; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("closed after %d: %v", n, err)
		}
		if _, err := p.Next(nil); err == nil {
			t.Error("a block comes out of a closed pipe")
		}
	}
}
