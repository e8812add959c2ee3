package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

func fetchCommand(s *session) *cli.Command {
	var f fetching
	return &cli.Command{
		Name:      "fetch",
		Category:  categoryRemote,
		Usage:     "bring what a remote has, and merge nothing",
		ArgsUsage: "[REMOTE [REFSPEC…]]",
		Description: text(`
Brings the branches of a remote with all that they lead to, and remembers where they
are as REMOTE/BRANCH. Everything that comes is verified before it enters the
repository. With --lazy only the commits come, and the repository becomes a lazy one:
whatever else is needed later is fetched then. --all-content completes it again.`, `
cache-tool fetch origin`),
		Flags: []cli.Flag{
			boolFlag(&f.all, "fetch from all remotes", "all"),
			boolFlag(&f.tags, "fetch all tags, too", "tags"),
			boolFlag(&f.prune, "forget branches that the remote does not have any more", "prune", "p"),
			boolFlag(&f.lazy, "fetch commits now, and the rest when it is needed", "lazy"),
			boolFlag(&f.content, "fetch all that a lazy repository lacks", "all-content"),
			boolFlag(&f.dryRun, "only say what would be done", "dry-run", "n"),
		},
		Action: func(c *cli.Context) error {
			ctx := c.Context
			open := s.open
			if strings.Contains(c.Args().First(), "://") {
				open = s.openToWrite
			}
			r, err := open(ctx)
			if err != nil {
				return err
			}
			if f.lazy && f.content {
				return usagef("only one of --lazy and --all-content")
			}
			if f.all {
				if err := arguments(c, 0, 0); err != nil {
					return err
				}
				return s.fetchAll(ctx, r, f)
			}
			branch, err := s.branch(ctx, r)
			if err != nil {
				return err
			}
			m, err := s.remoteFor(r, c.Args().First(), branch)
			if err != nil {
				return err
			}
			if f.specs, err = parseRefspecs(c.Args().Tail()); err != nil {
				return err
			}
			x, list, err := s.fetch(ctx, r, m, f)
			if err != nil {
				return err
			}
			return x.show(ctx, "fetch", f.dryRun, list)
		},
	}
}

// fetching is what a fetch is to do.
type fetching struct {
	all, tags, prune, lazy, content, dryRun bool

	specs []refspec // empty for what the remote is configured for
}

