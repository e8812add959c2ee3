package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// owned remembers for a while what clients have brought, of those who may not read
// everything: until a ref leads to it nothing else shows that they know it. Who is
// forgotten too early brings it again.
type owned struct {
	mu  sync.Mutex
	all map[string]*possession // guarded by mu
}

type possession struct {
	ids  *reach.Set
	used time.Time
}

const (
	// maxOwned is how many ids are remembered of all clients, about 30 bytes each,
	// and maxOwners of how many clients.
	maxOwned  = 8 << 20
	maxOwners = 1 << 10

	// ownedFor is for how long the ids of a client are remembered that is silent.
	ownedFor = time.Hour
)

// of returns what a client has brought, nil if that is nothing.
func (o *owned) of(key string) *reach.Set {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.all[key]
	if p == nil {
		return nil
	}
	p.used = time.Now()
	return p.ids
}

// add adds to what a client has brought.
func (o *owned) add(key string, brought *reach.Set) {
	o.mu.Lock()
	p := o.all[key]
	if p == nil {
		o.tidy()
		p = &possession{ids: new(reach.Set)}
		o.all[key] = p
	}
	p.used = time.Now()
	o.mu.Unlock()
	p.ids.AddAll(brought)
}

// recalling does what fails if something is unknown to the client. Then it looks what he
// has brought to other servers, and does it again.
func (x *exchange) recalling(ctx context.Context, store Store, v *view, do func() error) error {
	err := do()
	r, ok := store.(Register)
	if !ok || !errors.Is(err, objects.ErrNotFound) {
		return err
	}
	brought := new(reach.Set)
	if err := r.Brought(ctx, x.who.key, brought); err != nil {
		return err
	}
	if brought.Len() == 0 {
		return err
	}
	x.s.owned.add(x.who.key, brought)
	v.owned = x.s.owned.of(x.who.key)
	return do()
}

// tidy makes room for one more client: those go that have been silent, and if that
// is not enough all. o.mu is held.
func (o *owned) tidy() {
	total := 0
	for key, p := range o.all {
		if time.Since(p.used) > ownedFor {
			delete(o.all, key)
			continue
		}
		total += p.ids.Len()
	}
	if o.all == nil || total > maxOwned || len(o.all) >= maxOwners {
		o.all = map[string]*possession{}
	}
}

// bring returns the ids in a pack, of a client who must know all that is in it:
// what a big blob is made of, and what a tree differs from, he has brought too, or
// may read.
func (v *view) bring(ctx context.Context, p spooled) (*reach.Set, error) {
	brought, n := new(reach.Set), 0
	made := false // some of it is made of something else
	err := eachRecord(ctx, p, func(t pack.Type, id objects.ID, _ []byte) error {
		if t == pack.Recipe || t == pack.Delta {
			made = true
			return nil
		}
		brought.Add(id)
		if n++; n > maxOwned/2 {
			return wire.Errorf(wire.TooLarge, "a pack with more than %d objects", maxOwned/2)
		}
		return nil
	})
	if err != nil || !made {
		return brought, err
	}
	has := func(id objects.ID) bool { return brought.Has(id) || v.has(id) }
	return brought, eachRecord(ctx, p, func(t pack.Type, id objects.ID, body []byte) error {
		part, err := unknownPart(t, body, has)
		if err == nil && !part.IsZero() {
			err = fmt.Errorf("%s %s: its part %s: %w", t, id.Short(), part.Short(), objects.ErrNotFound)
		}
		if err == nil {
			brought.Add(id)
		}
		return err
	})
}

// unknownPart returns a part of a record that has denies, or zero.
func unknownPart(t pack.Type, body []byte, has func(objects.ID) bool) (objects.ID, error) {
	switch t {
	case pack.Recipe:
		recipe, err := pack.ParseRecipe(body)
		if err != nil {
			return objects.ID{}, err
		}
		for i := range recipe.Len() {
			if id := recipe.Piece(i).ID; !has(id) {
				return id, nil
			}
		}
	case pack.Delta:
		d, err := pack.ParseDelta(body)
		if err != nil {
			return objects.ID{}, err
		}
		if !has(d.Base) {
			return d.Base, nil
		}
	}
	return objects.ID{}, nil
}

func eachRecord(ctx context.Context, p spooled, fn func(t pack.Type, id objects.ID, body []byte) error) error {
	return pack.Scan(p, p.size, func(_ pack.BlockInfo, d *pack.Data, err error) error {
		for i := 0; err == nil && i < d.Len(); i++ {
			if err = ctx.Err(); err != nil {
				return err
			}
			t, body := d.Record(i)
			var id objects.ID
			if id, err = pack.RecordID(t, body); err == nil {
				err = fn(t, id, body)
			}
		}
		return err
	})
}

// mayLead refuses to move refs to what leads to anything that the client does not
// know. To him that is not there, as it is where it really is not.
func (v *view) mayLead(ctx context.Context, store Store, updates []refs.Update) error {
	var tips []objects.ID
	for _, u := range updates {
		if u.New.IsZero() || u.New == u.Old {
			continue
		}
		if !v.has(u.New) {
			return errIncomplete
		}
		tips = append(tips, u.New)
	}
	if len(tips) == 0 {
		return nil
	}
	return store.Reach(ctx, tips, v.seen.Clone(), func(id objects.ID) error {
		if !v.has(id) {
			return errIncomplete
		}
		return nil
	})
}

var errIncomplete = fmt.Errorf("something is not there that the refs would lead to: %w", objects.ErrNotFound)
