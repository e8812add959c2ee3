package action

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Stream is one of the two that a command prints on.
type Stream uint8

// The streams, as they stand in an Order.
const (
	Stdout Stream = 0
	Stderr Stream = 1
)

// Order says which stream wrote how much, as it was read while the command ran,
// so that a replay mixes the two as the command did. It is a sequence of
//
//	uvarint   bytes*2 + stream
//
// with at least one byte each, and no stream twice in a row.
type Order []byte

// ErrBadOrder is what every error of Order.Replay is.
var ErrBadOrder = errors.New("malformed order of output")

// An orderWriter makes an Order of pieces of any size.
type orderWriter struct {
	order  Order
	stream Stream
	size   uint64 // of the piece that is not in order yet
}

func (w *orderWriter) add(s Stream, n int) {
	if n == 0 {
		return
	}
	if s != w.stream {
		w.flush()
		w.stream = s
	}
	w.size += uint64(n)
}

func (w *orderWriter) flush() {
	if w.size > 0 {
		w.order = binary.AppendUvarint(w.order, w.size<<1|uint64(w.stream))
		w.size = 0
	}
}

// Replay calls print for each piece. It proves first that the pieces make up
// exactly stdout and stderr bytes, so that nothing is printed of a bad order.
func (o Order) Replay(stdout, stderr int64, print func(s Stream, n int64) error) error {
	rest := [2]uint64{Stdout: uint64(stdout), Stderr: uint64(stderr)}
	last := Stream(2)
	for p := o; len(p) > 0; {
		v, n := binary.Uvarint(p)
		s := Stream(v & 1)
		if n <= 0 || v>>1 == 0 || s == last || v>>1 > rest[s] {
			return fmt.Errorf("%w: at byte %d", ErrBadOrder, len(o)-len(p))
		}
		rest[s] -= v >> 1
		last, p = s, p[n:]
	}
	if rest != [2]uint64{} {
		return fmt.Errorf("%w: %d and %d bytes are not in it", ErrBadOrder, rest[Stdout], rest[Stderr])
	}
	for p := o; len(p) > 0; {
		v, n := binary.Uvarint(p)
		if err := print(Stream(v&1), int64(v>>1)); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
