package trees

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
)

// An Edit puts something at a path, or takes out what is there if ID is zero.
type Edit struct {
	Path string
	Mode objects.Mode
	ID   objects.ID
}

// Apply returns root after edits. Of several edits of one path the last counts;
// one of a directory comes before those below it. What is put below a file
// replaces the file; to take out what is not there is no error. A tree that a
// deletion empties is taken out of the one above it, up to the root.
//
// Each tree on the way to an edit is read and written once, and no other; w is
// given the trees bottom up. Edits that are in the order of ComparePaths already
// are not copied.
func Apply(ctx context.Context, r objects.Reader, w TreeWriter, root objects.ID, edits []Edit) (objects.ID, error) {
	for _, e := range edits {
		if err := CheckPath(e.Path); err != nil {
			return objects.ID{}, fmt.Errorf("edit: %w", err)
		}
		if !e.ID.IsZero() && !e.Mode.Valid() {
			return objects.ID{}, fmt.Errorf("edit: path %q: mode %o", e.Path, e.Mode)
		}
	}
	byPath := func(a, b Edit) int { return ComparePaths(a.Path, b.Path) }
	if !slices.IsSortedFunc(edits, byPath) {
		edits = slices.Clone(edits)
		slices.SortStableFunc(edits, byPath)
	}
	a := applier{r, w}
	id, err := a.tree(ctx, root, edits, 0)
	if err != nil {
		return objects.ID{}, err
	}
	if id.IsZero() || id == objects.EmptyTree {
		return w.PutTree(nil, objects.ID{})
	}
	return id, nil
}

// ComparePaths orders paths so that all that is below a directory follows it
// without a gap: as strings in which a slash is less than any other byte.
func ComparePaths(a, b string) int {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	switch {
	case i == n:
		return len(a) - len(b)
	case a[i] == '/':
		return -1
	case b[i] == '/':
		return +1
	}
	return int(a[i]) - int(b[i])
}

type applier struct {
	r objects.Reader
	w TreeWriter
}

// A group is the edits of one name of a tree and of what is below it.
type group struct {
	name  string
	edits []Edit
	old   objects.Entry // zero: the tree has no such name
}

// tree applies edits, of which the first skip bytes of the paths lead to the
// tree id. It returns zero for a tree that was emptied.
func (a applier) tree(ctx context.Context, id objects.ID, edits []Edit, skip int) (objects.ID, error) {
	if len(edits) == 0 {
		return id, nil
	}
	if err := ctx.Err(); err != nil {
		return objects.ID{}, err
	}
	body, err := readTree(ctx, a.r, id)
	if err != nil {
		return objects.ID{}, err
	}
	groups := groupByName(edits, skip)
	if err := findGroups(body, groups); err != nil {
		return objects.ID{}, fmt.Errorf("tree %s: %w", id, err)
	}
	var changed []group
	var added objects.Entries
	for _, g := range groups {
		e, err := a.entry(ctx, g, skip+len(g.name)+1)
		if err != nil {
			return objects.ID{}, err
		}
		if e == g.old {
			continue
		}
		changed = append(changed, g)
		if e.Mode != 0 {
			added = append(added, e)
		}
	}
	if len(changed) == 0 {
		return id, nil
	}
	added.Sort()
	newBody, err := splice(body, changed, added)
	if err != nil {
		return objects.ID{}, fmt.Errorf("tree %s: %w", id, err)
	}
	if len(newBody) == 0 {
		return objects.ID{}, nil
	}
	return a.w.PutTree(newBody, id)
}

// entry returns what becomes of g.old; an entry without mode is none.
func (a applier) entry(ctx context.Context, g group, skip int) (objects.Entry, error) {
	e, below := g.old, g.edits
	for len(below) > 0 && len(below[0].Path) < skip {
		e = objects.Entry{}
		if !below[0].ID.IsZero() {
			e = objects.Entry{Mode: below[0].Mode, Name: g.name, ID: below[0].ID}
		}
		below = below[1:]
	}
	if len(below) == 0 {
		return e, nil
	}
	var id objects.ID // a file, or nothing, counts as an empty tree
	if e.Mode.IsDir() {
		id = e.ID
	}
	newID, err := a.tree(ctx, id, below, skip)
	switch {
	case err != nil:
		return objects.Entry{}, err
	case newID == id:
		return e, nil // perhaps deletions below a file: it stays
	case newID.IsZero():
		return objects.Entry{}, nil
	}
	return objects.Entry{Mode: objects.ModeDir, Name: g.name, ID: newID}, nil
}

// groupByName cuts edits into groups by the name that stands behind the first
// skip bytes of their paths.
func groupByName(edits []Edit, skip int) []group {
	var groups []group
	for i := 0; i < len(edits); {
		name, _, _ := strings.Cut(edits[i].Path[skip:], "/")
		end := i + 1
		for end < len(edits) && hasName(edits[end].Path[skip:], name) {
			end++
		}
		groups = append(groups, group{name: name, edits: edits[i:end]})
		i = end
	}
	return groups
}

func hasName(path, name string) bool {
	return strings.HasPrefix(path, name) && (len(path) == len(name) || path[len(name)] == '/')
}

// findGroups sets what the tree has under the groups' names.
func findGroups(body []byte, groups []group) error {
	if len(groups) == 1 {
		e, ok, err := find(body, groups[0].name)
		if ok {
			groups[0].old = objects.Entry{Mode: e.Mode, Name: groups[0].name, ID: e.ID}
		}
		return err
	}
	byName := make(map[string]int, len(groups))
	for i, g := range groups {
		byName[g.name] = i
	}
	for len(body) > 0 {
		e, rest, err := objects.CutEntry(body)
		if err != nil {
			return err
		}
		if i, ok := byName[string(e.Name)]; ok {
			groups[i].old = objects.Entry{Mode: e.Mode, Name: groups[i].name, ID: e.ID}
		}
		body = rest
	}
	return nil
}

// splice returns the body of a tree without the names of changed and with added,
// which is in order. What stays is copied as it is.
func splice(body []byte, changed []group, added objects.Entries) ([]byte, error) {
	dropped := make(map[string]bool, len(changed))
	for _, g := range changed {
		if g.old.Mode != 0 {
			dropped[g.name] = true
		}
	}
	room := len(body)
	for _, e := range added {
		room += len("100644 ") + len(e.Name) + 1 + objects.IDSize
	}
	out := make([]byte, 0, room)
	for len(body) > 0 {
		e, rest, err := objects.CutEntry(body)
		if err != nil {
			return nil, err
		}
		body = rest
		if len(dropped) > 0 && dropped[string(e.Name)] {
			continue
		}
		for len(added) > 0 && compareRaw(added[0], e) < 0 {
			out = added[:1].AppendTo(out)
			added = added[1:]
		}
		out = append(out, e.Raw...)
	}
	return added.AppendTo(out), nil
}

// compareRaw is objects.CompareEntries for an entry that is not parsed.
func compareRaw(a objects.Entry, b objects.RawEntry) int {
	n := min(len(a.Name), len(b.Name))
	for i := range n {
		if a.Name[i] != b.Name[i] {
			return int(a.Name[i]) - int(b.Name[i])
		}
	}
	return objects.CompareEntries(
		objects.Entry{Mode: a.Mode, Name: a.Name[n:]},
		objects.Entry{Mode: b.Mode, Name: string(b.Name[n:])})
}
