package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A cache keeps on this machine what was read of a bucket, or written to it, and
// never changes there:
//
//	HASH.idx    an index
//	HASH.head   the head of one that was not read as a whole
//	root        the root that was current last, LF, and its file
//
// It may be lost, damaged or behind at any time. Whoever pushes proves an index of
// it first: what is missing must be sent. Whoever fetches reads the bucket itself
// when something is not found. The zero cache keeps nothing.
type cache struct{ dir string }

// KeepIn has indexes and the last root kept in a directory, which any number of
// processes may share, and is for this bucket alone. It comes before all else.
func (r *Remote) KeepIn(dir string) { r.cache = cache{dir} }

func (c cache) path(name string) string { return filepath.Join(c.dir, name) }

// read returns a file, of at most so many bytes; nil if it is not there.
func (c cache) read(name string, most int64) []byte {
	if c.dir == "" {
		return nil
	}
	f, err := os.Open(c.path(name))
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil || int64(len(data)) > most {
		return nil
	}
	return data
}

// write keeps a file, if it can.
func (c cache) write(name string, data []byte) {
	if c.dir == "" || durable.MkdirAll(c.dir, durable.NoSync) != nil {
		return
	}
	_ = durable.WriteFile(c.path(name), data, durable.NoSync)
}

func indexName(info IndexInfo) string { return info.Hash.String() + ".idx" }
func headName(info IndexInfo) string  { return info.Hash.String() + ".head" }

// rootName is the file with the last root.
const rootName = "root"

// open returns an index; nil if it is not there as a whole.
func (c cache) open(info IndexInfo) *os.File {
	if c.dir == "" {
		return nil
	}
	f, err := os.Open(c.path(indexName(info)))
	if err != nil {
		return nil
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != info.Size {
		f.Close()
		return nil
	}
	return f
}

// forget drops an index, which is damaged.
func (c cache) forget(info IndexInfo) {
	for _, name := range []string{indexName(info), headName(info)} {
		_ = os.Remove(c.path(name))
	}
}

// prune drops the indexes that a root does not name.
func (c cache) prune(s *State) {
	if c.dir == "" {
		return
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		hash, ext, _ := strings.Cut(e.Name(), ".")
		isIndex := ext == "idx" || ext == "head"
		if isIndex && !slices.ContainsFunc(s.Indexes, func(x IndexInfo) bool { return x.Hash.String() == hash }) {
			_ = os.Remove(c.path(e.Name()))
		}
	}
}

// keepRoot keeps a root, with what its file says.
func (c cache) keepRoot(root remote.Root, data []byte) {
	c.write(rootName, append(append([]byte(root.String()), '\n'), data...))
}

// root returns the root that was kept last.
func (c cache) root() (*view, bool) {
	name, data, ok := bytes.Cut(c.read(rootName, maxState+1<<10), []byte("\n"))
	if !ok {
		return nil, false
	}
	root, err := remote.ParseRoot(string(name))
	if err != nil || sum(data) != root.Hash {
		return nil, false
	}
	s, err := parseState(data)
	if err != nil {
		return nil, false
	}
	return &view{root, s}, true
}

// inMemory is how big an index may be that is held in memory where there is no
// cache to keep it in.
const inMemory = 16 << 20

// whole reads all of an index, and keeps it, unless it is too big. x.mu is held.
func (r *Remote) whole(ctx context.Context, x *index) error {
	if x.info.Size > inMemory && r.cache.dir == "" {
		return nil
	}
	if x.info.Size <= inMemory {
		data, err := r.read(ctx, x.info.file(), 0, x.info.Size)
		if err != nil {
			return err
		}
		if sha256.Sum256(data) != x.info.Hash {
			return badIndex("its bytes do not hash to its name")
		}
		r.cache.write(indexName(x.info), data)
		x.body, x.proven = bytes.NewReader(data), true
		return nil
	}
	body := r.stream(ctx, x.info.file(), 0, x.info.Size)
	defer body.Close()
	f, err := r.cache.copy(x.info, body)
	if f != nil {
		x.body, x.proven = f, true
	}
	return err
}

// copy keeps an index that body brings, and opens it. That it can't be kept is no
// error.
func (c cache) copy(info IndexInfo, body io.Reader) (*os.File, error) {
	if c.dir == "" || durable.MkdirAll(c.dir, durable.NoSync) != nil {
		return nil, nil
	}
	to, err := durable.Create(c.dir)
	if err != nil {
		return nil, nil
	}
	defer to.Abort()
	hash, failed := sha256.New(), error(nil)
	if _, err := io.Copy(io.MultiWriter(hash, writer{to, &failed}), body); err != nil {
		return nil, err
	}
	if objects.ID(hash.Sum(nil)) != info.Hash {
		return nil, badIndex("its bytes do not hash to its name")
	}
	if failed != nil || to.CommitAs(c.path(indexName(info)), durable.NoSync) != nil {
		return nil, nil
	}
	return c.open(info), nil
}

// A writer remembers that it failed, and goes on.
type writer struct {
	io.Writer
	failed *error
}

func (w writer) Write(p []byte) (int, error) {
	if *w.failed == nil {
		_, *w.failed = w.Writer.Write(p)
	}
	return len(p), nil
}

// fromCache returns an index that is kept, or its head; nil if it is not.
func (r *Remote) fromCache(info IndexInfo) *index {
	if f := r.cache.open(info); f != nil {
		head := make([]byte, info.Head)
		if _, err := f.ReadAt(head, 0); err == nil {
			if x, err := newIndex(info, head); err == nil {
				x.body = f
				return x
			}
		}
		f.Close()
		r.cache.forget(info)
	}
	if head := r.cache.read(headName(info), info.Head); int64(len(head)) == info.Head {
		if x, err := newIndex(info, head); err == nil {
			return x
		}
		r.cache.forget(info)
	}
	return nil
}

// bodyFor returns where the spans of an index can be read, nil if that is in the
// bucket; with proof if it is to be believed.
func (r *Remote) bodyFor(ctx context.Context, x *index, spans []span, proof bool) (io.ReaderAt, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if proof && x.body != nil && !x.proven {
		hash := sha256.New()
		_, err := io.Copy(hash, io.NewSectionReader(x.body, 0, x.info.Size))
		if x.proven = err == nil && objects.ID(hash.Sum(nil)) == x.info.Hash; !x.proven {
			r.distrust(x)
		}
	}
	if x.body != nil {
		return x.body, nil
	}
	for _, s := range spans {
		x.asked += int64(s.to-s.from) * entrySize
	}
	var err error
	if x.asked >= x.info.Size/2 {
		err = r.whole(ctx, x)
	}
	return x.body, err
}

// distrust drops a copy of an index that is damaged. x.mu is held.
func (r *Remote) distrust(x *index) {
	r.cache.forget(x.info)
	x.body = nil
}

// reader reads all of an index, on this machine if there is a good copy of it.
func (r *Remote) reader(ctx context.Context, info IndexInfo) (interface {
	io.Reader
	Close()
}, error) {
	x, err := r.index(ctx, info)
	if err != nil {
		return nil, err
	}
	body, err := r.bodyFor(ctx, x, nil, true)
	if body != nil {
		return closer{io.NewSectionReader(body, 0, info.Size)}, nil
	}
	return r.stream(ctx, info.file(), 0, info.Size), err
}

type closer struct{ io.Reader }

func (closer) Close() {}
