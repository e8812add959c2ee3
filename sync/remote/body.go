package remote

import (
	"io"
)

// Exactly makes io.ErrUnexpectedEOF of the end of body if that comes before n
// bytes, and ends there. Negative n is until body ends.
func Exactly(body io.ReadCloser, n int64) io.ReadCloser {
	if n < 0 {
		return body
	}
	return &exactly{body, n}
}

type exactly struct {
	body io.ReadCloser
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.body.Read(p)
	if e.left -= int64(n); e.left > 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (e *exactly) Close() error { return e.body.Close() }
