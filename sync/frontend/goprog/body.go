package goprog

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
)

// A body is what follows a request: a JSON string of which nothing is escaped, in base
// 64. It reads as what that stands for. Megabytes come that way, while Go waits: so no
// byte is looked at alone, and they are handed on many at a time.
type body struct {
	in    *bufio.Reader
	ended bool
	room  []byte
	ready []byte // part of room
}

var errNoBody = errors.New("read a request: no body where one was announced")

// begin reads up to the quote in front of the body. An empty one is not sent.
func (b *body) begin(size int64) error {
	if b.ended = size == 0; b.ended {
		return nil
	}
	b.room = make([]byte, min(max(size, bytesOf)+bytesOf, 16<<10*bytesOf))
	for {
		c, err := b.in.ReadByte()
		switch {
		case err != nil:
			return err
		case c == '"':
			return nil
		case c != '\n' && c != '\r' && c != ' ' && c != '\t':
			return errNoBody
		}
	}
}

// In base 64 so many digits stand for so many bytes.
const (
	digits  = 4
	bytesOf = 3
)

// Read returns io.EOF at the quote behind the body.
func (b *body) Read(p []byte) (int, error) {
	if len(b.ready) == 0 {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.ready)
	b.ready = b.ready[n:]
	return n, nil
}

// fill makes as much ready as there is room for.
func (b *body) fill() error {
	n := 0
	for !b.ended && len(b.room)-n >= bytesOf {
		if next, err := b.in.Peek(1); err != nil {
			return noEOF(err)
		} else if next[0] == '"' {
			_, _ = b.in.Discard(1)
			b.ended = true
			break
		}
		if _, err := b.in.Peek(digits); err != nil {
			return noEOF(err)
		}
		coded, _ := b.in.Peek(min((len(b.room)-n)/bytesOf, b.in.Buffered()/digits) * digits)
		if end := bytes.IndexByte(coded, '"'); end >= 0 {
			coded = coded[:end]
		}
		decoded, err := base64.StdEncoding.Decode(b.room[n:], coded)
		if err != nil {
			return err
		}
		_, _ = b.in.Discard(len(coded))
		n += decoded
	}
	b.ready = b.room[:n]
	if n == 0 {
		return io.EOF
	}
	return nil
}

// skip reads what is left of the body.
func (b *body) skip() error {
	for !b.ended {
		_, err := b.in.ReadSlice('"')
		if err != nil && err != bufio.ErrBufferFull {
			return noEOF(err)
		}
		b.ended = err == nil
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
