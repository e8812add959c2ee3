package bucket

import (
	"context"
	"errors"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
)

// Packs of less than smallPack are copied together when there are more than
// manySmall: each push leaves one behind.
const (
	smallPack = 1 << 20
	manySmall = 50
)

// plan finds out which packs go. It reports whether something must be copied from
// them first; if it may not be, packs that have something to be copied stay.
func (c *collection) plan(ctx context.Context, mayCopy bool) (wanted bool, err error) {
	for {
		if err := c.findParts(ctx); err != nil {
			return false, err
		}
		if err := c.weigh(ctx); err != nil {
			return false, err
		}
		again, err := c.needsOfStaying(ctx)
		if err == nil && !again {
			again, wanted, err = c.survey(ctx, mayCopy)
		}
		if err != nil || !again {
			return wanted, err
		}
	}
}

// weigh chooses the packs that go, by what is needed of them.
func (c *collection) weigh(ctx context.Context) error {
	for _, f := range c.t.facts {
		f.entries, f.total, f.alive = 0, 0, 0
	}
	err := c.t.each(ctx, func(id objects.ID, copies []entry) error {
		for _, e := range copies {
			f := c.t.pack(e)
			f.entries++
			f.total += int64(e.size)
		}
		if c.isNeeded(id) {
			// Of several copies one is enough; the others count as dead.
			if fit := c.fit(copies); len(fit) > 0 {
				best := slices.MinFunc(fit, c.better)
				c.t.pack(best).alive += int64(best.size)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	small := 0
	for _, f := range c.t.facts {
		if !f.pinned && f.info.Size < smallPack {
			small++
		}
	}
	for _, f := range c.t.facts {
		dead := float64(f.total-f.alive) >= c.o.Rewrite*float64(f.total)
		f.victim = !f.pinned && (f.alive == 0 || dead || c.forced[f.name] || small > manySmall && f.info.Size < smallPack)
	}
	return nil
}

// better puts the copy first that is to stay: the one in a pack that stays anyway,
// then that in the bigger pack.
func (c *collection) better(a, b entry) int {
	p, q := c.t.pack(a), c.t.pack(b)
	switch {
	case p.pinned != q.pinned:
		if p.pinned {
			return -1
		}
		return 1
	case p.info.Size != q.info.Size:
		return int(min(1, max(-1, q.info.Size-p.info.Size)))
	}
	return c.t.inOrder(a, b)
}

// needsOfStaying makes more packs go, until those that stay have all that they need.
// It reports whether to weigh again.
func (c *collection) needsOfStaying(ctx context.Context) (again bool, err error) {
	if again, err = c.findNeeds(ctx); err != nil || again {
		return again, err
	}
	for {
		if changed, err := c.meetNeeds(ctx); err != nil || !changed {
			return false, err
		}
	}
}

// survey looks for each object in a pack that goes where it stays. It reports whether
// to plan again, and whether something must be copied.
func (c *collection) survey(ctx context.Context, mayCopy bool) (again, wanted bool, err error) {
	for _, f := range c.t.facts {
		f.wanted = 0
	}
	var doubtful []entry
	err = c.t.each(ctx, func(id objects.ID, copies []entry) error {
		if !c.isNeeded(id) || !slices.ContainsFunc(copies, c.goes) {
			return nil
		}
		fit := c.fit(copies)
		stays, doubt := c.staying(fit)
		switch {
		case stays:
		case doubt != nil:
			if doubtful = append(doubtful, *doubt); len(doubtful) == atOnce {
				return errEnough
			}
		case len(fit) > 0 && mayCopy:
			c.t.pack(slices.MinFunc(fit, c.t.inOrder)).wanted++
			wanted = true
		default:
			again = true
			for _, e := range copies {
				if f := c.t.pack(e); f.victim {
					c.stuck[f.name], f.pinned = true, true
					if len(fit) == 0 {
						c.damaged[f.name] = true
					}
				}
			}
		}
		return nil
	})
	if len(doubtful) > 0 && (err == nil || errors.Is(err, errEnough)) {
		again = true
		err = c.eachBlock(ctx, doubtful, func([]byte, []entry) error { return nil })
	}
	return again, wanted && !again, err
}

func (c *collection) goes(e entry) bool { return c.t.pack(e).victim }

// staying reports whether one of the copies is in a pack that stays, and in a sound
// block. If that is not known, it returns one of which it should be.
func (c *collection) staying(fit []entry) (stays bool, doubt *entry) {
	for i, e := range fit {
		if c.goes(e) {
			continue
		}
		if c.made[c.t.pack(e).name] || c.sound[c.t.spot(e)] {
			return true, nil
		}
		if doubt == nil {
			doubt = &fit[i]
		}
	}
	if doubt != nil {
		e := *doubt
		doubt = &e
	}
	return false, doubt
}
