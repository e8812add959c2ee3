package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote"
)

func pushCommand(s *session) *cli.Command {
	var p pushing
	return &cli.Command{
		Name:      "push",
		Category:  categoryRemote,
		Usage:     "send branches to a remote",
		ArgsUsage: "[REMOTE [REFSPEC…]]",
		Description: text(`
Commits what is staged, sends what the remote lacks, and moves its branches; the
current branch if none is named. REMOTE is a name or a URL; without it the one that
the branch is pulled from, else "origin". A branch that somebody else has moved is
merged first: entries of both stay; where a key has other bytes on both sides, what
reached the remote first. A push that breaks off goes on where it stopped.

REFSPEC is a branch, "refs/tags/NAME", "HERE:THERE", or ":THERE" to delete; a plus in
front moves a ref though what it pointed to is lost.`, `
cache-tool push
cache-tool push origin main:ci/main`),
		Flags: []cli.Flag{
			boolFlag(&p.all, "push all branches", "all"),
			boolFlag(&p.tags, "push all tags, too", "tags"),
			boolFlag(&p.prune, "delete the remote's branches that are not here", "prune"),
			boolFlag(&p.delete, "delete the named branches of the remote", "delete", "d"),
			boolFlag(&p.force, "replace the remote's branches, if they are where they were seen last", "force-with-lease"),
			boolFlag(&p.upstream, "push and pull the branch there from now on", "set-upstream", "u"),
			boolFlag(&p.dryRun, "only say what would be done", "dry-run", "n"),
		},
		Action: func(c *cli.Context) error {
			ctx := c.Context
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			branch, err := s.branch(ctx, r)
			if err != nil {
				return err
			}
			m, err := s.remoteFor(r, c.Args().First(), branch)
			if err != nil {
				return err
			}
			if err := p.choose(ctx, r, branch, c.Args().Tail()); err != nil {
				return err
			}
			return s.push(ctx, r, m, p)
		},
	}
}

// pushing is what a push is to do.
type pushing struct {
	all, tags, prune, delete, force, upstream, dryRun bool

	specs []refspec
}

// choose makes refspecs of what was typed.
func (p *pushing) choose(ctx context.Context, r *repo.Repo, branch refs.Name, words []string) error {
	if (p.all || p.prune) && (len(words) > 0 || p.delete) {
		return usagef("--all and --prune are about all branches: name none")
	}
	if p.delete && len(words) == 0 {
		return usagef("which branches of the remote are to be deleted?")
	}
	words = slices.Clone(words)
	for i, w := range words {
		switch here, there, two := strings.Cut(strings.TrimPrefix(w, "+"), ":"); {
		case p.delete:
			words[i] = ":" + w
		case here == "HEAD": // as CI scripts write it
			words[i] = strings.TrimSuffix(w, strings.TrimPrefix(w, "+")) + branch.Short()
			if two {
				words[i] += ":" + there
			}
		}
	}
	var err error
	if p.specs, err = parseRefspecs(words); err != nil {
		return err
	}
	if p.all || p.prune {
		p.specs = append(p.specs, refspec{src: "refs/heads/*", dst: "refs/heads/*"})
	}
	if len(p.specs) == 0 {
		there := branch
		if name, err := r.Config.Get("branch." + branch.Short() + ".merge"); err == nil && name != "" {
			there = refs.Branch(name)
		}
		p.specs = append(p.specs, refspec{src: string(branch), dst: string(there)})
	}
	if p.tags {
		p.specs = append(p.specs, refspec{src: "refs/tags/*", dst: "refs/tags/*"})
	}
	return nil
}

func (s *session) push(ctx context.Context, r *repo.Repo, m remoteStore, p pushing) error {
	if p.upstream && m.name == "" {
		return &usageError{"--set-upstream wants a remote with a name", []string{`"cache-tool remote add NAME URL" gives it one`}}
	}
	x, list, err := s.pushRefs(ctx, r, m, p)
	if err != nil {
		return err
	}
	if p.upstream && !p.dryRun {
		if err := x.setUpstream(ctx, p); err != nil {
			return err
		}
	}
	return x.show(ctx, "push", p.dryRun, list)
}

