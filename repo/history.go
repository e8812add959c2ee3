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
				body, err := objects.ReadCommit(ctx, r.DB, id)
				if err != nil {
					return yield(Commit{ID: id}, err)
				}
				heap.Push(&queue, Commit{id, body})
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
			if !shallow[c.ID] && !push(c.Parents) {
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

// MergeBase returns the newest commit that both a and b descend from, or a zero
// id if their histories are unrelated.
func (r *Repo) MergeBase(ctx context.Context, a, b objects.ID) (objects.ID, error) {
	const fromA, fromB = 1, 2
	shallow, err := r.Shallow()
	if err != nil {
		return objects.ID{}, err
	}
	sides := map[objects.ID]int{}
	var queue newestFirst
	mark := func(id objects.ID, side int) error {
		if sides[id]|side == sides[id] {
			return nil
		}
		sides[id] |= side
		body, err := objects.ReadCommit(ctx, r.DB, id)
		if err != nil {
			return err
		}
		heap.Push(&queue, Commit{id, body})
		return nil
	}
	if err := errors.Join(mark(a, fromA), mark(b, fromB)); err != nil {
		return objects.ID{}, err
	}
	for len(queue) > 0 {
		c := heap.Pop(&queue).(Commit)
		side := sides[c.ID]
		if side == fromA|fromB {
			return c.ID, nil
		}
		if shallow[c.ID] {
			continue
		}
		for _, p := range c.Parents {
			if err := mark(p, side); err != nil {
				return objects.ID{}, err
			}
		}
	}
	return objects.ID{}, nil
}
