package pack_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// item is a record with its body.
type item struct {
	t    pack.Type
	body []byte
}

func (i item) id() objects.ID {
	id, err := pack.RecordID(i.t, i.body)
	if err != nil {
		panic(err)
	}
	return id
}

func noise(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// build writes a pack with one block for each of blocks.
func build(t testing.TB, blocks ...[]item) (packed, index []byte, name objects.ID) {
	t.Helper()
	var out, idx bytes.Buffer
	w := pack.NewWriter(&out)
	e := compress.GetEncoder(compress.Default, 64<<10)
	defer compress.PutEncoder(e)
	for _, items := range blocks {
		var b pack.Block
		for _, i := range items {
			copy(b.Space(len(i.body)), i.body)
			b.Add(pack.Record{ID: i.id(), Type: i.t, Size: uint32(len(i.body))})
		}
		if _, err := w.Append(b.AppendTo(nil, e), b.Records); err != nil {
			t.Fatal(err)
		}
	}
	name, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteIndex(&idx, name); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), idx.Bytes(), name
}

// sample is one of everything.
func sample() [][]item {
	id := objects.Sum(objects.Blob, []byte("x"))
	return [][]item{
		{
			{pack.Blob, nil},
			{pack.Blob, []byte("hello")},
			{pack.Blob, bytes.Repeat([]byte("text "), 1000)},
			{pack.Chunk, []byte("hello")}, // not the blob
		},
		{{pack.Blob, noise(1, 5000)}},
		{
			{pack.Tree, objects.Entries{{Mode: objects.ModeFile, Name: "a", ID: id}}.Encode()},
			{pack.Commit, []byte("tree …")},
			{pack.Tag, []byte("object …")},
			{pack.Recipe, pack.AppendRecipe(nil, id, 30, []pack.Piece{{ID: id, Size: 10}, {ID: id, Size: 20}})},
			{pack.Delta, append(append([]byte{1}, make([]byte, 63)...), 5<<3)},
		},
	}
}

// file writes p to a file and opens it as a pack.
func file(t testing.TB, p []byte) *pack.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.pack")
	if err := os.WriteFile(name, p, 0o666); err != nil {
		t.Fatal(err)
	}
	return pack.NewFile(name)
}

// get reads one record as a reader does.
func get(f *pack.File, x *pack.Index, id objects.ID) (item, error) {
	e, ok, err := x.Find(&id)
	if err != nil {
		return item{}, err
	}
	if !ok {
		return item{}, objects.ErrNotFound
	}
	n, err := x.BlockOf(e.Record)
	if err != nil {
		return item{}, err
	}
	b, err := x.Block(n)
	if err != nil {
		return item{}, err
	}
	var d pack.Data
	if _, err := f.Read(b, &d, nil); err != nil {
		return item{}, err
	}
	i := int(e.Record - b.First)
	if i >= d.Len() {
		return item{}, fmt.Errorf("record %d of %d", i, d.Len())
	}
	got, body := d.Record(i)
	if got != e.Type || len(body) != int(e.Size) {
		return item{}, errors.New("index and block differ")
	}
	return item{got, body}, nil
}

func TestRoundTrip(t *testing.T) {
	packed, index, name := build(t, sample()...)
	f := file(t, packed)
	x, err := pack.ParseIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Check(); err != nil {
		t.Error(err)
	}
	if x.Name() != name || x.PackSize() != int64(len(packed)) || x.Blocks() != 3 || x.Len() != 10 {
		t.Errorf("index of %s, %d bytes, %d blocks, %d ids", x.Name(), x.PackSize(), x.Blocks(), x.Len())
	}
	if meta, data := x.Holds(); !meta || !data {
		t.Errorf("Holds = %v, %v", meta, data)
	}
	for _, items := range sample() {
		for _, want := range items {
			got, err := get(f, x, want.id())
			if err != nil || got.t != want.t || !bytes.Equal(got.body, want.body) {
				t.Errorf("%s of %d bytes: got %s of %d, %v", want.t, len(want.body), got.t, len(got.body), err)
			}
		}
	}
	if _, err := get(f, x, objects.ID{2}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("unknown id: %v", err)
	}
	if got, err := pack.CheckSum(f, int64(len(packed))); err != nil || got != name {
		t.Errorf("CheckSum = %s, %v, want %s", got, err, name)
	}
	var rebuilt bytes.Buffer
	damaged, err := pack.Rebuild(&rebuilt, f, int64(len(packed)), name)
	if damaged != nil || err != nil || !bytes.Equal(rebuilt.Bytes(), index) {
		t.Errorf("rebuilt index differs: %v, %v", damaged, err)
	}
}

