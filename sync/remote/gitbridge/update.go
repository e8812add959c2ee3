package gitbridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// Update moves refs of the server, and sends it what it lacks for that. The server compares
// with the values that it has.
func (r *Remote) Update(ctx context.Context, updates ...refs.Update) error {
	return r.UpdateCut(ctx, nil, updates...)
}

// Shallow returns the commits that the server may know as such without parents.
func (r *Remote) Shallow(ctx context.Context) ([]objects.ID, error) {
	if err := r.use(ctx); err != nil {
		return nil, err
	}
	return r.ids.allShallow(), nil
}

// UpdateCut is Update for one whose history ends at the commits cut.
func (r *Remote) UpdateCut(ctx context.Context, cut []objects.ID, updates ...refs.Update) error {
	if err := check(updates); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil || len(updates) == 0 {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.begin(ctx); err != nil {
		return err
	}
	// Somebody may push between the look at what is there and the push itself, so often
	// that there is no sense in going on.
	const tries = 10
	for try := 1; ; try++ {
		again, err := r.update(ctx, cut, updates)
		if !again || try == tries {
			return err
		}
		select {
		case <-time.After(rand.N(50 * time.Millisecond << min(try, 4))):
		case <-ctx.Done():
			return fmt.Errorf("%w, after: %w", ctx.Err(), err)
		}
	}
}

func check(updates []refs.Update) error {
	seen := map[refs.Name]bool{}
	for _, u := range updates {
		if err := u.Name.Check(); err != nil {
			return err
		}
		if !u.Name.IsBranch() && !u.Name.IsTag() {
			return fmt.Errorf("%s: %w: a Git server gets branches and tags", u.Name, refs.ErrBadName)
		}
		if seen[u.Name] {
			return fmt.Errorf("%s: updated twice at once", u.Name)
		}
		seen[u.Name] = true
	}
	return nil
}

// update tries once. Again says that there is sense in trying again.
func (r *Remote) update(ctx context.Context, cut []objects.ID, updates []refs.Update) (again bool, err error) {
	c, a, err := r.converse(ctx, receivePack)
	if err != nil {
		return false, err
	}
	defer c.close()
	there := ours(a)
	if len(r.unknown(there)) > 0 {
		// Another conversation of this repository may have pushed it.
		if err := r.ids.load(ctx); err != nil {
			return false, err
		}
	}
	if r.isNews(there, updates) {
		if err := c.close(); err != nil {
			return false, err
		}
		now, _, err := r.now(ctx)
		if err != nil {
			return false, err
		}
		if err := compare(r.translate(now), updates); err != nil {
			return false, err
		}
		return true, fmt.Errorf("%w: its refs move all the time", remote.ErrStale)
	}
	now := r.translate(there)
	if err := compare(now, updates); err != nil {
		return false, err
	}
	if err := free(a, updates); err != nil {
		return false, err
	}
	p, err := r.makePush(ctx, cut, now, there, updates)
	if err != nil || len(p.commands) == 0 {
		return false, err
	}
	if p.pack != nil {
		defer p.pack.close()
	}
	if first := inTheWay(p.commands); len(first) > 0 {
		// Git cannot do both in one step, not even where it moves all or none.
		if again, err := r.send(ctx, c, a, updates, pushed{commands: first}); err != nil {
			return again, err
		}
		p.commands = slices.DeleteFunc(p.commands, func(c command) bool { return slices.Contains(first, c) })
		if c, a, err = r.converse(ctx, receivePack); err != nil {
			return false, err
		}
		defer c.close()
	}
	return r.send(ctx, c, a, updates, p)
}

// inTheWay returns those commands that delete refs whose names others that are made begin
// with, or the other way round.
func inTheWay(commands []command) []command {
	var first []command
	for _, gone := range commands {
		blocks := func(made command) bool {
			return made.old.isZero() && (strings.HasPrefix(made.name, gone.name+"/") || strings.HasPrefix(gone.name, made.name+"/"))
		}
		if gone.new.isZero() && slices.ContainsFunc(commands, blocks) {
			first = append(first, gone)
		}
	}
	return first
}

// send pushes, and finds out what came of it.
func (r *Remote) send(ctx context.Context, c conversation, a *advert, updates []refs.Update, p pushed) (again bool, err error) {
	err = push(ctx, c, a, p.commands, p.pack)
	if err == nil {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, fmt.Errorf("%w, after: %w", ctx.Err(), err)
	}
	return r.settle(ctx, updates, p.commands, err, c.close())
}

// isNews reports whether some ref that is to be moved is at something that is not known.
func (r *Remote) isNews(there map[string]oid, updates []refs.Update) bool {
	return slices.ContainsFunc(updates, func(u refs.Update) bool {
		at, ok := there[string(u.Name)]
		if ok {
			_, ok = r.ids.ours(at, kinds...)
			return !ok
		}
		return false
	})
}

// settle finds out what became of a push that failed, or of which nothing is known. Again
// says that nothing became of it, and that this may be otherwise the next time.
func (r *Remote) settle(ctx context.Context, updates []refs.Update, commands []command, failed, closed error) (again bool, err error) {
	var refused *refusedError
	if !errors.As(failed, &refused) {
		failed = because(failed, closed)
	}
	there, _, err := r.now(ctx)
	if err != nil {
		return false, failed
	}
	before, after := 0, 0
	for _, c := range commands {
		switch there[c.name] {
		case c.old:
			before++
		case c.new:
			after++
		}
	}
	switch {
	case after == len(commands) && refused == nil:
		return false, nil // only the answer was lost
	case before == len(commands):
		return refused != nil && refused.isRace(), failed
	}
	if err := compare(r.translate(there), updates); err != nil {
		return false, err
	}
	return false, failed
}

// compare refuses updates of refs that are not where they were expected.
func compare(now []refs.Ref, updates []refs.Update) error {
	is := map[refs.Name]objects.ID{}
	for _, ref := range now {
		is[ref.Name] = ref.ID
	}
	for _, u := range updates {
		if is[u.Name] != u.Old {
			return &refs.ConflictError{Name: u.Name, Is: is[u.Name], Expected: u.Old}
		}
	}
	return nil
}

// free refuses names that begin with another's, or the other way round.
func free(a *advert, updates []refs.Update) error {
	all := map[string]bool{}
	for name := range a.refs {
		all[name] = true
	}
	made := map[string]bool{}
	for _, u := range updates {
		all[string(u.Name)] = !u.New.IsZero()
		made[string(u.Name)] = u.Old.IsZero() && !u.New.IsZero()
	}
	for name, is := range all {
		for dir := above(name); is && dir != ""; dir = above(dir) {
			if all[dir] && (made[name] || made[dir]) {
				return fmt.Errorf("%s: %w: it cannot be beside %s", name, refs.ErrNameTaken, dir)
			}
		}
	}
	return nil
}

func above(name string) string { return name[:max(0, strings.LastIndexByte(name, '/'))] }

// A pushed is what a push sends.
type pushed struct {
	commands []command
	pack     *packSpool // nil if refs are only deleted
}

func (r *Remote) makePush(ctx context.Context, cut []objects.ID, now []refs.Ref, there map[string]oid, updates []refs.Update) (p pushed, err error) {
	w := &outward{src: r.src, ids: r.ids, list: map[objects.ID]bool{}, memo: map[objects.ID]oid{}, sent: map[oid]bool{}}
	var have, tips []objects.ID
	for _, ref := range now {
		have = append(have, ref.ID)
		if at := there[string(ref.Name)]; ref.Name.IsBranch() {
			w.memo[ref.ID] = at
		}
	}
	for _, u := range updates {
		if u.New.IsZero() || u.New == u.Old {
			continue
		}
		k, err := r.src.KindOf(ctx, u.New)
		if err != nil {
			return p, fmt.Errorf("%s: %w", u.Name, err)
		}
		if u.Name.IsBranch() && k != objects.Commit {
			return p, fmt.Errorf("%s: %w: %s is a %s", u.Name, remote.ErrNotCommit, u.New.Short(), k)
		}
		tips = append(tips, u.New)
	}
	if len(tips) > 0 {
		if p.pack, err = newPackSpool(r.o.Dir); err != nil {
			return p, err
		}
		w.pack = p.pack
		w.inPieces = sync.OnceValue(func() map[objects.ID]bool { return r.inPieces(ctx, have) })
		if err = r.fill(ctx, w, tips, have, cut); err == nil {
			err = r.ids.flush(ctx)
		}
		if err != nil {
			p.pack.close()
			return p, err
		}
	}
	for _, u := range updates {
		if u.New == u.Old {
			continue
		}
		c := command{name: string(u.Name), old: there[string(u.Name)]}
		if !u.New.IsZero() {
			if c.new, err = w.any(ctx, u.New); err != nil {
				p.pack.close()
				return p, err
			}
		}
		p.commands = append(p.commands, c)
	}
	return p, nil
}

// inPieces returns the blobs that stand in pieces in what refs of the server point to, as far as
// that can be told: one that is known there in pieces and as a whole may be either.
func (r *Remote) inPieces(ctx context.Context, have []objects.ID) map[objects.ID]bool {
	found := map[objects.ID]bool{}
	seen := new(reach.Set)
	for _, id := range have {
		c, err := objects.ReadCommit(ctx, r.src, id)
		if err != nil {
			continue
		}
		// What cannot be read is not found, and sent once more.
		_ = reach.Walk(ctx, r.src, []objects.ID{c.Tree}, reach.Options{
			Seen: seen,
			Visit: func(id objects.ID, k objects.Kind) error {
				if k != objects.Blob {
					return nil
				}
				_, cut := r.ids.git(id, pieces)
				_, plain := r.ids.git(id, whole)
				if cut && !plain {
					found[id] = true
				}
				return nil
			},
			Missing: func(reach.Missing) error { return nil },
		})
	}
	return found
}

// fill puts into the pack what tips lead to and have do not.
func (r *Remote) fill(ctx context.Context, w *outward, tips, have, cut []objects.ID) error {
	blobs, err := r.since(ctx, w, tips, have, cut)
	if err != nil {
		return err
	}
	if err := w.blobs(ctx, blobs); err != nil {
		return err
	}
	for _, id := range tips {
		if _, err := w.any(ctx, id); err != nil {
			return err
		}
	}
	// What the map knew all along was not met.
	for id := range w.list {
		if _, err := w.any(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// since lists what is to be sent, and returns the blobs of it. Which commits are to be
// sent as such without parents is found out before.
func (r *Remote) since(ctx context.Context, w *outward, tips, have, cut []objects.ID) (blobs []objects.ID, err error) {
	if len(cut) > 0 {
		if w.lacking, err = r.lacking(ctx, tips, have, cut); err != nil {
			return nil, err
		}
	}
	err = reach.Since(ctx, r.src, tips, have, reach.Options{
		CheckBlobs:   true,
		Shallow:      func(id objects.ID) bool { return w.lacking[id] },
		ShallowThere: r.ids.shallow,
		Visit: func(id objects.ID, k objects.Kind) error {
			switch {
			case k == objects.Blob:
				blobs = append(blobs, id)
			case id != objects.EmptyTree:
				w.list[id] = false
			}
			return nil
		},
	})
	return blobs, err
}

// lacking returns those of cut whose parents the server has not and does not get.
func (r *Remote) lacking(ctx context.Context, tips, have, cut []objects.ID) (map[objects.ID]bool, error) {
	// All commits that the server has, or gets.
	there := map[objects.ID]bool{}
	note := func(id objects.ID, k objects.Kind) error {
		if k == objects.Commit {
			there[id] = true
		}
		return nil
	}
	known := slices.DeleteFunc(slices.Clone(have), func(id objects.ID) bool {
		_, err := r.src.KindOf(ctx, id)
		return errors.Is(err, objects.ErrNotFound)
	})
	err := reach.Walk(ctx, r.src, known, reach.Options{
		Commits: true, Shallow: r.ids.shallow, Visit: note,
		Missing: func(reach.Missing) error { return nil },
	})
	if err != nil {
		return nil, err
	}
	isCut := map[objects.ID]bool{}
	for _, id := range cut {
		isCut[id] = true
	}
	var met []objects.ID
	err = reach.Walk(ctx, r.src, tips, reach.Options{
		Commits: true,
		Shallow: func(id objects.ID) bool { return isCut[id] || r.ids.shallow(id) },
		Visit: func(id objects.ID, k objects.Kind) error {
			if isCut[id] && !there[id] {
				met = append(met, id)
			}
			return note(id, k)
		},
		Missing: func(m reach.Missing) error {
			if errors.Is(m, objects.ErrNotFound) {
				return nil
			}
			return m
		},
	})
	if err != nil {
		return nil, err
	}
	lacking := map[objects.ID]bool{}
	for _, id := range met {
		c, err := objects.ReadCommit(ctx, r.src, id)
		if err != nil {
			return nil, err
		}
		lacking[id] = slices.ContainsFunc(c.Parents, func(p objects.ID) bool { return !there[p] })
	}
	return lacking, nil
}
