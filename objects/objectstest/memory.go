// Package objectstest has a store of objects in memory, for tests.
package objectstest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
)

// Memory holds objects. It can all that stores can, may be used concurrently,
// and the zero Memory is empty.
type Memory struct {
	mu    sync.Mutex
	kinds map[objects.ID]objects.Kind
	body  map[objects.ID][]byte
	reads int
	bases map[objects.ID]objects.ID
	puts  int
}

// Open implements objects.Reader.
func (m *Memory) Open(ctx context.Context, id objects.ID) (objects.Object, error) {
	k, body, err := m.ReadBytes(ctx, id)
	return objects.Object{Kind: k, Size: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}, err
}

// ReadBytes implements objects.BytesReader.
func (m *Memory) ReadBytes(ctx context.Context, id objects.ID) (objects.Kind, []byte, error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if k, ok := m.kinds[id]; ok {
		return k, m.body[id], nil
	}
	return 0, nil, fmt.Errorf("%s: %w", id, objects.ErrNotFound)
}

// Stat returns the kind and size of an object.
func (m *Memory) Stat(ctx context.Context, id objects.ID) (objects.Kind, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.kinds[id]; ok {
		return k, int64(len(m.body[id])), nil
	}
	return 0, 0, fmt.Errorf("%s: %w", id, objects.ErrNotFound)
}

// Missing implements objects.Prober.
func (m *Memory) Missing(_ context.Context, ids []objects.ID) ([]objects.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var missing []objects.ID
	for _, id := range ids {
		if _, ok := m.kinds[id]; !ok {
			missing = append(missing, id)
		}
	}
	return missing, nil
}

// Put implements objects.Writer.
func (m *Memory) Put(_ context.Context, k objects.Kind, size int64, body io.Reader) (objects.ID, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return objects.ID{}, err
	}
	if int64(len(b)) != size {
		return objects.ID{}, fmt.Errorf("body has %d bytes, announced were %d", len(b), size)
	}
	return m.PutBytes(k, b)
}

// PutBytes keeps an object.
func (m *Memory) PutBytes(k objects.Kind, body []byte) (objects.ID, error) {
	id := objects.Sum(k, body)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kinds == nil {
		m.kinds = map[objects.ID]objects.Kind{}
		m.body = map[objects.ID][]byte{}
		m.bases = map[objects.ID]objects.ID{}
	}
	m.puts++
	m.kinds[id], m.body[id] = k, bytes.Clone(body)
	return id, nil
}

// PutTree keeps a tree and remembers its base.
func (m *Memory) PutTree(body []byte, base objects.ID) (objects.ID, error) {
	id, err := m.PutBytes(objects.Tree, body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bases[id] = base
	return id, err
}

// Base returns the base that PutTree was given for id.
func (m *Memory) Base(id objects.ID) objects.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bases[id]
}

// Remove takes an object out.
func (m *Memory) Remove(id objects.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kinds, id)
	delete(m.body, id)
}

// Damage keeps body under an id that is not its own.
func (m *Memory) Damage(id objects.ID, k objects.Kind, body []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kinds[id], m.body[id] = k, body
}

// Counts returns how many objects were read and put so far, and forgets it.
func (m *Memory) Counts() (reads, puts int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	reads, puts = m.reads, m.puts
	m.reads, m.puts = 0, 0
	return reads, puts
}