// The format must not change unless its version does. Incompressible records
// make this independent of how well zstd does its work.
func TestFormatIsPinned(t *testing.T) {
	packed, index, name := build(t, []item{{pack.Blob, []byte("hello")}, {pack.Chunk, nil}})
	want := "4354504b 00000001" + // CTPK, version
		"42 00 0000 00000002 00000002 00000005 00000005" + // a block, raw: 2 records, lengths of table and payload
		"53 09" + "68656c6c6f" + "8f07b3c6" + // 5<<4 | 3, 0<<4 | 9; payload; checksum
		"45 000000 00000001 0000000000000002" + name.String()
	if got := hex.EncodeToString(packed); got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("pack is\n%s, want\n%s", got, want)
	}
	head := "43544958" + "00000001" + "00000002" + "00000002" + "00000001" + fmt.Sprintf("%016x", len(packed)) + name.String()
	if got := hex.EncodeToString(index); !strings.HasPrefix(got, head) || len(index) != 60+1024+4+2*40+24+32 {
		t.Errorf("index of %d bytes is\n%s, want\n%s…", len(index), got[:len(head)], head)
	}
	if id := objects.Sum(objects.Blob, []byte("hello")); !bytes.Contains(index, id[:]) {
		t.Errorf("index lacks the blob")
	}
}

