package action

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// An Explanation says why a run was not a hit.
type Explanation struct {
	Run    Ran    // the run; without a time if the log does not have it any more
	Reason string // in a sentence

	// What differs from Nearest, the earlier action that it differs least from.
	// Nearest is zero if there is none, or if Reason says it all.
	Nearest     Ran
	Differences []Difference
}

// ErrNoRun says that there is nothing to explain.
var ErrNoRun = errors.New("no such run")

const (
	maxCandidates = 256   // earlier actions that are compared
	maxSearched   = 10000 // entries that are looked at where the log knows nothing
)

// Explain says why the last run that was no hit, or the last such run with this
// key, had to run its command. The key may be cut short, to four digits or more.
func Explain(ctx context.Context, store Store, dir, key string) (Explanation, error) {
	log, err := Log(dir)
	if err != nil {
		return Explanation{}, err
	}
	x := explainer{store: store, log: log}
	at, err := x.choose(ctx, strings.ToLower(key))
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Run: x.run}
	if x.run.Outcome == Uncached {
		e.Reason = fmt.Sprintf("it ran, and its result was not kept: %s", x.run.Reason)
	}
	if reason := x.same(at); reason != "" {
		e.Reason = join(e.Reason, reason)
		return e, nil
	}
	if x.action, _, err = ReadAction(ctx, store, x.run.Key); err != nil {
		e.Reason = join(e.Reason, "what it depended on was not recorded")
		return e, nil
	}
	if e.Nearest, e.Differences, err = x.nearest(ctx, at); err != nil {
		return e, err
	}
	if e.Nearest.Key.IsZero() {
		e.Reason = join(e.Reason, "nothing like it ran before")
	}
	return e, nil
}

func join(reason, more string) string {
	if reason == "" {
		return more
	}
	return reason + "; " + more
}

type explainer struct {
	store Store
	log   []Ran

	run    Ran // to explain
	action Action
}

// choose finds the run to explain, and where in the log it stands.
func (x *explainer) choose(ctx context.Context, key string) (at int, err error) {
	for i, r := range slices.Backward(x.log) {
		if r.Outcome != Hit && strings.HasPrefix(r.Key.String(), key) && (key == "" || len(key) >= 4) {
			x.run = r
			return i, nil
		}
	}
	if key == "" {
		return 0, fmt.Errorf("%w: no run has missed yet", ErrNoRun)
	}
	// One that another machine made, perhaps.
	id, err := objects.ParseID(key)
	if err == nil {
		_, err = x.store.Lookup(ctx, entry.Run, key)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s", ErrNoRun, key)
	}
	x.run.Key = id
	return len(x.log), nil
}

// same looks for an earlier run of the very same action: then nothing differs,
// and something else is why its result was not there.
func (x *explainer) same(at int) string {
	for _, r := range slices.Backward(x.log[:at]) {
		switch {
		case r.Key != x.run.Key || r.Key.IsZero():
		case r.Outcome == Uncached:
			return "the same was run before, and its result was not kept either: " + r.Reason
		default:
			return "the same was run before, and its result is gone, or in a branch that is not read"
		}
	}
	return ""
}

// nearest returns the earlier run that differs least: one of the same family if
// there is any, the last one of those that differ equally.
func (x *explainer) nearest(ctx context.Context, at int) (near Ran, least []Difference, err error) {
	consider := func(r Ran) error {
		found, err := compare(ctx, x.store, r.Key, x.run.Key)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil // collected since
		}
		if len(found) > 0 && (near.Key.IsZero() || len(found) < len(least)) {
			near, least = r, found
		}
		return nil
	}
	seen := map[objects.ID]bool{x.run.Key: true}
	for _, related := range []bool{true, false} {
		for _, r := range slices.Backward(x.log[:at]) {
			if (r.Family == x.run.Family) != related || r.Key.IsZero() || seen[r.Key] || len(seen) > maxCandidates {
				continue
			}
			seen[r.Key] = true
			if !related && !x.sameProgram(ctx, r.Key) {
				continue
			}
			if err := consider(r); err != nil {
				return near, least, err
			}
		}
		if !near.Key.IsZero() {
			return near, least, nil
		}
	}
	err = x.search(ctx, seen, consider)
	return near, least, err
}

// search considers what is stored, for results that others have made.
func (x *explainer) search(ctx context.Context, seen map[objects.ID]bool, consider func(Ran) error) error {
	searched := 0
	for found, err := range x.store.Entries(ctx, entry.Run) {
		if searched++; err != nil || searched > maxSearched || len(seen) > maxCandidates {
			return err
		}
		key, err := objects.ParseID(found.Key)
		if err != nil || seen[key] || !x.sameProgram(ctx, key) {
			continue
		}
		seen[key] = true
		a, _, err := ReadAction(ctx, x.store, key)
		if err != nil {
			continue
		}
		if err := consider(Ran{Key: key, Label: label(a.Args)}); err != nil {
			return err
		}
	}
	return nil
}

// sameProgram keeps what has nothing in common from being compared.
func (x *explainer) sameProgram(ctx context.Context, key objects.ID) bool {
	a, _, err := ReadAction(ctx, x.store, key)
	return err == nil && filepath.Base(a.Args[0]) == filepath.Base(x.action.Args[0])
}
