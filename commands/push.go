package commands

import (
	"context"
	"errors"
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
