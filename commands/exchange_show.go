package commands

import (
	"context"
	"fmt"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
)

// A settledJSON is an entry that both sides had made, each in its own way.
type settledJSON struct {
	Kind entry.Kind `json:"kind"`
	Key  string     `json:"key"`
}

// settledEntries names what was settled.
func (x *exchange) settledEntries(ctx context.Context) []settledJSON {
	var list []settledJSON
	for _, c := range x.settled {
		d := describeConflict(ctx, x.r, c.Path, c.Base, c.Ours, c.Theirs)
		list = append(list, settledJSON{d.Kind, d.Key})
	}
	return list
}

// warnOfSettled tells which entries differ here and there: a build whose result
// depends on more than its key is worth knowing about.
func (x *exchange) warnOfSettled(list []settledJSON) {
	if len(list) == 0 {
		return
	}
	const most = 5
	var names []string
	for i, e := range list {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		names = append(names, shown(shownPath(e.Kind, e.Key)))
	}
	what := "has other bytes"
	if len(list) > 1 {
		what = "have other bytes"
	}
	x.s.warn("%s %s here than at %s: what was there first stays: %s", counted(len(list), "entry"), what, x.m, strings.Join(names, ", "))
}

// A movedRef is what became of one ref of a push, a fetch or a pull.
type movedRef struct {
	Ref    string      `json:"ref"` // where it was written
	Old    *objects.ID `json:"old,omitempty"`
	New    *objects.ID `json:"new,omitempty"`
	Status string      `json:"status"` // see the constants
}

// What becomes of a ref.
const (
	refUpToDate = "up to date"
	refCreated  = "new"
	refUpdated  = "updated"
	refMerged   = "merged"
	refForced   = "forced"
	refDeleted  = "deleted"
	refPulled   = "pulled" // a push found that the branch here was behind
)

func moved(name refs.Name, old, now objects.ID, status string) movedRef {
	m := movedRef{Ref: string(name), Status: status}
	if !old.IsZero() {
		m.Old = &old
	}
	if !now.IsZero() {
		m.New = &now
	}
	return m
}

// An exchangedJSON is what --json says of a push, a fetch or a pull.
type exchangedJSON struct {
	Remote  string        `json:"remote"`
	DryRun  bool          `json:"dryRun,omitempty"`
	Refs    []movedRef    `json:"refs"`
	Objects int           `json:"objects"`
	Bytes   int64         `json:"bytes"` // of packs
	Packs   int           `json:"packs"`
	Settled []settledJSON `json:"settled,omitempty"`
}

// show tells what a push, fetch or pull came to: a line for each ref that moved,
// or one for all.
func (x *exchange) show(ctx context.Context, verb string, dryRun bool, list []movedRef) error {
	if len(x.there) == 0 && verb != "push" {
		x.s.warn("there is nothing at %s yet: the first push to it brings something", shown(x.m.String()))
	}
	settled := x.settledEntries(ctx)
	x.warnOfSettled(settled)
	if list == nil {
		list = []movedRef{}
	}
	if x.s.json {
		return x.s.answer(exchangedJSON{x.m.String(), dryRun, list, x.stats.Objects, x.stats.Bytes, x.stats.Packs, settled})
	}
	var parts []string
	for _, m := range list {
		if m.Status == refUpToDate {
			continue
		}
		part := shown(refs.Name(m.Ref).Short()) + " " + m.Status
		if m.New != nil {
			part += " " + m.New.Short()
		}
		parts = append(parts, part)
	}
	if dryRun {
		verb += " (dry run)"
	}
	switch {
	case len(parts) == 0 && x.stats.Objects == 0:
		x.s.say("%s %s: everything is up to date", verb, shown(x.m.String()))
		return nil
	case len(parts) == 0:
		parts = append(parts, "no branch moved")
	}
	if dryRun && x.stats.Objects == 0 { // what would come is not known
		x.s.say("%s %s: %s", verb, shown(x.m.String()), strings.Join(parts, ", "))
		return nil
	}
	x.s.say("%s %s: %s (%s, %s)", verb, shown(x.m.String()), strings.Join(parts, ", "), counted(x.stats.Objects, "object"), size(x.stats.Bytes))
	return nil
}
