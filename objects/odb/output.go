package odb

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// An output is a pack that is being written. Its file is made for the first
// block.
type output struct {
	dir string

	mu    sync.Mutex
	file  *durable.File
	w     *pack.Writer
	index *durable.File
	name  objects.ID // once finished
}

func (p *output) started() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w != nil
}

func (p *output) writer() (*pack.Writer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil {
		f, err := durable.Create(p.dir)
		if err != nil {
			return nil, err
		}
		p.file, p.w = f, pack.NewWriter(f)
	}
	return p.w, nil
}

// finish ends the pack and writes its index.
func (p *output) finish() (err error) {
	if p.name, err = p.w.Finish(); err != nil {
		return err
	}
	if p.index, err = durable.Create(p.dir); err != nil {
		return err
	}
	return p.w.WriteIndex(p.index, p.name)
}

// path returns what the finished pack will be called, without extension.
func (p *output) path(d Durability) string {
	base := p.name.String()
	if d == Staged {
		base = newPrefix + bootID() + "-" + base
	}
	return filepath.Join(p.dir, base)
}

// publish gives the pack its name, the index first: whoever sees a pack finds
// its index.
func (p *output) publish(d Durability) error {
	path := p.path(d)
	if err := p.index.CommitAs(path+indexExt, durable.NoSync); err != nil {
		return err
	}
	return p.file.CommitAs(path+packExt, durable.NoSync)
}

func (p *output) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		p.file.Abort()
	}
	if p.index != nil {
		p.index.Abort()
	}
}

// read decodes a block that was written.
func (p *output) read(n int, d *pack.Data) error {
	info := p.w.Block(n)
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	if cap(*buf) < info.Size() {
		*buf = make([]byte, info.Size())
	}
	stored := (*buf)[:info.Size()]
	if _, err := p.file.ReadAt(stored, info.Offset); err != nil {
		return err
	}
	return d.Decode(stored)
}

// An openBlock is a block of a batch. Once it is written, only its number is
// left of it.
type openBlock struct {
	b     *Batch
	to    *output
	level compress.Level
	lane  bool // its memory goes back to the lanes

	mu     sync.Mutex
	block  *pack.Block // nil once written
	number int
}

// write compresses the block and appends it to its pack.
func (o *openBlock) write() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.block == nil || len(o.block.Records) == 0 {
		return nil
	}
	w, err := o.to.writer()
	if err != nil {
		return o.b.fail(err)
	}
	p := o.b.press(o.level, o.block.Len())
	p.out = o.block.AppendTo(p.out[:0], p.encoder)
	o.number, err = w.Append(p.out, o.block.Records)
	o.b.letGo(p)
	if err != nil {
		return o.b.fail(fmt.Errorf("write pack: %w", err))
	}
	if o.lane {
		o.b.giveBack(o.block)
	}
	o.block = nil
	return nil
}

// A press is what compresses a block. A batch uses few of them again and again:
// they are big.
type press struct {
	level   compress.Level
	size    int // it is for blocks of about so many bytes
	encoder *compress.Encoder
	out     []byte
}

func (b *Batch) press(l compress.Level, size int) *press {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, p := range b.presses {
		if p.level == l && (p.size > bigPress) == (size > bigPress) {
			b.presses = slices.Delete(b.presses, i, i+1)
			return p
		}
	}
	return &press{level: l, size: size, encoder: compress.GetEncoder(l, size)}
}

// bigPress is the size from which on blocks have presses of their own.
const bigPress = 2 << 20

func (b *Batch) letGo(p *press) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.presses = append(b.presses, p)
}

// record returns a copy of record i if it is still in memory and has this id,
// else the number of the block to look into.
func (o *openBlock) record(i int, id objects.ID) (t pack.Type, body []byte, written int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.block == nil {
		return 0, nil, o.number
	}
	if i >= len(o.block.Records) || o.block.Records[i].ID != id {
		return 0, nil, -1
	}
	return o.block.Records[i].Type, bytes.Clone(o.block.Body(i)), -1
}

// written returns the number of the block in its pack, if it is there.
func (o *openBlock) written() (n int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.number, o.block == nil
}

// A filler fills block after block with objects that many goroutines bring.
type filler struct {
	b    *Batch
	to   *output
	size int // of a block

	mu   sync.Mutex
	open *openBlock
}

func (f *filler) put(r pack.Record, body []byte) error {
	full, err := f.add(r, body)
	if err != nil || full == nil {
		return err
	}
	return full.write()
}

// add returns the block if it is full now.
func (f *filler) add(r pack.Record, body []byte) (full *openBlock, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = &openBlock{b: f.b, to: f.to, level: f.b.o.Level, block: new(pack.Block)}
	}
	o := f.open
	o.mu.Lock()
	defer o.mu.Unlock()
	if fresh, err := f.b.claim(o, &r); !fresh || err != nil {
		return nil, err
	}
	copy(o.block.Space(len(body)), body)
	o.block.Add(r)
	if o.block.Len() < f.size {
		return nil, nil
	}
	f.open = nil
	return o, nil
}