// setUpstream notes where the branches that were pushed are to be pushed from now on.
func (x *exchange) setUpstream(ctx context.Context, p pushing) error {
	steps, err := x.steps(ctx, p)
	if err != nil {
		return err
	}
	for _, st := range steps {
		if !st.here.IsBranch() || !st.there.IsBranch() {
			continue
		}
		merge := st.there.Short()
		if st.here == st.there {
			merge = "" // that is what holds without it
		}
		err := errors.Join(x.r.Config.Set(ctx, "branch."+st.here.Short()+".remote", x.m.name),
			x.r.Config.Set(ctx, "branch."+st.here.Short()+".merge", merge))
		if err != nil {
			return err
		}
	}
	return nil
}

// pushRefs sends branches to a remote and moves them there. It tries again as long
// as others are faster.
func (s *session) pushRefs(ctx context.Context, r *repo.Repo, m remoteStore, p pushing) (*exchange, []movedRef, error) {
	const tries, fewTries = 60, 3
	x, err := s.exchangeWith(ctx, r, m, !p.dryRun)
	if p.dryRun && errors.Is(err, repo.ErrNotRepository) {
		x, err = &exchange{s: s, r: r, m: m, Remote: nothing{}}, nil // the push would make it
	}
	if err != nil {
		return nil, nil, err
	}
	x.meter = s.progress("push "+m.String(), "object")
	defer x.meter.stop()
	var list []movedRef
	for try := 1; ; try++ {
		list, err = x.pushOnce(ctx, p)
		again := errors.As(err, new(*refs.ConflictError)) || errors.Is(err, remote.ErrStale)
		if errors.Is(err, errCollected) && try <= fewTries {
			again = true
		}
		if errors.Is(err, remote.ErrUnsure) && p.mayBeRepeated() {
			again = true // if it was done, there is nothing left to do
		}
		lost := errors.Is(err, objects.ErrNotFound) && !p.dryRun
		if !again && !lost || try == tries {
			break
		}
		if e := giveWay(ctx, try); e != nil {
			return nil, nil, e
		}
		before := x.there
		if e := x.look(ctx); e != nil {
			return nil, nil, e
		}
		if !again && maps.Equal(before, x.there) {
			break // it is not that a branch has moved, and what it was at is collected
		}
	}
	if err == nil && !p.dryRun {
		x.tellUses(ctx, list)
	}
	return x, list, remoteError(m, err)
}

// nothing is a remote that is not there yet.
type nothing struct{ remote.Remote }

func (nothing) Missing(_ context.Context, ids []objects.ID) ([]objects.ID, error) { return ids, nil }

// giveWay lets others finish who push at the same time: longer the more often they
// were faster, and never as long as they do.
func giveWay(ctx context.Context, try int) error {
	longest := min(time.Second, 10*time.Millisecond<<min(try, 10))
	select {
	case <-time.After(rand.N(longest)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mayBeRepeated reports whether a push only ever adds something: what it has done
// and others have undone since, it does not do again.
func (p *pushing) mayBeRepeated() bool {
	return !p.force && !p.prune && !slices.ContainsFunc(p.specs, func(spec refspec) bool { return spec.force || spec.src == "" })
}

// A step is one ref on its way.
type step struct {
	here, there refs.Name // here is empty for a deletion
	force       bool
	update      refs.Update
	status      string
}

// pushOnce does all of a push once. If a ref has moved meanwhile it is a
// *refs.ConflictError, and nothing has moved.
func (x *exchange) pushOnce(ctx context.Context, p pushing) ([]movedRef, error) {
	steps, err := x.steps(ctx, p)
	if err != nil {
		return nil, err
	}
	var tips []objects.ID
	var updates []refs.Update
	for i := range steps {
		st := &steps[i]
		if err := x.prepare(ctx, st, p); err != nil {
			return nil, err
		}
		if st.status == refUpToDate || st.status == refPulled {
			continue
		}
		updates = append(updates, st.update)
		if !st.update.New.IsZero() {
			tips = append(tips, st.update.New)
		}
	}
	var cut []objects.ID
	if len(tips) > 0 {
		if cut, err = x.send(ctx, tips, p.dryRun); err != nil {
			return nil, err
		}
	}
	if len(updates) > 0 && !p.dryRun {
		if err := x.move(ctx, cut, updates); err != nil {
			return nil, err
		}
	}
	var list []movedRef
	for _, st := range steps {
		list = append(list, moved(st.there, st.update.Old, st.update.New, st.status))
		if p.dryRun || !st.there.IsBranch() {
			continue
		}
		if err := x.remember(ctx, st.there, st.update.New, "push"); err != nil {
			return nil, err
		}
	}
	return list, nil
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
