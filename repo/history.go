package repo

import (
	"container/heap"
	"context"
	"errors"
	"iter"

	"github.com/cache-tool/cache-tool/objects"
)

// A Commit is a commit with its id.
type Commit struct {
	ID objects.ID
	objects.CommitBody
	Cut bool // its parents were cut off: they count as none
}

// Commit reads a commit.
func (r *Repo) Commit(ctx context.Context, id objects.ID) (Commit, error) {
	shallow, err := r.Shallow()
	if err != nil {
		return Commit{ID: id}, err
	}
	return r.readCommit(ctx, id, shallow)
}

func (r *Repo) readCommit(ctx context.Context, id objects.ID, shallow map[objects.ID]bool) (Commit, error) {
	body, err := objects.ReadCommit(ctx, r.DB, id)
	return Commit{id, body, len(body.Parents) > 0 && shallow[id]}, err
}

// Log returns the commits that the tips reach, the newest committer date first,
// each once. Where history was cut off (shallow) it ends without an error.
func (r *Repo) Log(ctx context.Context, tips ...objects.ID) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		shallow, err := r.Shallow()
		if err != nil {
			yield(Commit{}, err)
			return
		}
		var queue newestFirst
		seen := map[objects.ID]bool{}
		push := func(ids []objects.ID) bool {
			for _, id := range ids {
				if seen[id] {
					continue
				}
				seen[id] = true
				c, err := r.readCommit(ctx, id, shallow)
				if err != nil {
					return yield(c, err)
				}
				heap.Push(&queue, c)
			}
			return true
		}
		if !push(tips) {
			return
		}
		for len(queue) > 0 {
			c := heap.Pop(&queue).(Commit)
			if !yield(c, nil) {
				return
			}
			if !c.Cut && !push(c.Parents) {
				return
			}
		}
	}
}

type newestFirst []Commit

func (q newestFirst) Len() int           { return len(q) }
func (q newestFirst) Less(i, j int) bool { return q[i].Committer.When.After(q[j].Committer.When) }
func (q newestFirst) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *newestFirst) Push(c any)        { *q = append(*q, c.(Commit)) }
func (q *newestFirst) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// ErrCut says that history was cut off where it would be needed: the parents of a
// commit are gone.
var ErrCut = errors.New("history was cut off there")

// MergeBase returns the newest commit that both a and b descend from, or a zero
// id if their histories are unrelated, or were cut off before that.
func (r *Repo) MergeBase(ctx context.Context, a, b objects.ID) (objects.ID, error) {
	base, _, err := r.mergeBase(ctx, a, b)
	return base, err
}

// mergeBase is MergeBase. Cut reports whether history was cut off on the side of b,
// nearer than at the base: that may be an older one than it was.
func (r *Repo) mergeBase(ctx context.Context, a, b objects.ID) (base objects.ID, cut bool, err error) {
	const fromA, fromB = 1, 2
	shallow, err := r.Shallow()
	if err != nil {
		return objects.ID{}, false, err
	}
	sides := map[objects.ID]int{}
	var queue newestFirst
	mark := func(id objects.ID, side int) error {
		if sides[id]|side == sides[id] {
			return nil
		}
		sides[id] |= side
		c, err := r.readCommit(ctx, id, shallow)
		if err != nil {
			return err
		}
		heap.Push(&queue, c)
		return nil
	}
	if err := errors.Join(mark(a, fromA), mark(b, fromB)); err != nil {
		return objects.ID{}, false, err
	}
	for len(queue) > 0 {
		c := heap.Pop(&queue).(Commit)
		side := sides[c.ID]
		if side == fromA|fromB {
			for len(queue) > 0 && !queue[0].Committer.When.Before(c.Committer.When) { // of the same second
				other := heap.Pop(&queue).(Commit)
				cut = cut || other.Cut && sides[other.ID] == fromB
			}
			return c.ID, cut, nil
		}
		if c.Cut {
			cut = cut || side == fromB
			continue
		}
		for _, p := range c.Parents {
			if err := mark(p, side); err != nil {
				return objects.ID{}, false, err
			}
		}
	}
	return objects.ID{}, cut, nil
}
