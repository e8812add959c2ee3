package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// A step is one ref on its way.
type step struct {
	here, there refs.Name // here is empty for a deletion
	force       bool
	update      refs.Update
	status      string
}

// steps returns which ref of the remote is to become what, as of now.
func (x *exchange) steps(ctx context.Context, p pushing) ([]step, error) {
	var steps []step
	add := func(st step) error {
		for _, other := range steps {
			if other.there == st.there {
				if other.here == st.here {
					return nil
				}
				return usagef("%s is to be written twice", st.there)
			}
		}
		steps = append(steps, st)
		return nil
	}
	for _, spec := range p.specs {
		if spec.src == "" {
			if err := add(step{there: refs.Name(spec.dst)}); err != nil {
				return nil, err
			}
			continue
		}
		found, err := x.matching(ctx, spec)
		if err != nil {
			return nil, err
		}
		for _, st := range found {
			if err := add(st); err != nil {
				return nil, err
			}
		}
	}
	if p.prune {
		for name := range x.there {
			if name.IsBranch() && !slices.ContainsFunc(steps, func(st step) bool { return st.there == name }) {
				steps = append(steps, step{there: name})
			}
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return strings.Compare(string(a.there), string(b.there)) })
	return steps, nil
}

// matching returns a step for each ref here that a refspec is about.
func (x *exchange) matching(ctx context.Context, spec refspec) ([]step, error) {
	if !strings.Contains(spec.src, "*") {
		st := step{here: refs.Name(spec.src), there: refs.Name(spec.dst), force: spec.force}
		if tag := refs.Tag(st.here.Short()); st.here == st.there && st.here.IsBranch() && !x.has(ctx, st.here) && x.has(ctx, tag) {
			st.here, st.there = tag, tag
		}
		return []step{st}, nil
	}
	var steps []step
	before, _, _ := strings.Cut(spec.src, "*")
	for ref, err := range x.r.Refs.All(ctx, before) {
		if err != nil {
			return nil, err
		}
		if there, ok := spec.target(ref.Name); ok {
			steps = append(steps, step{here: ref.Name, there: there, force: spec.force})
		}
	}
	return steps, nil
}

// has reports whether there is such a ref here, or something staged for it.
func (x *exchange) has(ctx context.Context, name refs.Name) bool {
	if _, err := x.r.Refs.Get(ctx, name); err == nil {
		return true
	}
	if !name.IsBranch() {
		return false
	}
	staged, err := x.r.Stage(name).Count(ctx)
	return err == nil && staged > 0
}

// prepare finds out what becomes of one ref, and merges where that is needed.
func (x *exchange) prepare(ctx context.Context, st *step, p pushing) error {
	is := x.there[st.there]
	st.update = refs.Update{Name: st.there, Old: is, Reason: "push"}
	if st.here == "" {
		if is.IsZero() {
			return withHint(fmt.Errorf("%s: no such ref at %s", st.there, x.m), `"cache-tool remote show" lists them`)
		}
		st.status = refDeleted
		return nil
	}
	tip, err := x.tip(ctx, st.here, p.dryRun)
	if err != nil {
		return err
	}
	st.update.New = tip
	switch {
	case is == tip:
		st.status = refUpToDate
		return nil
	case is.IsZero():
		st.status = refCreated
		return nil
	case st.force:
		st.status = refForced
		return nil
	case p.force:
		return x.lease(ctx, st, is)
	case !st.here.IsBranch():
		return &conflictError{text: fmt.Sprintf("%s is at %s there, %s here", st.there, is.Short(), tip.Short()),
			hints: []string{fmt.Sprintf("+%s replaces it", st.there)}}
	}
	return x.advance(ctx, st, is, p)
}

// tip returns where a ref here is; what is staged for a branch is committed first.
func (x *exchange) tip(ctx context.Context, name refs.Name, dryRun bool) (objects.ID, error) {
	if name.IsBranch() && !dryRun {
		staged, err := x.r.Stage(name).Count(ctx)
		if err != nil {
			return objects.ID{}, err
		}
		if staged > 0 {
			if _, _, err := x.r.FoldStage(ctx, name, ""); err != nil {
				return objects.ID{}, err
			}
		}
	}
	id, err := x.r.Refs.Get(ctx, name)
	if errors.Is(err, refs.ErrNotFound) {
		return id, withHint(fmt.Errorf("%s: no such branch or tag here", shown(name.Short())), `"cache-tool branch --list" and "cache-tool tag" show what there is`)
	}
	return id, err
}

// lease replaces a branch if it is where it was seen last.
func (x *exchange) lease(ctx context.Context, st *step, is objects.ID) error {
	name := x.tracking(st.there)
	if name == "" {
		return &usageError{"--force-with-lease wants a branch of a remote with a name: where others were is not remembered",
			[]string{fmt.Sprintf("+%s replaces it, whatever it is", st.there.Short())}}
	}
	seen, err := x.r.Refs.Get(ctx, name)
	if err != nil && !errors.Is(err, refs.ErrNotFound) {
		return err
	}
	if seen == is {
		st.status = refForced
		return nil
	}
	where := "not at " + seen.Short() + ", where it was seen last"
	if seen.IsZero() {
		where = "has never been seen from here"
	}
	return &conflictError{text: fmt.Sprintf("%s is at %s there, and %s", st.there, is.Short(), where),
		hints: []string{fmt.Sprintf(`run "cache-tool fetch %s", look at what is new, and push again`, x.m)}}
}

// advance brings what the remote has into the branch here, unless it is in it
// already.
func (x *exchange) advance(ctx context.Context, st *step, is objects.ID, p pushing) error {
	st.status = refUpdated
	if known, err := x.descends(ctx, st.update.New, is); known || err != nil {
		return err
	}
	if p.dryRun {
		st.status = refMerged
		return nil
	}
	var merged repo.Merged
	err := x.bring(ctx, []objects.ID{is}, x.m.lazy, func(ctx context.Context) (err error) {
		if err = x.remember(ctx, st.there, is, "push: fetched"); err == nil {
			merged, err = x.merge(ctx, st.here, is)
		}
		return err
	})
	if err != nil {
		return err
	}
	st.update.New = merged.Tip
	if st.status = refMerged; merged.Tip == is {
		st.status = refPulled // there was nothing that the remote lacks
	}
	return nil
}

// descends reports whether commit has ancestor in its history here.
func (x *exchange) descends(ctx context.Context, commit, ancestor objects.ID) (bool, error) {
	if missing, err := x.r.DB.Missing(ctx, []objects.ID{ancestor}); err != nil || len(missing) > 0 {
		return false, err
	}
	base, err := x.r.MergeBase(ctx, commit, ancestor)
	if errors.Is(err, objects.ErrNotFound) {
		return false, nil // a fetch was broken off: not all that it leads to has come
	}
	return base == ancestor, err
}
