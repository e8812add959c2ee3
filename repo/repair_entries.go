package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/stage"
)

// takeOut takes entries out of branches that are not whole, as a commit on each. It
// follows the newest commits that are whole: those between would have to be cut off.
func (m *mender) takeOut(ctx context.Context) error {
	if m.isUnsure() {
		return nil
	}
	for ref, err := range m.r.Refs.All(ctx, "refs/heads/") {
		if err != nil {
			continue // it is left
		}
		if err := m.takeOutOf(ctx, ref.Name); err != nil {
			return err
		}
	}
	return nil
}

func (m *mender) takeOutOf(ctx context.Context, branch refs.Name) error {
	const tries = 20
	for try := 1; ; try++ {
		tip, root, err := m.r.Tip(ctx, branch)
		if errors.Is(err, objects.ErrNotFound) {
			return nil // there is nothing to go back to
		}
		if err != nil {
			return err
		}
		clear(m.holes.broken) // it may have been put again meanwhile
		edits, err := m.holes.edits(ctx, "", root)
		if err != nil || len(edits) == 0 {
			return err
		}
		parents, err := m.wholeBefore(ctx, tip)
		if err != nil {
			return err
		}
		commit, err := m.r.commitWithout(ctx, branch, tip, root, parents, edits)
		if errors.As(err, new(*refs.ConflictError)) && try < tries {
			continue // somebody committed meanwhile
		}
		if err == nil {
			m.done(string(branch), "%s taken out, as commit %s: %s", counted(len(edits), "damaged entry"), commit.Short(), strings.Join(lostLines(edits), ", "))
		}
		return err
	}
}

// wholeBefore returns the newest commits before tip, which is not whole, that are:
// what stands between nobody could push any more.
func (m *mender) wholeBefore(ctx context.Context, tip objects.ID) ([]objects.ID, error) {
	shallow, err := m.r.Shallow()
	if err != nil {
		return nil, err
	}
	var whole []objects.ID
	seen := new(reach.Set)
	for queue := []objects.ID{tip}; len(queue) > 0; queue = queue[1:] {
		c, err := objects.ReadCommit(ctx, m.r.DB, queue[0])
		if err != nil || shallow[queue[0]] {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		for _, p := range c.Parents {
			if !seen.Add(p) {
				continue
			}
			ok, err := m.isWholeCommit(ctx, p)
			switch {
			case err != nil:
				return nil, err
			case ok:
				whole = append(whole, p)
			default:
				queue = append(queue, p)
			}
		}
	}
	return m.newestOf(ctx, whole), nil
}

// newestOf drops the commits that others of them descend from.
func (m *mender) newestOf(ctx context.Context, commits []objects.ID) []objects.ID {
	return slices.DeleteFunc(slices.Clone(commits), func(id objects.ID) bool {
		return slices.ContainsFunc(commits, func(other objects.ID) bool {
			base, err := m.r.MergeBase(ctx, id, other)
			return other != id && err == nil && base == id
		})
	})
}

// commitWithout commits root without what edits take out.
func (r *Repo) commitWithout(ctx context.Context, branch refs.Name, tip, root objects.ID, parents []objects.ID, edits []trees.Edit) (objects.ID, error) {
	b, err := r.DB.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return objects.ID{}, err
	}
	defer b.Close()
	tree := root
	if edits[0].Path == "" {
		tree, err = b.PutTree(nil, objects.ID{})
	} else {
		tree, err = trees.Apply(ctx, b, b, root, edits)
	}
	if err != nil {
		return objects.ID{}, fmt.Errorf("%s: %w", branch.Short(), err)
	}
	subject := "Take out " + counted(len(edits), "damaged entry")
	message := subject + "\n\nThey could not be had again.\n\n" + strings.Join(lostLines(edits), "\n") + "\n"
	commit, err := r.putCommit(b, tree, parents, r.withProvenance(message))
	if err != nil {
		return objects.ID{}, err
	}
	if err := b.Commit(ctx, odb.Durable); err != nil {
		return objects.ID{}, err
	}
	return commit, r.Refs.Apply(ctx, refs.Update{Name: branch, Old: tip, New: commit, Reason: "fsck: " + subject})
}

