package remotetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// Memory is a bucket without files. Its zero value is empty.
type Memory struct {
	mu    sync.Mutex
	files map[string]file // guarded by mu
	root  remote.Root     // guarded by mu
}

type file struct {
	data []byte
	time time.Time
}

// Snapshot returns a bucket that is what this one is now.
func (m *Memory) Snapshot() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{files: maps.Clone(m.files), root: m.root}
}

// Age makes all files older.
func (m *Memory) Age(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, f := range m.files {
		m.files[name] = file{f.data, f.time.Add(-d)}
	}
}

// Damage changes the byte of a file at an offset.
func (m *Memory) Damage(name string, off int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	f.data = bytes.Clone(f.data)
	f.data[off] ^= 1
	m.files[name] = f
}

// Get opens n bytes of a file.
func (m *Memory) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.files[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, remote.ErrNotFound)
	}
	data := f.data[min(off, int64(len(f.data))):]
	return remote.Exactly(io.NopCloser(bytes.NewReader(data)), n), nil
}

// Put keeps a file.
func (m *Memory) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(body, 0, math.MaxInt64), data); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files == nil {
		m.files = map[string]file{}
	}
	m.files[name] = file{data, time.Now()}
	return nil
}

// List yields the files in a directory.
func (m *Memory) List(ctx context.Context, dir string) iter.Seq2[remote.Info, error] {
	return func(yield func(remote.Info, error) bool) {
		if err := errors.Join(ctx.Err(), remote.CheckDir(dir)); err != nil {
			yield(remote.Info{}, err)
			return
		}
		m.mu.Lock()
		all := maps.Clone(m.files)
		m.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(all)) {
			f := all[name]
			if strings.HasPrefix(name, dir+"/") && !yield(remote.Info{Name: name, Size: int64(len(f.data)), Time: f.time}, nil) {
				return
			}
		}
	}
}

// Delete removes a file.
func (m *Memory) Delete(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

// Root returns the root.
func (m *Memory) Root(ctx context.Context) (remote.Root, error) {
	if err := ctx.Err(); err != nil {
		return remote.Root{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.root, nil
}

// Swap replaces the root.
func (m *Memory) Swap(ctx context.Context, old, next remote.Root) error {
	if err := errors.Join(ctx.Err(), remote.CheckSwap(old, next)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root != old {
		return fmt.Errorf("swap of root %s: %w", old, remote.ErrLost)
	}
	m.root = next
	return nil
}