func TestNewerVersion(t *testing.T) {
	packed, index, name := build(t, sample()...)
	newer := func(p []byte) []byte {
		p = bytes.Clone(p)
		binary.BigEndian.PutUint32(p[4:], 2)
		p[9] ^= 1 // what follows differs too: else it is our own with a damaged version
		return p
	}
	_, sumErr := pack.CheckSum(bytes.NewReader(newer(packed)), int64(len(packed)))
	_, rebuildErr := pack.Rebuild(new(bytes.Buffer), bytes.NewReader(newer(packed)), int64(len(packed)), name)
	_, indexErr := pack.ParseIndex(newer(index))
	for what, err := range map[string]error{"checksum": sumErr, "rebuild": rebuildErr, "index": indexErr} {
		if v := new(pack.VersionError); !errors.As(err, &v) || v.Version != 2 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whichever bit is damaged, all blocks but the one that it is in are salvaged.
func TestSalvage(t *testing.T) {
	blocks := sample()
	packed, _, name := build(t, blocks...)
	for bit := 0; bit < 8*len(packed); bit += 1 + bit/97 {
		p := bytes.Clone(packed)
		p[bit/8] ^= 1 << (bit % 8)
		n := 0
		err := pack.Salvage(bytes.NewReader(p), int64(len(p)), name, func(pack.BlockInfo, *pack.Data) error { n++; return nil })
		if err != nil || n < len(blocks)-1 {
			t.Errorf("bit %d: %d blocks of %d, %v", bit, n, len(blocks), err)
		}
	}
	newer := bytes.Clone(packed)
	newer[7], newer[len(newer)/2] = 2, newer[len(newer)/2]^1
	err := pack.Salvage(bytes.NewReader(newer), int64(len(newer)), name, nil)
	if !errors.As(err, new(*pack.VersionError)) {
		t.Errorf("of a later version: %v", err)
	}
}

// A tree that others are deltas of must stay whole.
func TestIndexPrefersWholeTrees(t *testing.T) {
	tree := item{pack.Tree, objects.Entries{{Mode: objects.ModeFile, Name: "a", ID: objects.ID{9}}}.Encode()}
	id := tree.id()
	delta := item{pack.Delta, append(id[:], make([]byte, 32)...)}
	_, index, _ := build(t, []item{delta, tree, delta})
	x, err := pack.ParseIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok, err := x.Find(&id); !ok || err != nil || e.Type != pack.Tree || x.Len() != 1 {
		t.Errorf("Find = %+v, %v, %v", e, ok, err)
	}
}

func TestFind(t *testing.T) {
	for _, n := range []int{0, 1, 2, 16, 17, 1000, 100_000} {
		var block []item
		for i := range n {
			block = append(block, item{pack.Blob, binary.BigEndian.AppendUint32(nil, uint32(i))})
		}
		var blocks [][]item
		if n > 0 {
			blocks = append(blocks, block)
		}
		_, index, _ := build(t, blocks...)
		x, err := pack.ParseIndex(index)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range block {
			id := want.id()
			if e, ok, err := x.Find(&id); !ok || err != nil || e.Record != uint32(i) {
				t.Fatalf("%d of %d: %+v, %v, %v", i, n, e, ok, err)
			}
			id[31]++
			if _, ok, _ := x.Find(&id); ok {
				t.Fatalf("found what is not there")
			}
		}
		others := noise(1, 2000*objects.IDSize)
		for ; len(others) > 0; others = others[objects.IDSize:] {
			id := objects.ID(others[:objects.IDSize])
			if _, ok, err := x.Find(&id); ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		for _, id := range []objects.ID{{}, objects.ID(bytes.Repeat([]byte{0xff}, 32))} {
			if _, ok, err := x.Find(&id); ok || err != nil {
				t.Errorf("Find(%s) = %v, %v", id, ok, err)
			}
		}
	}
}

// Ids that somebody has chosen are not evenly spread.
func TestFindAmongChosenIDs(t *testing.T) {
	chosen := func(i int) (id objects.ID) {
		binary.BigEndian.PutUint32(id[28:], uint32(i*i))
		if i%3 == 0 {
			binary.BigEndian.PutUint16(id[1:], uint16(i))
		}
		return id
	}
	var block []item
	for i := range 5000 {
		block = append(block, item{pack.Recipe, pack.AppendRecipe(nil, chosen(i+1), 0, nil)})
	}
	_, index, _ := build(t, block)
	x, err := pack.ParseIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	for i := range block {
		id := chosen(i + 1)
		if e, ok, err := x.Find(&id); !ok || err != nil || e.Record != uint32(i) {
			t.Fatalf("%d: %+v, %v, %v", i, e, ok, err)
		}
		id[31]++
		if _, ok, _ := x.Find(&id); ok {
			t.Fatalf("found what is not there")
		}
	}
}

// What is flipped in a pack is never taken for what was there.
func TestFlippedPack(t *testing.T) {
	packed, index, _ := build(t, sample()...)
	x, err := pack.ParseIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	want := map[objects.ID]item{}
	for _, items := range sample() {
		for _, i := range items {
			want[i.id()] = i
		}
	}
	for range 2000 {
		bad := bytes.Clone(packed)
		at := r.IntN(len(bad))
		bad[at] ^= 1 << r.IntN(8)
		if _, err := pack.CheckSum(bytes.NewReader(bad), int64(len(bad))); err == nil {
			t.Errorf("bit at %d: CheckSum is content", at)
		}
		_ = pack.Scan(bytes.NewReader(bad), int64(len(bad)), func(_ pack.BlockInfo, d *pack.Data, err error) error {
			for i := 0; err == nil && i < d.Len(); i++ {
				got, body := d.Record(i)
				if id, err := pack.RecordID(got, body); err != nil || !bytes.Equal(want[id].body, body) {
					t.Errorf("bit at %d: %s of %d bytes", at, got, len(body))
				}
			}
			return nil
		})
		var d pack.Data
		for n := range x.Blocks() {
			b, err := x.Block(n)
			if err != nil {
				t.Fatal(err)
			}
			if d.Decode(bad[b.Offset:b.Offset+int64(b.Size())]) == nil && at >= int(b.Offset) && at < int(b.Offset)+b.Size() {
				t.Errorf("bit at %d: block %d decodes", at, n)
			}
		}
	}
}

// A flipped index leads astray at most, and Check sees it.
func TestFlippedIndex(t *testing.T) {
	packed, index, _ := build(t, sample()...)
	f := file(t, packed)
	r := rand.New(rand.NewPCG(2, 1))
	for range 2000 {
		bad := bytes.Clone(index)
		at := r.IntN(len(bad))
		bad[at] ^= 1 << r.IntN(8)
		x, err := pack.ParseIndex(bad)
		if err != nil {
			continue
		}
		if at < 60+1024+4 {
			t.Errorf("bit at %d of the head: no error", at)
		}
		if x.Check() == nil {
			t.Errorf("bit at %d: Check is content", at)
		}
		for _, items := range sample() {
			for _, want := range items {
				got, err := get(f, x, want.id())
				if err == nil && got.id() == want.id() && !bytes.Equal(got.body, want.body) {
					t.Errorf("bit at %d: wrong bytes", at)
				}
			}
		}
		for range x.All() {
		}
	}
}

func TestTruncated(t *testing.T) {
	packed, index, name := build(t, sample()...)
	for n := range len(packed) {
		cut := packed[:n]
		if _, err := pack.CheckSum(bytes.NewReader(cut), int64(n)); !errors.Is(err, pack.ErrBadPack) {
			t.Errorf("pack of %d bytes: CheckSum: %v", n, err)
		}
		damaged, err := pack.Rebuild(new(bytes.Buffer), bytes.NewReader(cut), int64(n), name)
		if damaged == nil || err != nil {
			t.Errorf("pack of %d bytes: rebuilt with %v, %v", n, damaged, err)
		}
	}
	for n := range len(index) {
		if _, err := pack.ParseIndex(index[:n]); !errors.Is(err, pack.ErrBadIndex) {
			t.Errorf("index of %d bytes: %v", n, err)
		}
	}
}

// A mapped file that is cut short under its reader must not kill the process.
func TestIndexCutWhileMapped(t *testing.T) {
	var block []item
	for i := range 20_000 {
		block = append(block, item{pack.Blob, binary.BigEndian.AppendUint32(nil, uint32(i))})
	}
	_, index, _ := build(t, block)
	name := filepath.Join(t.TempDir(), "x.idx")
	if err := os.WriteFile(name, index, 0o666); err != nil {
		t.Fatal(err)
	}
	x, err := pack.OpenIndex(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 4096); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, i := range block {
		id := i.id()
		if _, _, err := x.Find(&id); errors.Is(err, pack.ErrBadIndex) {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no lookup failed")
	}
	if err := x.Check(); !errors.Is(err, pack.ErrBadIndex) {
		t.Errorf("Check: %v", err)
	}
	if _, err := x.Block(0); !errors.Is(err, pack.ErrBadIndex) {
		t.Errorf("Block: %v", err)
	}
}

func TestBadAppend(t *testing.T) {
	w := pack.NewWriter(new(bytes.Buffer))
	for _, p := range [][]byte{nil, []byte("B"), make([]byte, 100)} {
		if _, err := w.Append(p, nil); !errors.Is(err, pack.ErrBadPack) {
			t.Errorf("Append(%q): %v", p, err)
		}
	}
}

// TestWeigh: a pack that is small and says it is big is known before it is read.
func TestWeigh(t *testing.T) {
	zeros := make([]byte, 32<<20)
	packed, _, _ := build(t, []item{{pack.Blob, []byte("hello")}}, []item{{pack.Blob, zeros}}, []item{{pack.Blob, zeros[:1000]}})
	m, err := pack.Weigh(bytes.NewReader(packed), int64(len(packed)))
	if err != nil || m.Raw != 5+32<<20+1000 || m.Largest < 32<<20 || m.Largest > 32<<20+len(packed) {
		t.Errorf("%+v, %v, of %d bytes", m, err, len(packed))
	}
	for _, bad := range [][]byte{nil, []byte("CTPK"), packed[:40], append([]byte("x"), packed...), append(packed[:8:8], make([]byte, 200)...)} {
		if _, err := pack.Weigh(bytes.NewReader(bad), int64(len(bad))+100); !errors.Is(err, pack.ErrBadPack) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func FuzzWeigh(f *testing.F) {
	packed, _, _ := build(f, sample()...)
	f.Add(packed)
	f.Fuzz(func(t *testing.T, p []byte) {
		m, weighed := pack.Weigh(bytes.NewReader(p), int64(len(p)))
		raw := int64(0)
		scanned := pack.Scan(bytes.NewReader(p), int64(len(p)), func(b pack.BlockInfo, _ *pack.Data, _ error) error {
			raw += int64(b.Raw)
			return nil
		})
		if scanned == nil && (weighed != nil || m.Raw != raw) {
			t.Errorf("weighs %+v, %v; has %d bytes", m, weighed, raw)
		}
	})
}
