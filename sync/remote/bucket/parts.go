package bucket

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// What is made of parts is worth nothing without them, but is found without them
// all the same: whoever asks what is missing is told that it is there. So whatever
// stays in the bucket keeps its parts: what is needed, because it is; what is in a
// pack that stays in any case, because somebody may be about to need it; and what
// nobody needs, in packs of which most is needed, by taking that pack along when a
// part goes.

// A need says that something which nobody needs, in a pack that may stay, has a part.
type need struct {
	part objects.ID
	of   uint32 // number of the pack in c.needy
}

// atOnce is how many entries are held in memory to be read together.
const atOnce = 256 << 10

var errEnough = errors.New("enough")

// findParts puts into c.parts what those are made of that stay because they are
// needed, or because their packs are pinned.
func (c *collection) findParts(ctx context.Context) error {
	for {
		batch, err := c.unread(ctx, func(id objects.ID, copies []entry, add func(entry)) error {
			needed := c.isNeeded(id)
			fit := c.fit(copies)
			if needed && len(fit) == 0 && copies[0].isMadeOfParts() {
				return fmt.Errorf("%s, a %s in %s, can't be read, so nobody knows what is needed of it", id, copies[0].typ(), c.t.pack(copies[0]).name.file())
			}
			for _, e := range copies {
				stays := c.t.pack(e).pinned || needed && slices.Contains(fit, e)
				if key := c.t.copyKey(e); stays && e.isMadeOfParts() && !c.parted.Has(key) {
					add(e)
				}
			}
			return nil
		})
		if err != nil || len(batch) == 0 {
			return err
		}
		err = c.readParts(ctx, batch, func(e entry, parts []objects.ID, ok bool) {
			c.parted.Add(c.t.copyKey(e))
			for _, id := range parts {
				c.parts.Add(id)
			}
		})
		if err != nil {
			return err
		}
	}
}

// unread collects entries that fn adds, not all of them if they are many.
func (c *collection) unread(ctx context.Context, fn func(id objects.ID, copies []entry, add func(entry)) error) ([]entry, error) {
	var batch []entry
	add := func(e entry) { batch = append(batch, e) }
	err := c.t.each(ctx, func(id objects.ID, copies []entry) error {
		if !slices.ContainsFunc(copies, entry.isMadeOfParts) {
			return nil
		}
		if err := fn(id, copies, add); err != nil {
			return err
		}
		if len(batch) >= atOnce {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return batch, err
}

// readParts calls fn for each of entries, with what it is made of; not ok if it can't
// be read.
func (c *collection) readParts(ctx context.Context, entries []entry, fn func(e entry, parts []objects.ID, ok bool)) error {
	var data pack.Data
	return c.eachBlock(ctx, entries, func(stored []byte, of []entry) error {
		if stored != nil {
			if err := data.Decode(stored); err != nil { // its checksum is right
				c.sound[c.t.spot(of[0])], c.anyBad, stored = false, true, nil
			}
		}
		for _, e := range of {
			var parts []objects.ID
			ok := stored != nil
			if ok {
				var err error
				if parts, err = partsOf(e, &data); err != nil {
					c.bad.Add(c.t.copyKey(e))
					c.anyBad, ok = true, false
				}
			}
			fn(e, parts, ok)
		}
		return nil
	})
}

// recordOf returns the record of an entry, which must be what the index says.
func recordOf(e entry, data *pack.Data) ([]byte, error) {
	if e.record() >= data.Len() {
		return nil, badIndex("record %d of %d", e.record(), data.Len())
	}
	t, body := data.Record(e.record())
	if t != e.typ() || len(body) != int(e.size) {
		return nil, badIndex("a %s of %d bytes where a %s of %d should be", t, len(body), e.typ(), e.size)
	}
	return body, nil
}

// partsOf returns what a recipe or a delta is made of.
func partsOf(e entry, data *pack.Data) ([]objects.ID, error) {
	body, err := recordOf(e, data)
	if err != nil {
		return nil, err
	}
	if e.typ() == pack.Delta {
		d, err := pack.ParseDelta(body)
		return []objects.ID{d.Base}, err
	}
	recipe, err := pack.ParseRecipe(body)
	if err != nil {
		return nil, err
	}
	parts := make([]objects.ID, recipe.Len())
	for i := range parts {
		parts[i] = recipe.Piece(i).ID
	}
	return parts, nil
}

// findNeeds reads what nobody needs in packs that are to stay. It reports whether
// another pack must go, because that can't be read.
func (c *collection) findNeeds(ctx context.Context) (changed bool, err error) {
	for {
		batch, err := c.unread(ctx, func(id objects.ID, copies []entry, add func(entry)) error {
			for _, e := range copies {
				f := c.t.pack(e)
				if key := c.t.copyKey(e); e.isMadeOfParts() && !f.pinned && !f.victim && !c.parted.Has(key) && !c.loose.Has(key) {
					add(e)
				}
			}
			return nil
		})
		if err != nil || len(batch) == 0 {
			return changed, err
		}
		err = c.readParts(ctx, batch, func(e entry, parts []objects.ID, ok bool) {
			c.loose.Add(c.t.copyKey(e))
			f := c.t.pack(e)
			if !ok && !c.forced[f.name] {
				c.forced[f.name], changed = true, true
			}
			if n := len(c.needy); n == 0 || c.needy[n-1] != f.name {
				c.needy = append(c.needy, f.name)
			}
			for _, id := range parts {
				c.needs = append(c.needs, need{id, uint32(len(c.needy) - 1)})
			}
		})
		if err != nil {
			return false, err
		}
	}
}

// meetNeeds makes those packs go whose parts go. It reports whether there were any.
func (c *collection) meetNeeds(ctx context.Context) (changed bool, err error) {
	slices.SortFunc(c.needs, func(a, b need) int { return a.part.Compare(b.part) })
	facts := map[PackName]*fact{}
	for _, f := range c.t.facts {
		facts[f.name] = f
	}
	rest := c.needs
	err = c.t.each(ctx, func(id objects.ID, copies []entry) error {
		for len(rest) > 0 && rest[0].part.Compare(id) < 0 {
			rest = rest[1:] // it is nowhere
		}
		n := 0
		for n < len(rest) && rest[n].part == id {
			n++
		}
		if n == 0 {
			return nil
		}
		lost := !c.isNeeded(id) && slices.ContainsFunc(copies, func(e entry) bool { return !e.isMadeOfParts() && c.t.pack(e).victim }) &&
			!slices.ContainsFunc(copies, func(e entry) bool { return !e.isMadeOfParts() && !c.t.pack(e).victim && !c.isBad(e) })
		for _, need := range rest[:n] {
			if f := facts[c.needy[need.of]]; lost && f != nil && !f.victim && !f.pinned {
				c.forced[f.name], f.victim, changed = true, true, true
			}
		}
		rest = rest[n:]
		return nil
	})
	return changed, err
}
