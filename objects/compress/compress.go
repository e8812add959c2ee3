// Package compress turns blocks of bytes into zstd frames and back. Encoders
// and decoders are made on first use and used again: making one costs more than
// most cache entries take to compress.
package compress

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A Level trades time for size.
type Level uint8

// The levels, by what they cost. The zero Level is Default: on source trees,
// build caches and binaries it takes a tenth more time than Fastest and saves a
// tenth of the space; Better takes half as much again as Default.
const (
	Default Level = iota
	Fastest
	Better
)

// MaxBlock is the size up to which blocks are compressed well: an encoder looks
// back over so many bytes, and has room for little more; in a longer block it
// moves all of them for every 128 KiB.
const MaxBlock = bigWindow

// An encoder has memory for its window, but touches no more than its longest
// block needs.
const (
	smallWindow = 2 << 20
	bigWindow   = 16 << 20
)

// slack is what a decoder may write beyond the end of what it decodes.
const slack = 64

// An Encoder compresses one block after the other. It is for one goroutine.
type Encoder struct {
	pool *sync.Pool
	zstd *zstd.Encoder
}

var encoders [Better + 1]struct{ small, big sync.Pool }

// GetEncoder returns an encoder for blocks of about size bytes. It was put back
// before, or is new.
func GetEncoder(l Level, size int) *Encoder {
	if l > Better {
		l = Default
	}
	pool, window := &encoders[l].small, smallWindow
	if size > smallWindow {
		pool, window = &encoders[l].big, bigWindow
	}
	if e, ok := pool.Get().(*Encoder); ok {
		return e
	}
	speed := [...]zstd.EncoderLevel{Default: zstd.SpeedDefault, Fastest: zstd.SpeedFastest, Better: zstd.SpeedBetterCompression}[l]
	z, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(speed),
		zstd.WithEncoderConcurrency(1), // the caller has goroutines of its own
		zstd.WithWindowSize(window),
		zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false)) // blocks carry a checksum already
	if err != nil {
		panic(fmt.Sprintf("compress: %v", err)) // only wrong options do that
	}
	return &Encoder{pool, z}
}

// PutEncoder takes e back. The caller must not use it any more.
func PutEncoder(e *Encoder) { e.pool.Put(e) }

// Encode appends src, compressed, to dst. It reports false, and returns dst as
// it was, if that saves less than one part in 64: such data is better stored as
// it is, which costs nothing to read.
func (e *Encoder) Encode(dst, src []byte) ([]byte, bool) {
	if len(src) < 32 {
		return dst, false // the frame alone would eat the gain
	}
	out := e.zstd.EncodeAll(src, dst)
	if n := len(out) - len(dst); n > len(src)-len(src)/64-1 {
		return dst, false
	}
	return out, true
}

// A decoder works for one goroutine at a time.
var decoders = sync.Pool{New: func() any {
	z, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true),
		zstd.IgnoreChecksum(true))
	if err != nil {
		panic(fmt.Sprintf("compress: %v", err))
	}
	return z
}}

// Decode decompresses src into the room of dst, which it overwrites, and
// returns the size bytes that must come out; anything else is an error. It
// allocates if dst has less than Room(size) bytes of capacity, and never more
// than that, whatever src says.
func Decode(dst, src []byte, size int) ([]byte, error) {
	if cap(dst) < Room(size) {
		dst = make([]byte, 0, Room(size))
	}
	d := decoders.Get().(*zstd.Decoder)
	out, err := d.DecodeAll(src, dst[:0:Room(size)])
	decoders.Put(d)
	if err != nil {
		return nil, err
	}
	if len(out) != size {
		return nil, fmt.Errorf("%d bytes come out, want %d", len(out), size)
	}
	return out, nil
}

// Room is the capacity that Decode wants for size bytes: a little more, because
// copying in big steps is faster.
func Room(size int) int { return size + slack }
