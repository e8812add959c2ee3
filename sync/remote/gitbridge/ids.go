package gitbridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// An idMap knows which object of SHA-1 stands for which of SHA-256. It is a function
// of the objects: what is lost of it is computed again.
//
// An object gets into it after all that it leads to. So who is in it need not be
// looked into, as long as the map has lost nothing but all.
//
//	map/<random>.map   tables, of which the newest are small
//	map/lock           held by who adds a table or takes one out
type idMap struct {
	dir   string
	limit int64 // from what size on blobs are cut
	warn  func(error)

	mu     sync.Mutex
	tables []*table       // guarded by mu
	out    map[outKey]oid // guarded by mu; not written yet, as in
	in     map[oid][]row  // guarded by mu
	cuts   map[objects.ID]bool
}

type outKey struct {
	id objects.ID
	as form
}

const (
	// maxFresh is how many rows are kept in memory before they are written.
	maxFresh = 128 << 10

	// maxMerged is how many rows are merged at once, which is done in memory.
	maxMerged = 1 << 20
)

const tableExt = ".map"

func openIDs(dir string, limit int64, warn func(error)) *idMap {
	m := &idMap{dir: filepath.Join(dir, "map"), limit: limit, warn: warn}
	m.forget()
	return m
}

// forget drops what is in memory. It must be called with mu held, or before m is shared.
func (m *idMap) forget() {
	for _, t := range m.tables {
		t.close()
	}
	m.tables, m.out, m.in, m.cuts = nil, map[outKey]oid{}, map[oid][]row{}, map[objects.ID]bool{}
}

// load learns what others have written since. A map that is damaged is taken away.
func (m *idMap) load(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	const tries = 100
	for try := 1; ; try++ {
		err := m.list()
		switch {
		case errors.Is(err, fs.ErrNotExist) && try < tries:
			continue // it was merged with others meanwhile
		case errors.Is(err, errBadTable):
			m.warn(fmt.Errorf("%w: the map is made again", err))
			return m.reset(ctx)
		}
		return err
	}
}

func (m *idMap) list() error {
	names, err := filepath.Glob(filepath.Join(escapeGlob(m.dir), "*"+tableExt))
	if err != nil {
		return err
	}
	var next []*table
	for _, name := range names {
		if i := slices.IndexFunc(m.tables, func(t *table) bool { return t.name == name }); i >= 0 {
			next = append(next, m.tables[i])
			continue
		}
		t, err := openTable(name, m.limit)
		if err != nil {
			return err
		}
		for i := range t.n {
			if r := t.row(i); r.as == cutOff {
				m.cuts[r.id] = true
			}
		}
		m.tables = append(m.tables, t)
		next = append(next, t)
	}
	for _, t := range m.tables {
		if !slices.Contains(next, t) {
			t.close()
		}
	}
	m.tables = next
	return nil
}

// escapeGlob makes a pattern that matches path alone.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// drop takes the map away: it lacks something, and then none of it is to be believed.
func (m *idMap) drop(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reset(ctx)
}

// reset must be called with mu held.
func (m *idMap) reset(ctx context.Context) error {
	lock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	m.forget()
	names, err := filepath.Glob(filepath.Join(escapeGlob(m.dir), "*"+tableExt))
	for _, name := range names {
		if e := durable.Remove(name); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (m *idMap) lock(ctx context.Context) (*durable.Lock, error) {
	if err := durable.MkdirAll(m.dir, durable.NoSync); err != nil {
		return nil, err
	}
	return durable.LockExclusive(ctx, filepath.Join(m.dir, "lock"))
}

// git returns what stands for an object in one of forms, the first that there is.
func (m *idMap) git(id objects.ID, forms ...form) (oid, bool) {
	if id == objects.EmptyTree && slices.Contains(forms, asTree) {
		return emptyTree, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, as := range forms {
		if at, ok := m.out[outKey{id, as}]; ok {
			return at, true
		}
		for _, t := range m.tables {
			if at, ok := t.find(id, as); ok {
				return at, true
			}
		}
	}
	return oid{}, false
}

// ours returns the row that says for what an object of SHA-1 stands, in one of forms.
func (m *idMap) ours(at oid, forms ...form) (found row, ok bool) {
	if at == emptyTree && slices.Contains(forms, asTree) {
		return row{objects.EmptyTree, asTree, at}, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	take := func(r row) bool {
		if slices.Contains(forms, r.as) {
			found, ok = r, true
		}
		return !ok
	}
	for _, r := range m.in[at] {
		if !take(r) {
			return found, ok
		}
	}
	for _, t := range m.tables {
		if !t.from(at, take) {
			break
		}
	}
	return found, ok
}

// withPiece returns the blobs that are known to have a piece.
func (m *idMap) withPiece(at oid) (ids []objects.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	take := func(r row) bool {
		if r.as == piece {
			ids = append(ids, r.id)
		}
		return true
	}
	for _, r := range m.in[at] {
		take(r)
	}
	for _, t := range m.tables {
		t.from(at, take)
	}
	return ids
}

// add adds a row. All that its object leads to must have been added before.
func (m *idMap) add(ctx context.Context, id objects.ID, as form, at oid) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := row{id, as, at}
	if id == objects.EmptyTree || slices.Contains(m.in[at], r) {
		return nil
	}
	m.out[outKey{id, as}] = at
	m.in[at] = append(m.in[at], r)
	if as == cutOff {
		m.cuts[id] = true
	}
	if len(m.in) < maxFresh {
		return nil
	}
	return m.write(ctx)
}

// flush writes what was added.
func (m *idMap) flush(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.write(ctx)
}

// write makes a table of what was added and of tables that are not much bigger, so that
// there are few of them. It must be called with mu held.
func (m *idMap) write(ctx context.Context) error {
	if len(m.in) == 0 {
		return nil
	}
	lock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := durable.RemoveStale(m.dir, time.Hour); err != nil {
		return err
	}
	if err := m.list(); err != nil && !errors.Is(err, errBadTable) {
		return err
	}
	var rows []row
	for _, list := range m.in {
		rows = append(rows, list...)
	}
	var merged []*table
	slices.SortFunc(m.tables, func(a, b *table) int { return a.n - b.n })
	for _, t := range m.tables {
		if t.n > 2*len(rows) || t.n+len(rows) > maxMerged {
			break
		}
		for i := range t.n {
			rows = append(rows, t.row(i))
		}
		merged = append(merged, t)
	}
	slices.SortFunc(rows, compareRows)
	rows = slices.Compact(rows)
	name := filepath.Join(m.dir, fmt.Sprintf("%016x%s", rand.Uint64(), tableExt))
	if err := writeTable(m.dir, name, m.limit, rows); err != nil {
		return err
	}
	m.out, m.in = map[outKey]oid{}, map[oid][]row{}
	for _, t := range merged {
		if err := durable.Remove(t.name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return m.list()
}

// shallow reports whether the server may know a commit as one without parents.
func (m *idMap) shallow(id objects.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cuts[id]
}

// allShallow returns these commits.
func (m *idMap) allShallow() []objects.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []objects.ID
	for id := range m.cuts {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, objects.ID.Compare)
	return ids
}

// close lets go of the tables. What was not written is lost.
func (m *idMap) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
}
