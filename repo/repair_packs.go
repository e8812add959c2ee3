package repo

import (
	"context"
	"io"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
)

// packs finds what is damaged in packs, fetches what is lost with it, and leaves
// in the packs what can be read and nothing else.
func (m *mender) packs(ctx context.Context) error {
	var bad []string
	var made []objects.ID
	var want []objects.ID
	err := m.r.DB.Verify(ctx, odb.VerifyOptions{Quick: m.o.Quick, Progress: m.o.Progress}, func(p odb.Problem) {
		switch {
		case p.Pack != "":
			bad = append(bad, p.Pack)
			if !p.ID.IsZero() {
				m.hit[p.Pack]++
			}
		case !p.ID.IsZero():
			made = append(made, p.ID)
		}
		if p.Lost && !p.ID.IsZero() {
			want = append(want, p.ID)
		}
	})
	if err != nil {
		return err
	}
	slices.Sort(bad)
	dropped, err := m.mend(ctx, slices.Compact(bad), nil)
	if err != nil {
		return err
	}
	want = append(want, dropped...)
	for _, id := range made {
		parts, err := m.r.DB.Parts(ctx, id)
		if err != nil {
			continue // it is gone with a pack
		}
		want = append(want, parts...)
	}
	for _, id := range want {
		m.lost[id] = true
	}
	if err := m.fetch(ctx, want); err != nil {
		return err
	}
	return m.dropBroken(ctx, made)
}

// mend rewrites packs, and returns what they do not have any more.
func (m *mender) mend(ctx context.Context, packs []string, drop func(objects.ID) bool) ([]objects.ID, error) {
	all, err := m.r.DB.Mend(ctx, packs, drop)
	var dropped []objects.ID
	for _, p := range all {
		packs = slices.DeleteFunc(packs, func(name string) bool { return name == p.Pack })
		dropped = append(dropped, p.Dropped...)
		switch {
		case p.Err != nil: // the check at the end says so
		case p.Index:
			m.done("packs", "pack %s: its index is made anew", p.Pack)
		default:
			what := "rewritten with all that is good in it"
			if n := max(len(p.Dropped), m.hit[p.Pack]); n > 0 {
				what += ", without " + counted(n, "damaged object")
			}
			m.done("packs", "pack %s: %s", p.Pack, what)
		}
	}
	for _, name := range packs { // whoever met a damaged index has made it anew
		m.done("packs", "pack %s: its index is made anew", name)
	}
	return dropped, err
}

// dropBroken takes out of the packs what is made of parts that can't be had: then it
// is missing, and may be had as a whole.
func (m *mender) dropBroken(ctx context.Context, made []objects.ID) error {
	broken, err := m.unreadable(ctx, made)
	if err != nil || len(broken) == 0 {
		return err
	}
	if _, err := m.r.DB.KeepWhole(ctx, broken); err != nil {
		return err
	}
	if broken, err = m.unreadable(ctx, broken); err != nil || len(broken) == 0 {
		return err
	}
	if m.isUnsure() {
		return nil // its parts may come later, and the list of them is good
	}
	drop := map[objects.ID]bool{}
	for _, id := range broken {
		drop[id], m.lost[id] = true, true
	}
	packs, err := m.r.DB.PacksOf(broken)
	if err != nil {
		return err
	}
	if _, err := m.mend(ctx, packs, func(id objects.ID) bool { return drop[id] }); err != nil {
		return err
	}
	return m.fetch(ctx, broken)
}

// unreadable returns those of ids that can't be read to their end.
func (m *mender) unreadable(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	var broken []objects.ID
	for _, id := range ids {
		o, err := m.r.DB.Open(ctx, id)
		if err == nil {
			_, err = io.Copy(io.Discard, o.Body)
			o.Body.Close()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			broken = append(broken, id)
		}
	}
	return broken, nil
}

// fetch brings what can be had of ids, from one donor after the other.
func (m *mender) fetch(ctx context.Context, ids []objects.ID) error {
	for _, s := range m.o.Donors {
		missing, err := m.r.DB.Missing(ctx, ids)
		if err != nil || len(missing) == 0 {
			return err
		}
		if m.down[s] != nil {
			continue
		}
		err = s.Fetch(ctx, missing)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			m.down[s] = err
		}
		now, err := m.r.DB.Missing(ctx, missing)
		if err != nil {
			return err
		}
		if n := len(missing) - len(now); n > 0 {
			m.came[s] += n
		}
		ids = now
	}
	return nil
}

// bring fetches what refs and the stage lead to and is not here, however deep what
// comes leads.
func (m *mender) bring(ctx context.Context) error {
	var missing []objects.ID
	c := &checker{repo: m.r, report: func(Problem) {}, lost: func(_ tip, l reach.Missing) { missing = append(missing, l.ID) }}
	for _, part := range []func(context.Context) error{c.refs, c.stages, c.reach} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	for len(missing) > 0 {
		if err := m.fetch(ctx, missing); err != nil {
			return err
		}
		still, err := m.r.DB.Missing(ctx, missing)
		if err != nil {
			return err
		}
		gone := map[objects.ID]bool{}
		for _, id := range still {
			gone[id], m.lost[id] = true, true
		}
		came := slices.DeleteFunc(missing, func(id objects.ID) bool { return gone[id] })
		if missing, err = m.below(ctx, came); err != nil {
			return err
		}
	}
	for _, s := range m.o.Donors {
		if n := m.came[s]; n > 0 {
			m.done("objects", "%s fetched from %s", counted(n, "object"), s)
		}
	}
	m.holes = newHoles(m.r.DB, nil)
	if m.r.IsLazy() {
		m.holes.promised = func(id objects.ID) bool { return !m.lost[id] }
	}
	return nil
}

// below returns what is missing of all that ids lead to.
func (m *mender) below(ctx context.Context, ids []objects.ID) (missing []objects.ID, err error) {
	if len(ids) == 0 || m.r.IsLazy() { // what comes leads to what is promised
		return nil, nil
	}
	shallow, err := m.r.Shallow()
	if err != nil {
		shallow = nil // it is mended later
	}
	err = reach.Walk(ctx, m.r.DB, ids, reach.Options{
		CheckBlobs: true,
		Unplaced:   true,
		Shallow:    func(id objects.ID) bool { return shallow[id] },
		Missing: func(l reach.Missing) error {
			if !m.lost[l.ID] {
				missing = append(missing, l.ID)
			}
			return nil
		},
	})
	return missing, err
}