// lostLines names what is taken out, a few hundred at most.
func lostLines(edits []trees.Edit) []string {
	const most = 500
	var lines []string
	for i, e := range edits {
		if i == most {
			return append(lines, fmt.Sprintf("and %d more", len(edits)-i))
		}
		kind, key, err := entry.ParsePath(e.Path)
		switch {
		case e.Path == "":
			lines = append(lines, "all entries: the tree that listed them is lost")
		case err == nil:
			lines = append(lines, fmt.Sprintf("%s %s", kind, key))
		default:
			lines = append(lines, fmt.Sprintf("all below %s: the tree that listed it is lost", e.Path))
		}
	}
	return lines
}

// stages drops what is damaged in the stage, and what is staged and not whole.
func (m *mender) stages(ctx context.Context) error {
	branches, err := stage.Branches(m.r.path("stage"))
	if err != nil {
		return err
	}
	for _, branch := range branches {
		if err := m.stage(ctx, branch); err != nil {
			return err
		}
	}
	return nil
}

func (m *mender) stage(ctx context.Context, branch string) error {
	damaged := ""
	name := refs.Branch(branch)
	s := stage.Open(m.r.path("stage"), branch, stage.Options{
		Warn:   func(text string) { damaged = text },
		Folded: func(ctx context.Context, seq uint64) (bool, error) { return m.r.folded(ctx, name, seq) },
	})
	records, err := s.All(ctx)
	if err != nil {
		return nil // it is left
	}
	here := newHoles(m.r.DB, nil)
	keep := func(r stage.Record) bool {
		if r.ID.IsZero() || m.isUnsure() {
			return true
		}
		k := r.Mode.Kind()
		whole, err := here.isWhole(ctx, r.ID, k)
		return whole || err != nil
	}
	if damaged == "" && !slices.ContainsFunc(records, func(r stage.Record) bool { return !keep(r) }) {
		return nil
	}
	here = newHoles(m.r.DB, nil) // what was missing may have been put meanwhile
	dropped, err := s.Mend(ctx, keep)
	if err != nil {
		return err
	}
	where := "stage of " + branch
	if damaged != "" {
		m.done(where, "its journal is written anew with all that can be read")
	}
	for _, r := range dropped {
		m.done(where, "dropped %s: it is incomplete", r.Path)
	}
	return nil
}

// neighbour returns a commit that is here and whose id differs in one digit from id,
// which is not.
func (r *Repo) neighbour(ctx context.Context, id objects.ID) (objects.ID, bool) {
	ctx = odb.Local(ctx)
	ids := []objects.ID{id}
	if missing, err := r.DB.Missing(ctx, ids); err != nil || len(missing) == 0 {
		return objects.ID{}, false
	}
	for i := range id {
		for x := byte(1); x < 16; x++ {
			low, high := id, id
			low[i] ^= x
			high[i] ^= x << 4
			ids = append(ids, low, high)
		}
	}
	missing, err := r.DB.Missing(ctx, ids)
	if err != nil || len(missing) != len(ids)-1 {
		return objects.ID{}, false
	}
	for i, near := range ids[1:] {
		if i == len(missing)-1 || missing[i+1] != near {
			_, err := objects.ReadCommit(ctx, r.DB, near)
			return near, err == nil && missing[0] == id
		}
	}
	return objects.ID{}, false
}

// counted writes "1 object", "2 objects".
func counted(n int, one string) string {
	stem, isY := strings.CutSuffix(one, "ry")
	switch {
	case n == 1:
		return "1 " + one
	case isY:
		return fmt.Sprintf("%d %sries", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, one)
}
