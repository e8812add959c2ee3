package repo

import (
	"context"
	"errors"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
)

// shallow mends the file of commits whose parents were cut off: lines that make no
// sense go, and a commit of which a digit is damaged is put right. Those that are
// missing then are found with the history.
func (m *mender) shallow(ctx context.Context) error {
	text, err := m.r.readShallow()
	if err != nil {
		return err
	}
	shallow, bad := parseShallow(text)
	damaged := len(bad) > 0
	for _, line := range bad {
		for _, id := range m.likeIDs(ctx, line) {
			shallow[id] = true
		}
	}
	for id := range shallow {
		if near, ok := m.r.neighbour(ctx, id); ok {
			delete(shallow, id)
			shallow[near] = true
			damaged = true
		}
	}
	if !damaged {
		return nil
	}
	if err := m.r.replaceShallow(ctx, text, shallow); err != nil {
		return err
	}
	m.done("shallow", "made anew of the %s in it that can be read, and of what is missing in history", counted(len(shallow), "commit"))
	return nil
}

// likeIDs returns the commits that are here and that a damaged line named.
func (m *mender) likeIDs(ctx context.Context, line string) (ids []objects.ID) {
	const digits = 2 * objects.IDSize
	for ; len(line) >= digits; line = line[min(len(line), digits+1):] { // a line break may be what is damaged
		id, err := objects.ParseID(strings.Map(func(c rune) rune {
			if strings.ContainsRune("0123456789abcdefABCDEF", c) {
				return c
			}
			return '0'
		}, line[:digits]))
		if err != nil {
			continue
		}
		if _, err := objects.ReadCommit(ctx, m.r.DB, id); err == nil {
			ids = append(ids, id)
		} else if near, ok := m.r.neighbour(ctx, id); ok {
			ids = append(ids, near)
		}
	}
	return ids
}

// cut cuts history off where it can't be had: above each commit that is missing, or
// has a tree that is not whole.
func (m *mender) cut(ctx context.Context) error {
	shallow, err := m.r.Shallow()
	if err != nil || m.isUnsure() {
		return nil // it is left
	}
	var queue []objects.ID
	seen := new(reach.Set)
	push := func(id objects.ID) {
		if seen.Add(id) {
			queue = append(queue, id)
		}
	}
	for ref, err := range m.r.Refs.All(ctx, "") {
		if err != nil {
			continue
		}
		id := ref.ID
		if tag, err := objects.ReadTag(ctx, m.r.DB, id); err == nil {
			id = tag.Object
		}
		push(id)
	}
	var cuts []objects.ID
	for len(queue) > 0 {
		id := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		c, err := objects.ReadCommit(ctx, m.r.DB, id)
		if err != nil || shallow[id] {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		whole := true
		for _, p := range c.Parents {
			ok, err := m.isWholeCommit(ctx, p)
			if err != nil {
				return err
			}
			whole = whole && ok
		}
		if !whole {
			cuts = append(cuts, id)
			continue
		}
		for _, p := range c.Parents {
			push(p)
		}
	}
	if len(cuts) == 0 {
		return m.forget(ctx)
	}
	if err := m.r.EditShallow(ctx, func(shallow map[objects.ID]bool) {
		for _, id := range cuts {
			shallow[id] = true
		}
	}); err != nil {
		return err
	}
	for _, id := range cuts {
		m.done("shallow", "history ends at %s: what is before can't be had", id.Short())
	}
	return m.forget(ctx)
}

func (m *mender) isWholeCommit(ctx context.Context, id objects.ID) (bool, error) {
	c, err := objects.ReadCommit(ctx, m.r.DB, id)
	if errors.Is(err, objects.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return m.holes.isWhole(ctx, c.Tree, objects.Tree)
}

// forget removes what remembers where a remote's branch was, if that is not whole: no
// remote has it so any more.
func (m *mender) forget(ctx context.Context) error {
	for ref, err := range m.r.Refs.All(ctx, "refs/remotes/") {
		if err != nil {
			continue
		}
		whole, err := m.isWholeCommit(ctx, ref.ID)
		if err != nil {
			return err
		}
		if whole {
			continue
		}
		err = m.r.Refs.Apply(ctx, refs.Update{Name: ref.Name, Old: ref.ID, Reason: "fsck: it is not whole"})
		if err := passed(err); err != nil {
			return err
		}
		m.done(string(ref.Name), "forgotten: it is not whole; the next fetch brings it again")
	}
	return nil
}
