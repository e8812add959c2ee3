// Package dir keeps a bucket in a directory, which may be on a share that many
// machines mount.
//
//	packs/, indexes/, roots/   the files, immutable
//	root/<seq>-<hash>-<nonce>  one file, whose name says what the root is
//	tmp-…                      pending, in any of these directories
//
// The root is replaced by renaming that one file: of many who try only one
// finds it under the name that they know. It is first made by renaming a
// directory that holds it already to root/, which fails if a root is there:
// a directory with something in it is never replaced.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A Bucket is a remote.Bucket in a directory.
type Bucket struct{ path string }

// Open returns the bucket in the directory called path. It is made when
// something is put into it, but not the directory above: that may be where a
// share was to be mounted.
func Open(path string) *Bucket { return &Bucket{path} }

// rootDir is where the file is whose name says what the root is.
const rootDir = "root"

// rootText is in that file, for people.
const rootText = "The name of this file says which of the files in roots is the current one.\n"

// Get opens n bytes of a file.
func (b *Bucket) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return nil, err
	}
	f, err := os.Open(b.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", b.file(name), remote.ErrNotFound)
	} else if err != nil {
		return nil, err
	}
	return remote.Exactly(section{io.NewSectionReader(f, off, math.MaxInt64-off), f}, n), nil
}

type section struct {
	io.Reader
	io.Closer
}

func (b *Bucket) file(name string) string { return filepath.Join(b.path, filepath.FromSlash(name)) }

// Put keeps a file. When it returns nil, the file survives a power cut.
func (b *Bucket) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return err
	}
	file := b.file(name)
	if err := b.mkdir(filepath.Dir(file)); err != nil {
		return err
	}
	f, err := durable.Create(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer f.Abort()
	n, err := io.Copy(f, &untilCancelled{ctx, io.NewSectionReader(body, 0, size)})
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", file, err)
	}
	return f.CommitAs(file, durable.Synced)
}

// mkdir makes a directory of the bucket, and the bucket.
func (b *Bucket) mkdir(dir string) error {
	if _, err := os.Stat(filepath.Dir(filepath.Clean(b.path))); err != nil {
		return fmt.Errorf("bucket %s: %w", b.path, err)
	}
	return durable.MkdirAll(dir, durable.Synced)
}

// untilCancelled reads as long as somebody is interested.
type untilCancelled struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilCancelled) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// List yields the files in a directory.
func (b *Bucket) List(ctx context.Context, dir string) iter.Seq2[remote.Info, error] {
	return func(yield func(remote.Info, error) bool) {
		if err := errors.Join(ctx.Err(), remote.CheckDir(dir)); err != nil {
			yield(remote.Info{}, err)
			return
		}
		entries, err := os.ReadDir(b.file(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield(remote.Info{}, err)
			return
		}
		for _, e := range entries {
			if !remote.IsBase(e.Name()) || !e.Type().IsRegular() {
				continue
			}
			fi, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				yield(remote.Info{}, err)
				return
			}
			if !yield(remote.Info{Name: dir + "/" + e.Name(), Size: fi.Size(), Time: fi.ModTime()}, nil) {
				return
			}
		}
	}
}

// Delete removes a file.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return err
	}
	if err := durable.Remove(b.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Tidy removes files that were never put whole, as somebody left them who was killed.
// On a share the age is by this machine's clock.
func (b *Bucket) Tidy(ctx context.Context, age time.Duration) error {
	for _, dir := range remote.Dirs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := durable.RemoveStale(b.file(dir), age); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Root returns the root.
func (b *Bucket) Root(ctx context.Context) (remote.Root, error) {
	const tries = 100
	for try := range tries {
		if err := ctx.Err(); err != nil {
			return remote.Root{}, err
		}
		roots, err := b.roots()
		if errors.Is(err, fs.ErrNotExist) {
			return remote.Root{}, nil
		} else if err != nil {
			return remote.Root{}, err
		}
		if len(roots) == 1 {
			return roots[0], nil
		}
		// A directory that is read while a file in it gets another name may show
		// it under both, or under none.
		time.Sleep(time.Duration(try) * time.Millisecond / 4)
	}
	return remote.Root{}, fmt.Errorf("%s: damaged: it should hold one file, named after the root", b.file(rootDir))
}

func (b *Bucket) roots() ([]remote.Root, error) {
	entries, err := os.ReadDir(b.file(rootDir))
	if err != nil {
		return nil, err
	}
	var roots []remote.Root
	for _, e := range entries {
		if r, err := remote.ParseRoot(e.Name()); err == nil {
			roots = append(roots, r)
		}
	}
	return roots, nil
}

// Swap replaces the root. When it returns nil, that survives a power cut.
func (b *Bucket) Swap(ctx context.Context, old, next remote.Root) error {
	if err := errors.Join(ctx.Err(), remote.CheckSwap(old, next)); err != nil {
		return err
	}
	var err error
	if old.IsZero() {
		err = b.makeRoot(next)
	} else {
		err = durable.Rename(b.rootFile(old), b.rootFile(next), durable.Synced)
	}
	if err == nil {
		return nil
	}
	// On a share a rename can be done and still reported as failed.
	is, reading := b.Root(context.WithoutCancel(ctx))
	if reading != nil {
		return fmt.Errorf("%w; and what became of it: %w", err, reading)
	}
	if is == next {
		return durable.SyncDir(b.file(rootDir))
	}
	if is != old {
		return fmt.Errorf("%s: swap of root %s: %w", b.path, old, remote.ErrLost)
	}
	return err
}

func (b *Bucket) rootFile(r remote.Root) string { return filepath.Join(b.path, rootDir, r.String()) }

// makeRoot makes the first root. The error says little: others may have been
// faster.
func (b *Bucket) makeRoot(r remote.Root) error {
	pending := filepath.Join(b.path, fmt.Sprintf("%s%016x", remote.Pending, r.Nonce))
	if err := b.mkdir(pending); err != nil {
		return err
	}
	err := durable.WriteFile(filepath.Join(pending, r.String()), []byte(rootText), durable.Synced)
	if err == nil {
		err = durable.Rename(pending, b.file(rootDir), durable.Synced)
	}
	if err != nil {
		_ = durable.Remove(filepath.Join(pending, r.String()))
		_ = durable.RemoveDir(pending)
	}
	return err
}
