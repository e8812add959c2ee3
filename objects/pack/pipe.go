package pack

import (
	"io"
	"sync"
)

// A Source hands out the blocks of a pack. A Stream is one, and so is a Pipe.
type Source interface {
	// Next returns the next block as it stands in a pack, in buf, which grows as
	// needed. The end is io.EOF.
	Next(buf []byte) ([]byte, error)
}

// A Pipe brings a pack from one goroutine to another, block by block. The other end
// takes the blocks with Next, as they are: within a process nobody needs the pack's
// own checksum. Or it reads the pack, to send it on.
type Pipe struct {
	blocks chan []byte
	taken  chan struct{}
	err    error // of the end; set before blocks is closed

	closed chan struct{}
	once   sync.Once

	// Of whoever reads:
	w      *Writer
	parts  parts
	holds  bool // the block that is being read
	failed error
}

// NewPipe returns a pipe. One goroutine appends and ends, another takes or reads, and
// closes.
func NewPipe() *Pipe {
	return &Pipe{blocks: make(chan []byte), taken: make(chan struct{}, 1), closed: make(chan struct{})}
}

// Append hands over a block, and waits until it is not needed any more. After Close
// it fails with io.ErrClosedPipe.
func (p *Pipe) Append(block []byte) error {
	select {
	case p.blocks <- block:
		<-p.taken
		return nil
	case <-p.closed:
		return io.ErrClosedPipe
	}
}

// End ends the pack: it is whole, or err is why not.
func (p *Pipe) End(err error) {
	if err == nil {
		err = io.EOF
	}
	p.err = err
	close(p.blocks)
}

// take returns the next block. It must be given back.
func (p *Pipe) take() ([]byte, error) {
	select {
	case block, ok := <-p.blocks:
		if !ok {
			return nil, p.err
		}
		return block, nil
	case <-p.closed:
		return nil, io.ErrClosedPipe
	}
}

func (p *Pipe) giveBack() { p.taken <- struct{}{} }

// Next returns a copy of the next block in buf.
func (p *Pipe) Next(buf []byte) ([]byte, error) {
	block, err := p.take()
	if err != nil {
		return buf[:0], err
	}
	defer p.giveBack()
	return append(buf[:0], block...), nil
}

// Read reads the pack.
func (p *Pipe) Read(b []byte) (int, error) {
	for len(p.parts) == 0 {
		p.letGo()
		if p.failed != nil {
			return 0, p.failed
		}
		p.failed = p.more()
	}
	n := copy(b, p.parts[0])
	if p.parts[0] = p.parts[0][n:]; len(p.parts[0]) == 0 {
		p.parts = p.parts[1:]
	}
	return n, nil
}

// letGo gives back the block that was read.
func (p *Pipe) letGo() {
	if p.holds {
		p.holds = false
		p.giveBack()
	}
}

// more makes the next part of the pack ready to be read.
func (p *Pipe) more() error {
	if p.w == nil {
		p.w = NewWriter(&p.parts)
	}
	block, err := p.take()
	if err == io.EOF {
		if _, failed := p.w.Finish(); failed != nil {
			return failed
		}
	}
	if err != nil {
		return err
	}
	p.holds = true
	h, err := parseBlockHeader(block)
	if err == nil {
		_, err = p.w.Append(block, make([]Record, h.records))
	}
	return err
}

// Close ends the pipe from the side that takes.
func (p *Pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	p.letGo()
	return nil
}

// parts are what was written, not copied.
type parts [][]byte

func (p *parts) Write(b []byte) (int, error) {
	if len(b) > 0 {
		*p = append(*p, b)
	}
	return len(b), nil
}
