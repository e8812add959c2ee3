package action

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func TestOrder(t *testing.T) {
	var w orderWriter
	var want string
	for _, piece := range []struct {
		s Stream
		n int
	}{{Stdout, 3}, {Stdout, 2}, {Stderr, 1}, {Stdout, 300}, {Stderr, 0}, {Stdout, 1}} {
		w.add(piece.s, piece.n)
		want += string(bytes.Repeat([]byte{'o' + byte(piece.s)}, piece.n))
	}
	w.flush()
	var got string
	pieces := 0
	err := w.order.Replay(306, 1, func(s Stream, n int64) error {
		pieces++
		got += string(bytes.Repeat([]byte{'o' + byte(s)}, int(n)))
		return nil
	})
	if err != nil || got != want {
		t.Errorf("replayed %q, %v, want %q", got, err, want)
	}
	if pieces != 3 {
		t.Errorf("%d pieces: neighbours were not joined", pieces)
	}
}

func TestOrderRefusesLies(t *testing.T) {
	order := func(values ...uint64) (o Order) {
		for _, v := range values {
			o = binary.AppendUvarint(o, v)
		}
		return o
	}
	for _, tt := range []struct {
		name string
		o    Order
	}{
		{"too little", order(2 << 1)},
		{"too much", order(4 << 1)},
		{"the other stream", order(3<<1 | 1)},
		{"an empty piece", order(3<<1, 1)},
		{"a stream twice", order(1<<1, 2<<1)},
		{"cut short", Order{0x80}},
		{"too long a number", bytes.Repeat([]byte{0xff}, 11)},
	} {
		err := tt.o.Replay(3, 0, func(Stream, int64) error {
			t.Errorf("%s: printed", tt.name)
			return nil
		})
		if !errors.Is(err, ErrBadOrder) {
			t.Errorf("%s: %v, want %v", tt.name, err, ErrBadOrder)
		}
	}
}

func FuzzOrder(f *testing.F) {
	f.Add([]byte{2, 3, 4}, int64(3), int64(1))
	f.Add([]byte{0x80, 0x80}, int64(1), int64(0))
	f.Fuzz(func(t *testing.T, order []byte, stdout, stderr int64) {
		if stdout < 0 || stderr < 0 {
			return
		}
		var w orderWriter
		var sum [2]int64
		err := Order(order).Replay(stdout, stderr, func(s Stream, n int64) error {
			if n <= 0 || n > 1<<40 {
				return errors.New("as big as no output")
			}
			sum[s] += n
			w.add(s, int(n))
			return nil
		})
		if err != nil {
			return
		}
		w.flush()
		if sum != [2]int64{stdout, stderr} {
			t.Errorf("order % x printed %d bytes, want %d and %d", order, sum, stdout, stderr)
		}
		if !bytes.Equal(w.order, order) && len(w.order) > len(order) {
			t.Errorf("order % x came back as % x", order, w.order)
		}
	})
}
