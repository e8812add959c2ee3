package bucket

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// Shallow returns the commits whose parents were cut off.
func (r *Remote) Shallow(ctx context.Context) ([]objects.ID, error) {
	v, err := r.known(ctx)
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Keys(v.Shallow), objects.ID.Compare), nil
}

// A past reads the history in a bucket. It remembers what it has read: after a lost
// swap it is needed again.
type past struct {
	r       *Remote
	commits map[objects.ID]objects.CommitBody
}

// cutOff notes in s those of cut that have parents which no ref of s leads to. Those
// that a ref leads to are there with all that they lead to; others may be left over of
// something that is being collected.
func (p *past) cutOff(ctx context.Context, v *view, s *State, cut []objects.ID) error {
	cut = slices.DeleteFunc(slices.Clone(cut), func(id objects.ID) bool { return s.Shallow[id] })
	if len(cut) == 0 {
		return nil
	}
	if err := p.read(ctx, v, cut); err != nil {
		return err
	}
	sought := map[objects.ID]bool{}
	for _, id := range cut {
		for _, parent := range p.commits[id].Parents {
			sought[parent] = true
		}
	}
	// As a rule they are missing, and no history need be read.
	missing, err := p.missing(ctx, v, slices.Collect(maps.Keys(sought)))
	if err != nil {
		return err
	}
	for _, id := range missing {
		delete(sought, id)
	}
	led := map[objects.ID]bool{}
	if err := p.ledTo(ctx, v, v.Refs, v.Shallow, sought, led); err != nil {
		return err
	}
	ends := maps.Clone(v.Shallow)
	for _, id := range cut {
		ends[id] = true
	}
	if err := p.ledTo(ctx, v, s.Refs, ends, sought, led); err != nil {
		return err
	}
	for _, id := range cut {
		if slices.ContainsFunc(p.commits[id].Parents, func(parent objects.ID) bool { return !led[parent] }) {
			s.Shallow[id] = true
		}
	}
	return nil
}

func (p *past) missing(ctx context.Context, v *view, ids []objects.ID) ([]objects.ID, error) {
	return p.r.missing(ctx, func(context.Context) (*view, error) { return v, nil }, ids, func(place) bool { return true })
}

// ledTo adds to led those of sought that refs lead to, where history ends at ends. It
// goes back no further than it must.
func (p *past) ledTo(ctx context.Context, v *view, tips map[refs.Name]objects.ID, ends, sought, led map[objects.ID]bool) error {
	seen := map[objects.ID]bool{}
	for level := slices.Collect(maps.Values(tips)); len(level) > 0 && len(led) < len(sought); {
		level = slices.DeleteFunc(level, func(id objects.ID) bool {
			again := seen[id]
			seen[id] = true
			if sought[id] {
				led[id] = true
			}
			return again
		})
		if len(led) == len(sought) {
			return nil
		}
		if err := p.read(ctx, v, level); err != nil {
			return err
		}
		var next []objects.ID
		for _, id := range level {
			if !ends[id] {
				next = append(next, p.commits[id].Parents...)
			}
		}
		level = next
	}
	return nil
}

// read reads commits. A tag is read as if it were one whose parent is what it names;
// what is neither, or not there, leads nowhere. What else is in the same blocks, which
// was made at about the same time, is remembered, too.
func (p *past) read(ctx context.Context, v *view, ids []objects.ID) error {
	if p.commits == nil {
		p.commits = map[objects.ID]objects.CommitBody{}
	}
	known := func(id objects.ID) bool {
		_, ok := p.commits[id]
		return ok
	}
	want := slices.DeleteFunc(slices.Clone(ids), known)
	missing, err := p.missing(ctx, v, want)
	if err != nil {
		return err
	}
	for _, id := range missing {
		p.commits[id] = objects.CommitBody{}
	}
	if want = slices.DeleteFunc(want, known); len(want) == 0 {
		return nil
	}
	body, err := p.r.Fetch(ctx, remote.Request{Want: want})
	if err != nil {
		return err
	}
	defer body.Close()
	blocks := body.(pack.Source)
	var data pack.Data
	for {
		block, err := blocks.Next(nil)
		if err == io.EOF {
			break
		}
		if err == nil {
			err = data.Decode(block)
		}
		if err == nil {
			err = p.take(&data)
		}
		if err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	for _, id := range want {
		if !known(id) {
			p.commits[id] = objects.CommitBody{}
		}
	}
	return nil
}

// take remembers the commits and tags of a block, by the ids that they hash to.
func (p *past) take(data *pack.Data) error {
	for i := range data.Len() {
		t, body := data.Record(i)
		var c objects.CommitBody
		switch t {
		case pack.Commit:
			var err error
			if c, err = objects.ParseCommit(body); err != nil {
				return err
			}
		case pack.Tag:
			tag, err := objects.ParseTag(body)
			if err != nil {
				return err
			}
			c.Parents = []objects.ID{tag.Object}
		}
		id, err := pack.RecordID(t, body)
		if err != nil {
			return err
		}
		p.commits[id] = c
	}
	return nil
}

var _ remote.Cutter = (*Remote)(nil)
