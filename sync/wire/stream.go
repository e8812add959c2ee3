package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A pack of which nobody knows how long it will be, or whether all goes well to
// its end, is sent as a stream of frames:
//
//	1 byte    "P" a piece of the pack, "W" wait: there is more to come,
//	          "E" the end: the pack is whole, "X" an error, as JSON
//	4 bytes   n, 0 for "W" and "E"
//	n bytes
//
// After "E" and "X" there is nothing. So a stream that is cut short, by whatever
// stands between client and server, is never taken for a whole one.
const (
	framePiece = 'P'
	frameWait  = 'W'
	frameEnd   = 'E'
	frameError = 'X'

	frameHead = 5
)

// MaxPiece is how many bytes of a pack one frame holds at most.
const MaxPiece = 256 << 10

// Wait is a frame that says nothing, for those who wait for a server that is
// still looking.
var Wait = []byte{frameWait, 0, 0, 0, 0}

// A StreamWriter writes a stream. Each frame is one Write.
type StreamWriter struct {
	w   io.Writer
	buf []byte
}

// NewStreamWriter starts a stream.
func NewStreamWriter(w io.Writer) *StreamWriter { return &StreamWriter{w: w} }

func (s *StreamWriter) frame(kind byte, p []byte) error {
	s.buf = append(s.buf[:0], kind)
	s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(len(p)))
	s.buf = append(s.buf, p...)
	_, err := s.w.Write(s.buf)
	return err
}

// Write adds p to the pack.
func (s *StreamWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		piece := p[:min(len(p), MaxPiece)]
		if err := s.frame(framePiece, piece); err != nil {
			return n, err
		}
		n, p = n+len(piece), p[len(piece):]
	}
	return n, nil
}

// End ends the stream: the pack is whole, or cause is why not.
func (s *StreamWriter) End(cause error) error {
	if cause == nil {
		return s.frame(frameEnd, nil)
	}
	return s.frame(frameError, AsError(cause).Encode())
}

// A StreamReader reads the pack in a stream. Read returns io.EOF only where the
// server says that the pack is whole.
type StreamReader struct {
	body io.ReadCloser
	left int   // bytes of the piece
	err  error // what Read returns from now on
}

// NewStreamReader returns the pack in the stream body.
func NewStreamReader(body io.ReadCloser) *StreamReader { return &StreamReader{body: body} }

func (s *StreamReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, s.err
	}
	for s.left == 0 && s.err == nil {
		s.next()
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.body.Read(p[:min(len(p), s.left)])
	if s.left -= n; err == io.EOF {
		err = nil // the next frame is not there: next says so
		if n == 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	s.err = err
	return n, err
}

// next reads the head of a frame, and all of it if it is no piece.
func (s *StreamReader) next() {
	var head [frameHead]byte
	if _, err := io.ReadFull(s.body, head[:]); err != nil {
		s.err = unexpected(err)
		return
	}
	n := binary.BigEndian.Uint32(head[1:])
	switch kind := head[0]; {
	case kind == framePiece && n > 0 && n <= MaxPiece:
		s.left = int(n)
	case kind == frameWait && n == 0:
	case kind == frameEnd && n == 0:
		s.err = s.end()
	case kind == frameError && n <= MaxError:
		s.err = s.failure(int(n))
	default:
		s.err = malformed("a frame %q of %d bytes", kind, n)
	}
}

// end wants nothing to follow. It also lets HTTP see that the body has ended.
func (s *StreamReader) end() error {
	var one [1]byte
	if n, err := io.ReadFull(s.body, one[:]); n > 0 {
		return malformed("something follows the end")
	} else if err != io.EOF {
		return err
	}
	return io.EOF
}

func (s *StreamReader) failure(n int) error {
	data := make([]byte, n)
	if _, err := io.ReadFull(s.body, data); err != nil {
		return unexpected(err)
	}
	err, ok := ParseError(data)
	if !ok {
		return malformed("an error that is none")
	}
	return fmt.Errorf("the server broke off: %w", err)
}

// unexpected makes an error of an end that comes too early.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close closes the stream.
func (s *StreamReader) Close() error { return s.body.Close() }
