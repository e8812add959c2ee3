package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func pullCommand(s *session) *cli.Command {
	var p pulling
	return &cli.Command{
		Name:      "pull",
		Category:  categoryRemote,
		Usage:     "bring what a remote has into the branches here",
		ArgsUsage: "[REMOTE [BRANCH…]]",
		Description: text(`
Brings branches of a remote and merges them into those here of the same name; without
BRANCH those that lookups read: the current one, its base and the default one. What
is staged is committed first. Entries of both stay; where a key has other bytes on both
sides, what reached the remote first. With --lazy only commits come now, and the rest
when it is needed: see "fetch".`, `
cache-tool pull --lazy origin main`),
		Flags: []cli.Flag{
			boolFlag(&p.all, "pull all branches of the remote", "all"),
			boolFlag(&p.tags, "pull all tags, too", "tags"),
			boolFlag(&p.lazy, "fetch commits now, and the rest when it is needed", "lazy"),
			boolFlag(&p.dryRun, "only say what would be done", "dry-run", "n"),
		},
		Action: func(c *cli.Context) error {
			ctx := c.Context
			r, err := s.openToWrite(ctx)
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
			p.branches = c.Args().Tail()
			if p.all && len(p.branches) > 0 {
				return usagef("--all pulls all branches: name none")
			}
			x, list, err := s.pull(ctx, r, m, branch, p)
			if err != nil {
				return err
			}
			return x.show(ctx, "pull", p.dryRun, list)
		},
	}
}

// pulling is what a pull is to do.
type pulling struct {
	all, tags, lazy, dryRun bool

	branches []string // empty for those that lookups on the current one read
}

// pull brings branches of a remote and merges them here.
func (s *session) pull(ctx context.Context, r *repo.Repo, m remoteStore, current refs.Name, p pulling) (*exchange, []movedRef, error) {
	r, m, err := s.makeLazy(ctx, r, m, fetching{lazy: p.lazy, dryRun: p.dryRun})
	if err != nil {
		return nil, nil, err
	}
	x, err := s.exchangeWith(ctx, r, m, false)
	if err != nil {
		return nil, nil, err
	}
	x.meter = s.progress("pull "+m.String(), "object")
	defer x.meter.stop()
	var list []movedRef
	err = x.again(ctx, func() error {
		list, err = x.pullAll(ctx, current, p)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return x, list, nil
}

// pullAll brings branches of the remote, as they were seen last, and merges them.
func (x *exchange) pullAll(ctx context.Context, current refs.Name, p pulling) (list []movedRef, err error) {
	pairs, err := x.pairs(ctx, current, p)
	if err != nil {
		return nil, err
	}
	var tips []objects.ID
	for _, pair := range pairs {
		tips = append(tips, x.there[pair.there])
	}
	merge := func(ctx context.Context) error {
		for _, pair := range pairs {
			one, err := x.pullOne(ctx, pair, p.dryRun)
			if err != nil {
				return fmt.Errorf("%s: %w", pair.here.Short(), err)
			}
			list = append(list, one)
		}
		return nil
	}
	if p.dryRun {
		err = merge(ctx)
	} else {
		err = x.bring(ctx, tips, x.m.lazy, merge)
	}
	return list, err
}

// A pair is a branch here and the one there that is merged into it; or a tag.
type pair struct{ here, there refs.Name }

// pairs returns what is pulled into what. Branches that were not named and that
// the remote does not have are left out.
func (x *exchange) pairs(ctx context.Context, current refs.Name, p pulling) ([]pair, error) {
	var pairs []pair
	switch {
	case p.all:
		for name := range x.there {
			if name.IsBranch() {
				pairs = append(pairs, pair{name, name})
			}
		}
	case len(p.branches) > 0:
		specs, err := parseRefspecs(p.branches)
		if err != nil {
			return nil, err
		}
		for _, spec := range specs {
			found := false
			for name := range x.there {
				if here, ok := spec.target(name); ok {
					pairs, found = append(pairs, pair{here, name}), true
				}
			}
			if !found && !strings.Contains(spec.src, "*") {
				return nil, noRefThere(x.m, spec.src)
			}
		}
	default:
		scope, err := x.r.Scope(ctx, current)
		if err != nil {
			return nil, err
		}
		for _, here := range scope {
			there := here
			if name, err := x.r.Config.Get("branch." + here.Short() + ".merge"); err == nil && name != "" {
				there = refs.Branch(name)
			}
			if _, ok := x.there[there]; ok {
				pairs = append(pairs, pair{here, there})
			}
		}
	}
	if p.tags {
		for name := range x.there {
			if name.IsTag() {
				pairs = append(pairs, pair{name, name})
			}
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(string(a.here), string(b.here)) })
	return slices.Compact(pairs), nil
}

func noRefThere(m remoteStore, name string) error {
	return withHint(fmt.Errorf("%s: no such ref at %s", shown(refs.Name(name).Short()), m), fmt.Sprintf(`"cache-tool remote show %s" lists what is there`, m))
}

// pullOne merges one branch, or takes a tag that is not here.
func (x *exchange) pullOne(ctx context.Context, p pair, dryRun bool) (movedRef, error) {
	theirs := x.there[p.there]
	old, err := x.r.Refs.Get(ctx, p.here)
	if err != nil && !errors.Is(err, refs.ErrNotFound) {
		return movedRef{}, err
	}
	status := refUpdated
	if old.IsZero() {
		status = refCreated
	}
	switch {
	case old == theirs || p.here.IsTag() && !old.IsZero():
		return moved(p.here, old, old, refUpToDate), x.seen(ctx, p, dryRun)
	case dryRun:
		return moved(p.here, old, theirs, status), nil
	case p.here.IsTag():
		return moved(p.here, old, theirs, status), x.apply(ctx, refs.Update{Name: p.here, New: theirs, Reason: "pull"})
	}
	// First: if the merge breaks off, the next one finds in the reflog what was seen before.
	if err := x.seen(ctx, p, dryRun); err != nil {
		return movedRef{}, err
	}
	merged, err := x.merge(ctx, p.here, theirs)
	if err != nil {
		return movedRef{}, err
	}
	switch {
	case !merged.Changed:
		status = refUpToDate
	case !merged.FastForward:
		status = refMerged
	}
	return moved(p.here, old, merged.Tip, status), nil
}

// seen remembers where a branch of the remote was.
func (x *exchange) seen(ctx context.Context, p pair, dryRun bool) error {
	if dryRun || !p.there.IsBranch() {
		return nil
	}
	return x.remember(ctx, p.there, x.there[p.there], "pull")
}
