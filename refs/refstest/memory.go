package refstest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// Memory is a refs.Store without files. Its zero value is empty.
type Memory struct {
	Who objects.Signature // for the reflogs

	mu   sync.Mutex
	refs map[refs.Name]objects.ID      // guarded by mu
	logs map[refs.Name][]refs.LogEntry // guarded by mu
}

// Get returns what name points to.
func (m *Memory) Get(ctx context.Context, name refs.Name) (objects.ID, error) {
	if err := errors.Join(ctx.Err(), name.Check()); err != nil {
		return objects.ID{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	id, ok := m.refs[name]
	if !ok {
		return id, fmt.Errorf("%s: %w", name, refs.ErrNotFound)
	}
	return id, nil
}

// All yields the refs whose names begin with prefix.
func (m *Memory) All(_ context.Context, prefix string) iter.Seq2[refs.Ref, error] {
	return func(yield func(refs.Ref, error) bool) {
		m.mu.Lock()
		all := maps.Clone(m.refs)
		m.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(string(name), prefix) && !yield(refs.Ref{Name: name, ID: all[name]}, nil) {
				return
			}
		}
	}
}

// Apply makes all updates or none.
func (m *Memory) Apply(ctx context.Context, updates ...refs.Update) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	after := maps.Clone(m.refs)
	if after == nil {
		after = map[refs.Name]objects.ID{}
	}
	seen := map[refs.Name]bool{}
	for _, u := range updates {
		if err := u.Name.Check(); err != nil {
			return err
		}
		if seen[u.Name] {
			return fmt.Errorf("%s: updated twice at once", u.Name)
		}
		seen[u.Name] = true
		if is := m.refs[u.Name]; is != u.Old {
			return &refs.ConflictError{Name: u.Name, Is: is, Expected: u.Old}
		}
		after[u.Name] = u.New
		if u.New.IsZero() {
			delete(after, u.Name)
		}
	}
	for a := range after {
		for b := range after {
			if strings.HasPrefix(string(b), string(a)+"/") {
				return fmt.Errorf("%s: %w: it cannot be beside %s", a, refs.ErrNameTaken, b)
			}
		}
	}
	m.refs = after
	m.log(updates)
	return nil
}

func (m *Memory) log(updates []refs.Update) {
	who := m.Who
	if who.When.IsZero() {
		who.When = time.Now()
	}
	if m.logs == nil {
		m.logs = map[refs.Name][]refs.LogEntry{}
	}
	for _, u := range updates {
		switch {
		case u.New.IsZero():
			delete(m.logs, u.Name)
		case u.New != u.Old:
			m.logs[u.Name] = append(m.logs[u.Name], refs.LogEntry{Old: u.Old, New: u.New, Who: who, Reason: u.Reason})
		}
	}
}

// Log returns the moves of name, oldest first.
func (m *Memory) Log(ctx context.Context, name refs.Name) ([]refs.LogEntry, error) {
	if _, err := m.Get(ctx, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.logs[name]), nil
}
