package action

import (
	"bytes"
	"errors"
	"io"
	"os"
)

const (
	captureInMemory = 1 << 20 // bytes of a stream; what is longer goes to a temporary file
	captureMax      = 1 << 30 // a command that prints more is not cached
)

var errPrintsTooMuch = errors.New("the command prints more than 1 GiB")

// A capture keeps what a command prints on one stream, in memory at first. The
// first error stays, and makes the run one that cannot be cached.
type capture struct {
	memory []byte
	file   *os.File // holds everything, once there is one; it has no name any more
	size   int64
	err    error
}

func (c *capture) add(p []byte) {
	if c.err != nil {
		return
	}
	switch {
	case c.size+int64(len(p)) > captureMax:
		c.fail(errPrintsTooMuch)
		return
	case c.file == nil && len(c.memory)+len(p) <= captureInMemory:
		c.memory = append(c.memory, p...)
	default:
		if err := c.spool(p); err != nil {
			c.fail(err)
			return
		}
	}
	c.size += int64(len(p))
}

// spool writes to a file that is gone when the process is.
func (c *capture) spool(p []byte) (err error) {
	if c.file == nil {
		c.file, err = anonymousFile()
		if err != nil {
			return err
		}
		if _, err := c.file.Write(c.memory); err != nil {
			return err
		}
		c.memory = nil
	}
	_, err = c.file.Write(p)
	return err
}

func anonymousFile() (*os.File, error) {
	f, err := os.CreateTemp("", "cache-tool-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func (c *capture) fail(err error) {
	c.close()
	c.err = err
}

// reader returns what was captured, from the start.
func (c *capture) reader() io.Reader {
	if c.file != nil {
		return io.NewSectionReader(c.file, 0, c.size)
	}
	return bytes.NewReader(c.memory)
}

func (c *capture) close() {
	if c.file != nil {
		c.file.Close()
	}
	c.file, c.memory = nil, nil
}
