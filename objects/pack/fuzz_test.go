package pack_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

func FuzzScan(f *testing.F) {
	packed, _, name := build(f, sample()...)
	f.Add(packed)
	f.Add(packed[:len(packed)-1])
	f.Add([]byte("CTPK\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		_ = pack.Scan(bytes.NewReader(p), int64(len(p)), func(_ pack.BlockInfo, d *pack.Data, err error) error {
			for i := 0; err == nil && i < d.Len(); i++ {
				kind, body := d.Record(i)
				if _, err := pack.RecordID(kind, body); err != nil && len(body) >= objects.IDSize {
					t.Error(err)
				}
			}
			return nil
		})
		_, sumErr := pack.CheckSum(bytes.NewReader(p), int64(len(p)))
		// Who reads the pack as it comes finds the same, but for what follows it.
		stream, err := pack.NewStream(bytes.NewReader(p)), error(nil)
		for n := 0; err == nil; n++ {
			if _, err = stream.Next(nil); n > len(p) {
				t.Fatal("the stream has no end")
			}
		}
		if _, again := stream.Next(nil); again != err || err != io.EOF && sumErr == nil && scans(p) {
			t.Errorf("the stream ends in %v, then %v; the checksum: %v", err, again, sumErr)
		}
		// Whatever the pack is, its index is a good one.
		var out bytes.Buffer
		if _, err := pack.Rebuild(&out, bytes.NewReader(p), int64(len(p)), name); err != nil {
			return
		}
		x, err := pack.ParseIndex(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Check(); err != nil {
			t.Error(err)
		}
	})
}

// scans reports whether p is laid out as a pack.
func scans(p []byte) bool {
	return pack.Scan(bytes.NewReader(p), int64(len(p)), func(pack.BlockInfo, *pack.Data, error) error { return nil }) == nil
}

func FuzzBlock(f *testing.F) {
	packed, index, _ := build(f, sample()...)
	x, err := pack.ParseIndex(index)
	if err != nil {
		f.Fatal(err)
	}
	for n := range x.Blocks() {
		b, err := x.Block(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed[b.Offset : b.Offset+int64(b.Size())])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		// With a right checksum, or little would be tried behind it.
		if n := len(p) - 4; n >= 0 {
			p = binary.BigEndian.AppendUint32(bytes.Clone(p[:n]), crc32.Checksum(p[:n], crc32.MakeTable(crc32.Castagnoli)))
		}
		var d pack.Data
		err := d.Decode(p)
		if err != nil {
			return
		}
		if n, err := pack.CheckBlock(p); err != nil || n != d.Len() {
			t.Errorf("CheckBlock = %d, %v, want %d", n, err, d.Len())
		}
		for i := range d.Len() {
			d.Record(i)
		}
	})
}

func FuzzIndex(f *testing.F) {
	_, index, _ := build(f, sample()...)
	f.Add(index, []byte("id"))
	f.Fuzz(func(t *testing.T, p, find []byte) {
		x, err := pack.ParseIndex(p)
		if err != nil {
			return
		}
		var id objects.ID
		copy(id[:], find)
		_, _, _ = x.Find(&id)
		_ = x.Check()
		n := 0
		for _, e := range x.All() {
			if i, err := x.BlockOf(e.Record); err == nil {
				_, _ = x.Block(i)
			}
			n++
		}
		if n != x.Len() {
			t.Errorf("All yields %d, Len is %d", n, x.Len())
		}
	})
}

func FuzzRecipe(f *testing.F) {
	f.Add(pack.AppendRecipe(nil, objects.ID{1}, 30, []pack.Piece{{ID: objects.ID{2}, Size: 10}, {ID: objects.ID{3}, Size: 20}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := pack.ParseRecipe(p)
		if err != nil {
			return
		}
		var pieces []pack.Piece
		for i := range r.Len() {
			pieces = append(pieces, r.Piece(i))
		}
		if got := pack.AppendRecipe(nil, r.ID, r.Size, pieces); !bytes.Equal(got, p) {
			t.Errorf("%x is written as %x", p, got)
		}
	})
}

func FuzzDelta(f *testing.F) {
	base := objects.Entries{{Mode: objects.ModeFile, Name: "a"}, {Mode: objects.ModeDir, Name: "b"}}.Encode()
	tree := objects.Entries{{Mode: objects.ModeExec, Name: "a"}, {Mode: objects.ModeFile, Name: "c"}}.Encode()
	record, _ := pack.AppendDelta(nil, objects.ID{1}, tree, objects.ID{2}, base, 1000)
	f.Add(record, base)
	f.Fuzz(func(t *testing.T, p, base []byte) {
		d, err := pack.ParseDelta(p)
		if err != nil {
			return
		}
		if tree, err := d.Apply(base); err == nil && len(tree) > len(base)+len(p)+8*len(p) {
			t.Errorf("%d bytes make a tree of %d out of one of %d", len(p), len(tree), len(base))
		}
	})
}
