package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

// memory is a store of objects, and of entries, that lasts as long as its test.
type memory struct {
	mu      *sync.Mutex
	objects map[objects.ID]object
	entries map[string]objects.ID

	refuse error // what a new change ends in
}

type object struct {
	kind objects.Kind
	body []byte
}

func newMemory() *memory {
	return &memory{mu: new(sync.Mutex), objects: map[objects.ID]object{}, entries: map[string]objects.ID{}}
}

func (m *memory) PutBytes(k objects.Kind, body []byte) (objects.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := objects.Sum(k, body)
	m.objects[id] = object{k, slices.Clone(body)}
	return id, nil
}

func (m *memory) PutTree(body []byte, _ objects.ID) (objects.ID, error) {
	return m.PutBytes(objects.Tree, body)
}

func (m *memory) Put(_ context.Context, k objects.Kind, size int64, r io.Reader) (objects.ID, error) {
	body, err := io.ReadAll(r)
	if err == nil && int64(len(body)) != size {
		err = errors.New("another size")
	}
	if err != nil {
		return objects.ID{}, err
	}
	return m.PutBytes(k, body)
}

func (m *memory) ReadBytes(_ context.Context, id objects.ID) (objects.Kind, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[id]
	if !ok {
		return 0, nil, fmt.Errorf("%s: %w", id, objects.ErrNotFound)
	}
	if objects.Sum(o.kind, o.body) != id {
		return 0, nil, &objects.DamagedError{ID: id, Reason: "the test wants it so"}
	}
	return o.kind, o.body, nil
}

func (m *memory) Open(ctx context.Context, id objects.ID) (objects.Object, error) {
	k, body, err := m.ReadBytes(ctx, id)
	return objects.Object{Kind: k, Size: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}, err
}

func (m *memory) Stat(ctx context.Context, id objects.ID) (objects.Kind, int64, error) {
	k, body, err := m.ReadBytes(ctx, id)
	return k, int64(len(body)), err
}

func (m *memory) Missing(_ context.Context, ids []objects.ID) (missing []objects.ID, _ error) {
	for _, id := range ids {
		if _, ok := m.objects[id]; !ok {
			missing = append(missing, id)
		}
	}
	return missing, nil
}

func (m *memory) ReadMany(ctx context.Context, ids []objects.ID, o odb.ManyOptions, fn func(int, objects.Kind, []byte) error) error {
	for i, id := range ids {
		k, body, err := m.ReadBytes(ctx, id)
		if err != nil && o.Lost != nil {
			err = o.Lost(i, id, err)
		} else if err == nil {
			err = fn(i, k, body)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Lookup(_ context.Context, kind entry.Kind, key string) (objects.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id, ok := m.entries[entry.Path(kind, key)]; ok {
		return id, nil
	}
	return objects.ID{}, objects.ErrNotFound
}

func (m *memory) Entries(_ context.Context, kind entry.Kind) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		for _, path := range slices.Sorted(maps.Keys(m.entries)) {
			k, key, err := entry.ParsePath(path)
			if k == kind && !yield(Found{key, m.entries[path]}, err) {
				return
			}
		}
	}
}

func (m *memory) Change(context.Context) (Change, error) {
	if m.refuse != nil {
		return nil, m.refuse
	}
	return &memoryChange{memory: m, set: map[string]objects.ID{}}, nil
}

type memoryChange struct {
	*memory
	set map[string]objects.ID
}

func (c *memoryChange) Set(kind entry.Kind, key string, id objects.ID) {
	c.set[entry.Path(kind, key)] = id
}

func (c *memoryChange) Stage(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.entries, c.set)
	return nil
}

func (c *memoryChange) Close() error        { return nil }
func (c *memoryChange) Lane() worktree.Lane { return &memoryLane{m: c.memory} }

type memoryLane struct {
	m    *memory
	room []byte
}

func (l *memoryLane) Space(n int) ([]byte, error) {
	l.room = make([]byte, n)
	return l.room, nil
}

func (l *memoryLane) Add(n int) (objects.ID, error) {
	return l.m.PutBytes(objects.Blob, l.room[:n])
}

func (l *memoryLane) PutReader(ctx context.Context, size int64, r io.Reader) (objects.ID, error) {
	return l.m.Put(ctx, objects.Blob, size, r)
}

func (l *memoryLane) Close() error { return nil }
