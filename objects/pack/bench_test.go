package pack_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// sources makes a block of n bytes of what looks like source files.
func sources(n int) *pack.Block {
	r := rand.New(rand.NewPCG(1, 1))
	words := make([]string, 2000)
	for i := range words {
		words[i] = fmt.Sprintf("%x", r.Uint64()>>(8+r.IntN(48)))
	}
	var b pack.Block
	for b.Len() < n {
		var f bytes.Buffer
		for size := 1 << (8 + r.IntN(7)); f.Len() < size; {
			f.WriteString(words[int(r.ExpFloat64()*100)%len(words)])
			f.WriteByte(" \n("[r.IntN(3)])
		}
		copy(b.Space(f.Len()), f.Bytes())
		b.Add(pack.Record{ID: objects.Sum(objects.Blob, f.Bytes()), Type: pack.Blob, Size: uint32(f.Len())})
	}
	return &b
}

func BenchmarkPack(b *testing.B) {
	for _, size := range []int{64 << 10, 8 << 20} {
		for name, level := range map[string]compress.Level{"default": compress.Default, "fastest": compress.Fastest} {
			b.Run(fmt.Sprintf("block=%d/level=%s", size, name), func(b *testing.B) {
				block := sources(size)
				e := compress.GetEncoder(level, size)
				defer compress.PutEncoder(e)
				var out []byte
				b.SetBytes(int64(block.Len()))
				for b.Loop() {
					out = block.AppendTo(out[:0], e)
				}
				b.ReportMetric(float64(block.Len())/float64(len(out)), "ratio")
			})
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, size := range []int{64 << 10, 8 << 20} {
		b.Run(fmt.Sprintf("block=%d", size), func(b *testing.B) {
			block := sources(size)
			e := compress.GetEncoder(compress.Default, size)
			defer compress.PutEncoder(e)
			stored := block.AppendTo(nil, e)
			var d pack.Data
			b.SetBytes(int64(block.Len()))
			for b.Loop() {
				if err := d.Decode(stored); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// million returns the ids of an index of a million objects, and the index.
func million(b *testing.B) (*pack.Index, []objects.ID) {
	const n, perBlock = 1_000_000, 1000
	w := pack.NewWriter(new(bytes.Buffer))
	e := compress.GetEncoder(compress.Fastest, 64<<10)
	defer compress.PutEncoder(e)
	ids := make([]objects.ID, n)
	var stored []byte
	for i := 0; i < n; i += perBlock {
		var block pack.Block
		for j := i; j < i+perBlock; j++ {
			body := binary.BigEndian.AppendUint32(nil, uint32(j))
			ids[j] = objects.Sum(objects.Blob, body)
			copy(block.Space(4), body)
			block.Add(pack.Record{ID: ids[j], Type: pack.Blob, Size: 4})
		}
		stored = block.AppendTo(stored[:0], e)
		if _, err := w.Append(stored, block.Records); err != nil {
			b.Fatal(err)
		}
	}
	name, err := w.Finish()
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "x.idx")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := w.WriteIndex(f, name); err != nil {
		b.Fatal(err)
	}
	x, err := pack.OpenIndex(path)
	if err != nil {
		b.Fatal(err)
	}
	rand.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return x, ids
}

// Lookups among a million objects, in no order.
func BenchmarkFind(b *testing.B) {
	x, ids := million(b)
	b.Run("there", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, ok, err := x.Find(&ids[i%len(ids)]); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("not there", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			id := ids[i%len(ids)]
			id[31]++
			if _, ok, err := x.Find(&id); ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}
