package trees

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
)

// A Conflict is a path that both sides changed since base, each in its own way.
// An entry without mode says that there is nothing on that side.
type Conflict struct {
	Path               string
	Base, Ours, Theirs objects.Entry
}

// ErrConflict is what MergeOptions.Resolve returns for a conflict that it leaves
// to somebody else.
var ErrConflict = errors.New("conflict")

// MergeOptions say how a merge decides. The zero value takes every file for
// itself and settles nothing.
type MergeOptions struct {
	// Whole reports whether what stands at path is taken whole, from one side or
	// the other, and never put together from both.
	Whole func(path string) bool

	// Same reports whether two things are equal for the purpose of the merge
	// though their ids differ. It is asked only about what is in conflict
	// otherwise.
	Same func(ctx context.Context, a, b objects.Entry) (bool, error)

	// Resolve returns what is to stand at a path in conflict: one of the sides,
	// something new, or an entry without mode for nothing. Its name does not
	// matter.
	Resolve func(ctx context.Context, c Conflict) (objects.Entry, error)
}

// Merge brings together what happened to base in ours and in theirs, and returns
// the resulting root. What one side added, changed or deleted and the other left
// as it was is taken from the first. What both changed, each in its own way, is
// resolved, or stays as it is in ours and is returned as a conflict, in the order
// of the paths. Histories that share nothing have the empty tree for base.
//
// Only trees that differ are read and only new ones are written.
func Merge(ctx context.Context, r objects.Reader, w TreeWriter, base, ours, theirs objects.ID, o MergeOptions) (objects.ID, []Conflict, error) {
	m := merger{r: r, w: w, o: o}
	id, err := m.trees(ctx, "", base, ours, theirs)
	if err != nil {
		return objects.ID{}, nil, err
	}
	if id.IsZero() || id == objects.EmptyTree {
		id, err = w.PutTree(nil, objects.ID{})
	}
	return id, m.conflicts, err
}

type merger struct {
	r         objects.Reader
	w         TreeWriter
	o         MergeOptions
	conflicts []Conflict
}

// The three versions of a tree or of one of its names.
const (
	inBase = iota
	inOurs
	inTheirs
)

// trees merges three trees, zero for one that is not there. It returns zero if
// nothing remains.
func (m *merger) trees(ctx context.Context, path string, base, ours, theirs objects.ID) (objects.ID, error) {
	switch {
	case ours == theirs, base == theirs:
		return ours, nil
	case base == ours:
		return theirs, nil
	}
	if err := ctx.Err(); err != nil {
		return objects.ID{}, err
	}
	versions := map[string]*[3]objects.Entry{}
	for i, id := range [...]objects.ID{base, ours, theirs} {
		tree, err := entries(ctx, m.r, id)
		if err != nil {
			return objects.ID{}, atPath(path, err)
		}
		for _, e := range tree {
			v := versions[e.Name]
			if v == nil {
				v = new([3]objects.Entry)
				versions[e.Name] = v
			}
			v[i] = e
		}
	}
	merged := make(objects.Entries, 0, len(versions))
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		e, err := m.entry(ctx, join(path, name), versions[name])
		if err != nil {
			return objects.ID{}, err
		}
		if e.Mode != 0 {
			merged = append(merged, objects.Entry{Mode: e.Mode, Name: name, ID: e.ID})
		}
	}
	if len(merged) == 0 {
		return objects.ID{}, nil
	}
	merged.Sort()
	return m.put(merged, base, ours, theirs)
}

// put writes a merged tree, unless it is one of those that it was made from.
func (m *merger) put(merged objects.Entries, base, ours, theirs objects.ID) (objects.ID, error) {
	body := merged.Encode()
	switch id := objects.Sum(objects.Tree, body); id {
	case base, ours, theirs:
		return id, nil
	}
	return m.w.PutTree(body, ours)
}

func (m *merger) entry(ctx context.Context, path string, v *[3]objects.Entry) (objects.Entry, error) {
	switch {
	case v[inOurs] == v[inTheirs], v[inBase] == v[inTheirs]:
		return v[inOurs], nil
	case v[inBase] == v[inOurs]:
		return v[inTheirs], nil
	}
	if m.whole(path) || !allTrees(v) {
		return m.resolve(ctx, Conflict{path, v[inBase], v[inOurs], v[inTheirs]})
	}
	id, err := m.trees(ctx, path, v[inBase].ID, v[inOurs].ID, v[inTheirs].ID)
	if err != nil || id.IsZero() {
		return objects.Entry{}, err
	}
	return objects.Entry{Mode: objects.ModeDir, ID: id}, nil
}

func (m *merger) whole(path string) bool { return m.o.Whole != nil && m.o.Whole(path) }

// allTrees reports whether each version is a tree or nothing. An empty tree is
// something: it has no leaves in which a merge could keep it.
func allTrees(v *[3]objects.Entry) bool {
	for _, e := range v {
		if e.Mode != 0 && !e.Mode.IsDir() || e.ID == objects.EmptyTree {
			return false
		}
	}
	return true
}

func (m *merger) resolve(ctx context.Context, c Conflict) (objects.Entry, error) {
	for _, pair := range [...]struct{ a, b, take objects.Entry }{
		{c.Ours, c.Theirs, c.Ours},
		{c.Base, c.Theirs, c.Ours},
		{c.Base, c.Ours, c.Theirs},
	} {
		same, err := m.same(ctx, pair.a, pair.b)
		if err != nil {
			return objects.Entry{}, fmt.Errorf("%s: %w", c.Path, err)
		}
		if same {
			return pair.take, nil
		}
	}
	err := ErrConflict
	if m.o.Resolve != nil {
		var e objects.Entry
		if e, err = m.o.Resolve(ctx, c); err == nil {
			return e, nil
		}
	}
	if !errors.Is(err, ErrConflict) {
		return objects.Entry{}, fmt.Errorf("%s: %w", c.Path, err)
	}
	m.conflicts = append(m.conflicts, c)
	return c.Ours, nil
}

func (m *merger) same(ctx context.Context, a, b objects.Entry) (bool, error) {
	if m.o.Same == nil || a.Mode == 0 || b.Mode == 0 {
		return false, nil
	}
	return m.o.Same(ctx, a, b)
}
