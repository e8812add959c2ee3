package replica

import (
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/objects"
)

// warm brings the commits and trees that tips lead to and have do not, level by level,
// with those that a walk looks at beside them: one by one they would take a request
// each. It is only for speed: what it does not bring comes when it is wanted.
func (g *generation) warm(ctx context.Context, tips, have []objects.ID, isCut map[objects.ID]bool) error {
	pairs, err := g.warmCommits(ctx, tips, have, isCut)
	seen := map[objects.ID]bool{}
	for err == nil && len(pairs) > 0 {
		var ids []objects.ID
		for _, p := range pairs {
			ids = append(ids, p.tree)
			if !p.base.IsZero() {
				ids = append(ids, p.base)
			}
		}
		if err = g.db.Prefetch(ctx, ids); err != nil {
			break
		}
		var below []pair
		for _, p := range pairs {
			if seen[p.tree] {
				continue
			}
			seen[p.tree] = true
			below = append(below, g.below(ctx, p)...)
		}
		pairs = below
	}
	return err
}

// A pair is a tree, and the one that is in its place in another commit, or zero.
type pair struct{ tree, base objects.ID }

// warmCommits brings commits, up to those that are known, and returns their trees, each
// beside that of its first parent.
func (g *generation) warmCommits(ctx context.Context, tips, have []objects.ID, isCut map[objects.ID]bool) (pairs []pair, err error) {
	known, seen := setOf(have), map[objects.ID]bool{}
	trees := map[objects.ID]objects.ID{}
	type child struct{ tree, parent objects.ID }
	var children []child
	level := append(append([]objects.ID{}, tips...), have...)
	for len(level) > 0 {
		if err := g.db.Prefetch(ctx, level); err != nil {
			return nil, err
		}
		var next []objects.ID
		for _, id := range level {
			if seen[id] {
				continue
			}
			seen[id] = true
			k, body, err := objects.Read(ctx, g.db, id)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil || k != objects.Commit {
				continue // the walk says what is wrong
			}
			c, err := objects.ParseCommit(body)
			if err != nil {
				continue
			}
			trees[id] = c.Tree
			if known[id] {
				continue
			}
			first := objects.ID{}
			if len(c.Parents) > 0 && !isCut[id] {
				first = c.Parents[0]
				next = append(next, c.Parents...)
			}
			children = append(children, child{c.Tree, first})
		}
		level = next
	}
	var some objects.ID // that a commit without parents is compared with
	for _, id := range have {
		if t, ok := trees[id]; ok {
			some = t
			break
		}
	}
	for _, c := range children {
		base, ok := trees[c.parent]
		if !ok {
			base = some
		}
		pairs = append(pairs, pair{c.tree, base})
	}
	return pairs, nil
}

// below returns the trees in a tree that are not in the other one.
func (g *generation) below(ctx context.Context, p pair) (pairs []pair) {
	if p.tree == p.base {
		return nil
	}
	ours, err := g.entries(ctx, p.tree)
	if err != nil {
		return nil
	}
	theirs, _ := g.entries(ctx, p.base)
	for _, e := range ours {
		if e.Mode.Kind() != objects.Tree || e.ID == objects.EmptyTree {
			continue
		}
		was, ok := theirs.Find(e.Name)
		switch {
		case !ok || was.Mode.Kind() != objects.Tree:
			pairs = append(pairs, pair{tree: e.ID})
		case was.ID != e.ID:
			pairs = append(pairs, pair{e.ID, was.ID})
		}
	}
	return pairs
}

func (g *generation) entries(ctx context.Context, tree objects.ID) (objects.Entries, error) {
	if tree.IsZero() || tree == objects.EmptyTree {
		return nil, nil
	}
	body, err := objects.ReadKind(ctx, g.db, tree, objects.Tree)
	if err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	return objects.ParseTree(body)
}
