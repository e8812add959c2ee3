package gitbridge

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

func badDelta(err error) error { return fmt.Errorf("%w: a malformed delta: %v", errBadPack, err) }

// unfold writes size bytes: what z has, or what that makes of base.
func unfold(out io.Writer, z io.Reader, base body, size int64) error {
	if base != nil {
		return applyDelta(out, bufio.NewReaderSize(z, 32<<10), base, size)
	}
	n, err := io.Copy(out, io.LimitReader(z, size))
	if err == nil && n != size {
		err = fmt.Errorf("%w: an object is shorter than it should be", errBadPack)
	}
	return err
}

// applyDelta writes the size bytes that a delta makes of base.
func applyDelta(out io.Writer, delta *bufio.Reader, base body, size int64) error {
	from, err := binary.ReadUvarint(delta)
	if err != nil || from != uint64(base.Size()) {
		return badDelta(err)
	}
	to, err := binary.ReadUvarint(delta)
	if err != nil || to != uint64(size) {
		return badDelta(err)
	}
	for left := size; left > 0; {
		op, err := delta.ReadByte()
		if err != nil {
			return badDelta(err)
		}
		var src io.Reader
		var n int64
		switch {
		case op&0x80 != 0:
			var at int64
			if at, n, err = copyArgs(delta, op); err != nil {
				return badDelta(err)
			}
			src = io.NewSectionReader(base, at, n)
		case op > 0:
			n = int64(op)
			src = delta
		}
		if n <= 0 || n > left {
			return badDelta(nil)
		}
		if _, err := io.CopyN(out, src, n); err != nil {
			return badDelta(err)
		}
		left -= n
	}
	if _, err := delta.ReadByte(); err != io.EOF {
		return badDelta(err)
	}
	return nil
}

// copyArgs reads the offset and length of a piece of the base.
func copyArgs(in io.ByteReader, op byte) (at, n int64, err error) {
	for i := range 7 {
		if op&(1<<i) == 0 {
			continue
		}
		b, err := in.ReadByte()
		if err != nil {
			return 0, 0, err
		}
		if i < 4 {
			at |= int64(b) << (8 * i)
		} else {
			n |= int64(b) << (8 * (i - 4))
		}
	}
	if n == 0 {
		n = 0x10000
	}
	return at, n, nil
}
