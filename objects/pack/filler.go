package pack

import (
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
)

// A Filler packs records anew that come from other blocks. It is for one goroutine.
type Filler struct {
	Level compress.Level

	// Append takes the blocks, as Writer.Append does. It keeps nothing of them.
	Append func(stored []byte, records []Record) error

	open    Block
	out     []byte
	encoder *compress.Encoder
}

// Put adds a record to the block that is being filled. With size bytes that is full.
func (f *Filler) Put(id objects.ID, t Type, body []byte, size int) error {
	copy(f.open.Space(len(body)), body)
	f.open.Add(Record{ID: id, Type: t, Size: uint32(len(body))})
	if f.open.Len() < size {
		return nil
	}
	return f.Flush()
}

// Flush hands out what there is.
func (f *Filler) Flush() error {
	if len(f.open.Records) == 0 {
		return nil
	}
	if f.encoder == nil {
		f.encoder = compress.GetEncoder(f.Level, f.open.Len())
	}
	f.out = f.open.AppendTo(f.out[:0], f.encoder)
	err := f.Append(f.out, f.open.Records)
	f.open.Reset()
	return err
}

// Close gives the encoder back.
func (f *Filler) Close() {
	if f.encoder != nil {
		compress.PutEncoder(f.encoder)
		f.encoder = nil
	}
}
