// Package gitwire knows what Git's clients and servers say to each other over HTTP:
// the fetching half of Git's protocol version 2, of object format sha256.
//
// All of it is pkt-lines: four hexadecimal digits, which count themselves, and as
// many bytes as they say. Three lengths that would be too short stand for
// themselves:
//
//	0000   flush: the end of a request, of an answer
//	0001   delimiter: the end of a section
//	0002   the end of a whole answer, which HTTP has no need of
//
// A request is "command=NAME", capabilities, and after a delimiter its arguments,
// one on a line, up to a flush; see Request. What a client believes of it, or a
// server, is for others to say.
//
// Source: Git's gitprotocol-common, gitprotocol-v2 and gitprotocol-http.
package gitwire

import (
	"errors"
	"fmt"
	"io"
)

// ErrMalformed is what every error about the bytes of a request is.
var ErrMalformed = errors.New("malformed request")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// maxLine is how long a pkt-line may be, with its length.
const maxLine = 65520

// A lineKind is what a pkt-line is.
type lineKind uint8

const (
	data lineKind = iota
	flush
	delimiter
)

// A lineReader reads pkt-lines. The zero reader has no buffer yet.
type lineReader struct {
	r   io.Reader
	buf []byte
}

// next returns the next line, which is valid until it is called again. Where no more
// come it is io.EOF.
func (l *lineReader) next() (lineKind, []byte, error) {
	if l.buf == nil {
		l.buf = make([]byte, maxLine)
	}
	head := l.buf[:4]
	if _, err := io.ReadFull(l.r, head); err != nil {
		return 0, nil, cutShort(err)
	}
	n := 0
	for _, c := range head {
		digit, ok := unhex(c)
		if !ok {
			return 0, nil, malformed("a line that begins with %q, which is no length", head)
		}
		n = n<<4 | digit
	}
	switch {
	case n == 0:
		return flush, nil, nil
	case n == 1:
		return delimiter, nil, nil
	case n < 4 || n > maxLine:
		return 0, nil, malformed("a line of length %d", n)
	}
	line := l.buf[4:n]
	if _, err := io.ReadFull(l.r, line); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, cutShort(err)
	}
	if n > 4 && line[n-5] == '\n' {
		line = line[:n-5]
	}
	return data, line, nil
}

func cutShort(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("it ends in the middle of a line")
	}
	return err
}

func unhex(c byte) (int, bool) {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0'), true
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10, true
	}
	return 0, false
}

// The lines that stand for themselves.
const (
	Flush     = "0000"
	Delimiter = "0001"
)

// AppendLine appends a pkt-line with this text and a line feed. What does not fit is
// cut off: that can be nothing but a message for people.
func AppendLine(dst []byte, format string, args ...any) []byte {
	at := len(dst)
	dst = append(dst, "0000"...)
	dst = fmt.Appendf(dst, format, args...)
	if len(dst)-at >= maxLine {
		dst = dst[:at+maxLine-1]
	}
	dst = append(dst, '\n')
	putLength(dst[at:], len(dst)-at)
	return dst
}

func putLength(dst []byte, n int) {
	const digits = "0123456789abcdef"
	for i := range 4 {
		dst[i] = digits[n>>(12-4*i)&0xf]
	}
}
