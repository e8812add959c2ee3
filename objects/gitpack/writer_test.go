package gitpack_test

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/gitpack"
)

// body returns size bytes of which about half compress away.
func body(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(size)))
	b := make([]byte, size)
	for i := range b {
		if i>>10&1 == 0 {
			b[i] = byte(r.Uint32())
		} else {
			b[i] = byte('a' + r.IntN(3))
		}
	}
	return b
}

func opened(k objects.Kind, b []byte) objects.Object {
	return objects.Object{Kind: k, Size: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b))}
}

// Git makes the same index of a pack as this package does, byte for byte, having
// inflated and hashed every object.
func TestGitIndexesThePackAlike(t *testing.T) {
	needGit(t)
	sizes := []int{0, 1, 15, 16, 17, 2047, 2048, 1 << 18, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 3}
	var pack, index bytes.Buffer
	p, err := gitpack.NewWriter(&pack, 2*len(sizes)+1)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range sizes {
		whole, streamed := body(size, 1), append(body(size, 2), 's')
		if err := p.AddBytes(objects.Sum(objects.Blob, whole), objects.Blob, whole); err != nil {
			t.Fatal(err)
		}
		if err := p.Add(objects.Sum(objects.Blob, streamed), opened(objects.Blob, streamed)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.AddBytes(objects.EmptyTree, objects.Tree, nil); err != nil {
		t.Fatal(err)
	}
	sum, err := p.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WriteIndex(&index); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	git(t, dir, "init", "-q", "--object-format=sha256", ".")
	if out, err := tryGit(dir, &pack, "index-pack", "--stdin", "--strict"); err != nil {
		t.Fatalf("git index-pack: %v\n%s", err, out)
	}
	name := fmt.Sprintf(".git/objects/pack/pack-%x.idx", sum)
	want, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(index.Bytes(), want) {
		t.Error("the index differs from git's")
	}
	x, err := gitpack.OpenIndex(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if got := x.Len(); got != 2*len(sizes)+1 {
		t.Errorf("Len() = %d, want %d", got, 2*len(sizes)+1)
	}
	for _, size := range sizes {
		if id := objects.Sum(objects.Blob, body(size, 1)); !x.Has(id) {
			t.Errorf("Has(%s) = false, size %d", id, size)
		}
	}
	if id := objects.Sum(objects.Blob, []byte("absent")); x.Has(id) {
		t.Errorf("Has(%s) = true", id)
	}
}

func TestBadPacksAreErrors(t *testing.T) {
	b := []byte("body")
	id := objects.Sum(objects.Blob, b)
	damaged := objects.Object{Kind: objects.Blob, Size: 4, Body: io.NopCloser(io.MultiReader(bytes.NewReader(b), failing{}))}
	short, long := opened(objects.Blob, b), opened(objects.Blob, b)
	short.Size, long.Size = 5, 3
	for _, tt := range []struct {
		name  string
		count int
		add   func(p *gitpack.Writer) error
	}{
		{"too few", 2, func(p *gitpack.Writer) error { return p.AddBytes(id, objects.Blob, b) }},
		{"too many", 0, func(p *gitpack.Writer) error { return p.AddBytes(id, objects.Blob, b) }},
		{"twice", 2, func(p *gitpack.Writer) error {
			return errors.Join(p.AddBytes(id, objects.Blob, b), p.AddBytes(id, objects.Blob, b))
		}},
		{"short body", 1, func(p *gitpack.Writer) error { return p.Add(id, short) }},
		{"long body", 1, func(p *gitpack.Writer) error { return p.Add(id, long) }},
		{"damaged at its end", 1, func(p *gitpack.Writer) error { return p.Add(id, damaged) }},
	} {
		p, err := gitpack.NewWriter(io.Discard, tt.count)
		if err != nil {
			t.Fatal(err)
		}
		_ = tt.add(p) // seen again below
		if _, err = p.Close(); err == nil {
			err = p.WriteIndex(io.Discard)
		}
		if err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, &objects.DamagedError{Reason: "test"} }

// A writer that fails once has failed for good: a later success would hide that
// bytes are missing.
func TestFailedWriteStays(t *testing.T) {
	out := &failOnce{at: 2}
	p, err := gitpack.NewWriter(out, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		b := []byte{byte(i)}
		if err := p.AddBytes(objects.Sum(objects.Blob, b), objects.Blob, b); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("AddBytes %d = %v, want %v", i, err, io.ErrShortWrite)
		}
	}
	if _, err := p.Close(); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Close() = %v, want %v", err, io.ErrShortWrite)
	}
}

type failOnce struct{ n, at int }

func (w *failOnce) Write(b []byte) (int, error) {
	if w.n++; w.n == w.at {
		return len(b) / 2, io.ErrShortWrite
	}
	return len(b), nil
}

func TestStreamedBodyInflates(t *testing.T) {
	want := body(3<<20+7, 9)
	var pack bytes.Buffer
	p, err := gitpack.NewWriter(&pack, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Add(objects.Sum(objects.Blob, want), opened(objects.Blob, want)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Close(); err != nil {
		t.Fatal(err)
	}
	rest := pack.Bytes()[12:]
	for rest[0]&0x80 != 0 {
		rest = rest[1:]
	}
	z, err := zlib.NewReader(bytes.NewReader(rest[1:]))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, want) {
		t.Errorf("inflated %d bytes, %v, want the %d that went in", len(got), err, len(want))
	}
}

func BenchmarkAddBytes(b *testing.B) {
	const size = 2 << 10 // a small source file
	text := []byte(strings.Repeat("package gitpack // a line of source text\n", 50))[:size]
	p, err := gitpack.NewWriter(io.Discard, 1<<30)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := p.AddBytes(objects.ID{}, objects.Blob, text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAddBig(b *testing.B) {
	const size = 64 << 20
	big := body(size, 3)
	p, err := gitpack.NewWriter(io.Discard, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		if err := p.Add(objects.ID{}, opened(objects.Blob, big)); err != nil {
			b.Fatal(err)
		}
	}
}