func (s *session) fetchAll(ctx context.Context, r *repo.Repo, f fetching) error {
	for _, name := range remoteNames(r) {
		m, err := s.remoteNamed(r, name)
		if err != nil {
			return err
		}
		x, list, err := s.fetch(ctx, r, m, f)
		if err == nil {
			err = x.show(ctx, "fetch", f.dryRun, list)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fetch brings what a remote has, and moves the refs that remember it.
func (s *session) fetch(ctx context.Context, r *repo.Repo, m remoteStore, f fetching) (*exchange, []movedRef, error) {
	r, m, err := s.makeLazy(ctx, r, m, f)
	if err != nil {
		return nil, nil, err
	}
	x, err := s.exchangeWith(ctx, r, m, false)
	if err != nil {
		return nil, nil, err
	}
	x.meter = s.progress("fetch "+m.String(), "object")
	defer x.meter.stop()
	var list []movedRef
	err = x.again(ctx, func() error {
		list, err = x.fetchOnce(ctx, f)
		return err
	})
	return x, list, err
}

// fetchOnce brings what the remote has, as it was seen last.
func (x *exchange) fetchOnce(ctx context.Context, f fetching) (list []movedRef, err error) {
	updates, err := x.fetched(ctx, f)
	if err != nil {
		return nil, err
	}
	var tips []objects.ID
	for _, u := range updates {
		if !u.New.IsZero() {
			tips = append(tips, u.New)
		}
	}
	move := func(ctx context.Context) error {
		list, err = x.moveFetched(ctx, updates, f.dryRun)
		return err
	}
	if f.dryRun {
		err = move(ctx)
	} else {
		err = x.fetchTips(ctx, tips, f, move)
	}
	return list, err
}

// moveFetched moves the refs that remember what a remote has.
func (x *exchange) moveFetched(ctx context.Context, updates []refs.Update, dryRun bool) (list []movedRef, err error) {
	for _, u := range updates {
		status := refUpdated
		switch {
		case u.Old == u.New:
			status = refUpToDate
		case u.Old.IsZero():
			status = refCreated
		case u.New.IsZero():
			status = refDeleted
		}
		if u.Name == "" {
			continue
		}
		list = append(list, moved(u.Name, u.Old, u.New, status))
		if dryRun || u.Old == u.New {
			continue
		}
		if err := x.apply(ctx, u); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// apply moves a ref that remembers something. Where another fetch was faster, the
// later one is right; but a tag stays what it is.
func (x *exchange) apply(ctx context.Context, u refs.Update) error {
	for {
		err := x.r.Refs.Apply(ctx, u)
		var moved *refs.ConflictError
		if !errors.As(err, &moved) || u.Name.IsBranch() {
			return err
		}
		if moved.Is == u.New || u.Name.IsTag() && !moved.Is.IsZero() {
			return nil
		}
		u.Old = moved.Is
	}
}

// makeLazy notes in the settings what the repository is to be from now on.
// It is opened anew: from here on what it lacks is fetched.
func (s *session) makeLazy(ctx context.Context, r *repo.Repo, m remoteStore, f fetching) (*repo.Repo, remoteStore, error) {
	if f.lazy == m.lazy || !f.lazy || f.dryRun {
		return r, m, nil
	}
	if m.name == "" {
		return r, m, &usageError{"--lazy wants a remote with a name: it is asked again later", []string{`"cache-tool remote add NAME URL" gives it one`}}
	}
	if err := s.onlyLazy(r, m.name); err != nil {
		return r, m, err
	}
	m.lazy = true
	if err := r.Config.Set(ctx, "remote."+m.name+".lazy", "true"); err != nil {
		return r, m, err
	}
	r, err := s.open(ctx)
	return r, m, err
}

// fetchTips brings tips, and in a lazy repository no more than is asked for. Then makes
// refs lead to them: see bring.
func (x *exchange) fetchTips(ctx context.Context, tips []objects.ID, f fetching, then func(context.Context) error) error {
	if !f.content {
		return x.bring(ctx, tips, x.m.lazy, then)
	}
	o, err := x.options(ctx)
	if err != nil {
		return err
	}
	// Nothing counts as here: where history was cut off here it ends all the same.
	ends := maps.Clone(o.ShallowThere)
	if ends == nil {
		ends = map[objects.ID]bool{}
	}
	maps.Copy(ends, o.Shallow)
	o.ShallowThere = ends
	for ref, err := range x.r.Refs.All(ctx, "refs/") {
		if err != nil {
			return err
		}
		tips = append(tips, ref.ID)
	}
	o.Then = func(ctx context.Context, stats transfer.Stats) error {
		stats.Whole = nil // they were looked at only because nothing counted as here
		if err := x.noteCuts(ctx, stats); err != nil {
			return err
		}
		return then(ctx)
	}
	stats, err := transfer.Fetch(ctx, x.r.DB, x.Remote, tips, nil, o)
	x.count(stats)
	if err != nil {
		return remoteError(x.m, err)
	}
	if !x.m.lazy {
		return nil
	}
	return x.r.Config.Set(ctx, "remote."+x.m.name+".lazy", "")
}

// fetched returns how the refs here are to move after a fetch. Those that a
// refspec without a plus would set back stay.
func (x *exchange) fetched(ctx context.Context, f fetching) ([]refs.Update, error) {
	specs := f.specs
	if len(specs) == 0 {
		var err error
		if specs, err = x.configured(); err != nil {
			return nil, err
		}
	}
	if f.tags {
		specs = append(slices.Clone(specs), refspec{src: "refs/tags/*", dst: "refs/tags/*"})
	}
	var updates []refs.Update
	seen := map[refs.Name]bool{}
	for _, spec := range specs {
		found := strings.Contains(spec.src, "*")
		for name, id := range x.there {
			here, ok := spec.target(name)
			if !ok {
				continue
			}
			found = true
			if here.IsBranch() {
				if x.m.name == "" && spec.src != spec.dst {
					return nil, &usageError{fmt.Sprintf("fetch does not write to %s", here),
						[]string{fmt.Sprintf(`"cache-tool pull %s %s:%s" does`, x.m, name.Short(), here.Short())}}
				}
				here = x.tracking(here) // branches here are moved by pull
			}
			if seen[here] && here != "" {
				continue
			}
			seen[here] = true
			u, err := x.fetchedRef(ctx, here, id)
			if err != nil {
				return nil, err
			}
			updates = append(updates, u)
		}
		if !found {
			return nil, noRefThere(x.m, spec.src)
		}
	}
	if f.prune {
		gone, err := x.gone(ctx, specs)
		if err != nil {
			return nil, err
		}
		updates = append(updates, gone...)
	}
	slices.SortFunc(updates, func(a, b refs.Update) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return updates, nil
}

func (x *exchange) fetchedRef(ctx context.Context, here refs.Name, id objects.ID) (refs.Update, error) {
	u := refs.Update{Name: here, New: id, Reason: "fetch"}
	if here == "" {
		return u, nil
	}
	old, err := x.r.Refs.Get(ctx, here)
	if err != nil && !errors.Is(err, refs.ErrNotFound) {
		return u, err
	}
	u.Old = old
	if here.IsTag() && !old.IsZero() {
		u.New = old // a tag that is here stays what it is
	}
	return u, nil
}

// configured returns what the remote is configured to be fetched for.
func (x *exchange) configured() ([]refspec, error) {
	if text := x.m.setting(x.r, "fetch"); text != "" {
		return parseRefspecs(strings.Fields(text))
	}
	if x.m.name == "" {
		return []refspec{{src: "refs/heads/*", dst: "refs/heads/*"}}, nil
	}
	return []refspec{{force: true, src: "refs/heads/*", dst: string(refs.Remote(x.m.name, "*"))}}, nil
}

// gone returns how the refs are to go that remember what the remote has no more.
func (x *exchange) gone(ctx context.Context, specs []refspec) ([]refs.Update, error) {
	var updates []refs.Update
	for _, spec := range specs {
		if before, _, many := strings.Cut(spec.dst, "*"); many && strings.HasPrefix(before, "refs/remotes/") {
			for ref, err := range x.r.Refs.All(ctx, before) {
				if err != nil {
					return nil, err
				}
				there, ok := spec.source(ref.Name)
				if _, still := x.there[there]; ok && !still {
					updates = append(updates, refs.Update{Name: ref.Name, Old: ref.ID, Reason: "fetch: pruned"})
				}
			}
		}
	}
	return updates, nil
}
