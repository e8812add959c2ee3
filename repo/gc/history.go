package gc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// A commit is what matters of one here.
type commit struct {
	id      objects.ID
	parents []objects.ID // none where history is cut already
	when    time.Time
	whole   bool // its history is not to be cut here
}

// A graph is all commits that the refs reach.
type graph map[objects.ID]*commit

// grow adds a commit and those behind it.
func (g graph) grow(ctx context.Context, s *Store, tip objects.ID) error {
	for queue := []objects.ID{tip}; len(queue) > 0; {
		id := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if g[id] != nil {
			continue
		}
		body, err := objects.ReadCommit(ctx, s.Objects, id)
		if err != nil {
			return fmt.Errorf("commit %s: %w", id.Short(), err)
		}
		c := &commit{id: id, when: body.Committer.When}
		if !s.Shallow(id) {
			c.parents = body.Parents
		}
		g[id] = c
		queue = append(queue, c.parents...)
	}
	return nil
}

// behind calls fn with a commit and those behind it, each once, the newest first of
// those that are known; as far as fn returns true.
func (g graph) behind(tips []objects.ID, fn func(c *commit) (on bool)) {
	seen := map[objects.ID]bool{}
	var queue []*commit
	push := func(ids []objects.ID) {
		for _, id := range ids {
			if c := g[id]; c != nil && !seen[id] {
				seen[id] = true
				at, _ := slices.BinarySearchFunc(queue, c, func(a, b *commit) int { return a.when.Compare(b.when) })
				queue = slices.Insert(queue, at, c)
			}
		}
	}
	push(tips)
	for len(queue) > 0 {
		c := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if fn(c) {
			push(c.parents)
		}
	}
}

// bind marks the commits between a branch and where others were seen last: what was
// done here since is merged against that.
func (g graph) bind(branch objects.ID, seen []objects.ID) {
	ends := map[objects.ID]bool{}
	for _, id := range seen {
		ends[id] = true
	}
	leads := map[objects.ID]bool{} // whether a commit leads to one of ends
	var order []*commit            // children before parents, as far as dates are right
	g.behind([]objects.ID{branch}, func(c *commit) bool {
		order = append(order, c)
		return true
	})
	for again := true; again; { // a second time only if clocks were wrong
		again = false
		for _, c := range slices.Backward(order) {
			if leads[c.id] {
				continue
			}
			for _, p := range c.parents {
				if ends[p] || leads[p] {
					leads[c.id], again = true, true
				}
			}
		}
	}
	for id := range leads {
		g[id].whole = true
	}
}

// lastSeen returns what a branch is merged against: for each remote the newest of the
// places where its branch was seen that this one descends from.
func (g graph) lastSeen(branch Ref, all []Ref) []objects.ID {
	behind := map[objects.ID]bool{}
	g.behind([]objects.ID{branch.ID}, func(c *commit) bool {
		behind[c.id] = true
		return true
	})
	var seen []objects.ID
	for _, r := range all {
		if !isTracking(r.Name) {
			continue
		}
		if behind[r.ID] {
			seen = append(seen, r.ID)
			continue
		}
		for _, id := range r.Past {
			if behind[id] {
				seen = append(seen, id)
				break
			}
		}
	}
	return seen
}

func isTracking(name refs.Name) bool { return strings.HasPrefix(string(name), "refs/remotes/") }

// cut returns the commits whose parents go because they were replaced before a time:
// those commits count as they are the ones that stood then.
func (g graph) cut(tips []objects.ID, before time.Time) (kept []objects.ID, cut map[objects.ID]bool) {
	cut = map[objects.ID]bool{}
	g.behind(tips, func(c *commit) bool {
		kept = append(kept, c.id)
		if !c.whole && len(c.parents) > 0 && c.when.Before(before) {
			cut[c.id] = true
			return false
		}
		return true
	})
	return kept, cut
}
