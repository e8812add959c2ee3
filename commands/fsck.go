package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

func fsckCommand(s *session) *cli.Command {
	var f checking
	return &cli.Command{
		Name:      "fsck",
		Category:  categoryRepo,
		Usage:     "verify everything that is stored, and repair it",
		ArgsUsage: "[--repair [REMOTE…]]",
		Description: text(`
Reads every pack and index and proves every object; checks that all that branches,
tags, the stage and shallow lead to is there, and that reflogs and settings can be
read. Each problem is printed with the way out; with any the exit code is 1. Nobody
has to call this before reading: every command proves what it reads. --quick does not
read what is in packs.

--repair fetches what is damaged or missing from the remotes, those that are named or
else all. What none of them has is taken out, so that it is a miss: entries with a
commit on each branch that says so, what is staged, history that can't be had. A
branch that is lost goes back to its newest value that is here. Everything that is
good stays, and others may use the repository meanwhile. The exit code is 0 if it is
whole then.`, `
cache-tool fsck
cache-tool fsck --repair origin`),
		Flags: []cli.Flag{
			boolFlag(&f.repair, "repair what can be repaired", "repair"),
			boolFlag(&f.quick, "check indexes and what leads to what, and not what is in packs", "quick"),
		},
		Action: func(c *cli.Context) error {
			f.s = s
			if !f.repair {
				if err := arguments(c, 0, 0); err != nil {
					return err
				}
				return f.check(c.Context)
			}
			return f.mend(c.Context, c.Args().Slice())
		},
	}
}

// checking is one fsck.
type checking struct {
	s             *session
	repair, quick bool

	meter    *meter
	problems []problemJSON  // for --json
	told     map[string]int // how many of each place
	repaired []repairedJSON
}

// mostTold is how many problems of one place are printed one by one, without -v: one
// damaged block can cost thousands of objects.
const mostTold = 10

type problemJSON struct {
	Where string `json:"where"`
	What  string `json:"what"`
	Hint  string `json:"hint,omitempty"`
}

type repairedJSON struct {
	Where string `json:"where"`
	What  string `json:"what"`
}

func (f *checking) problem(p repo.Problem) {
	f.meter.clear()
	if f.s.json {
		f.problems = append(f.problems, problemJSON(p))
		return
	}
	if f.told == nil {
		f.told = map[string]int{}
	}
	if f.told[p.Where]++; f.told[p.Where] > mostTold && !f.s.verbose {
		return
	}
	f.s.printf("%s: %s\n", shown(p.Where), printable(p.What))
	if p.Hint != "" {
		f.s.printf("  hint: %s\n", printable(p.Hint))
	}
}

func (f *checking) did(d repo.Repaired) {
	f.meter.clear()
	f.repaired = append(f.repaired, repairedJSON(d))
	if !f.s.json {
		f.s.printf("repaired %s: %s\n", shown(d.Where), printable(d.What))
	}
}

// options of a check.
func (f *checking) options() repo.CheckOptions {
	return repo.CheckOptions{Quick: f.quick, Progress: func(n int64) { f.meter.Done(0, n) }}
}

func (f *checking) check(ctx context.Context) error {
	r, err := f.s.open(ctx)
	if err != nil {
		return err
	}
	f.meter = f.s.progress("fsck", "file")
	sum, err := r.Check(ctx, f.options(), f.problem)
	f.meter.stop()
	if err != nil {
		return err
	}
	if err := f.answer(sum); err != nil {
		return err
	}
	if sum.Problems > 0 {
		return withHint(fmt.Errorf("%s: found %s", shown(r.Dir), counted(sum.Problems, "problem")),
			`"cache-tool fsck --repair" fetches from the remotes what it can, and takes out the rest`)
	}
	f.sayWhole("no problems", sum)
	return nil
}

func (f *checking) mend(ctx context.Context, names []string) error {
	dir, err := repo.Find(f.s.repoFlag)
	if err != nil {
		return err
	}
	did, err := repo.MendConfig(ctx, dir)
	if err != nil {
		return err
	}
	for _, d := range did {
		f.did(d)
	}
	r, err := f.s.open(ctx)
	if err != nil {
		return err
	}
	donors, err := f.donors(ctx, r, names)
	if err != nil {
		return err
	}
	f.meter = f.s.progress("fsck", "file")
	sum, err := r.Repair(ctx, repo.RepairOptions{CheckOptions: f.options(), Donors: donors}, f.did, f.problem)
	f.meter.stop()
	if err != nil {
		return err
	}
	if err := f.answer(sum); err != nil {
		return err
	}
	if sum.Problems > 0 {
		return fmt.Errorf("%s: %s left, %s repaired", shown(r.Dir), plural(sum.Problems, "problem is", "problems are"), counted(len(f.repaired), "thing"))
	}
	f.sayWhole(counted(len(f.repaired), "thing")+" repaired, no problem is left", sum)
	return nil
}

// answer prints what --json says, or what was left out without it.
func (f *checking) answer(sum repo.Checked) error {
	if !f.s.json {
		for _, where := range slices.Sorted(maps.Keys(f.told)) {
			if n := f.told[where] - mostTold; n > 0 && !f.s.verbose {
				f.s.printf("%s: and %d more: -v prints all\n", shown(where), n)
			}
		}
		return nil
	}
	if f.problems == nil {
		f.problems = []problemJSON{}
	}
	return f.s.answer(struct {
		OK      bool `json:"ok"`
		Objects int  `json:"objects"` // that refs and stage lead to

		Promised int            `json:"promised,omitempty"` // of a lazy repository, not here
		Refs     int            `json:"refs"`
		Staged   int            `json:"staged"`
		Repaired []repairedJSON `json:"repaired,omitempty"`
		Problems []problemJSON  `json:"problems"` // that are left
	}{sum.Problems == 0, sum.Reached, sum.Promised, sum.Refs, sum.Staged, f.repaired, f.problems})
}

func (f *checking) sayWhole(what string, sum repo.Checked) {
	f.s.say("%s: %s reached from %s and %s staged", what,
		counted(sum.Reached, "object"), counted(sum.Refs, "ref"), counted(sum.Staged, "entry"))
	if sum.Promised > 0 {
		f.s.say("not here yet: %s and what they lead to; they are fetched when they are needed", counted(sum.Promised, "object"))
	}
}

// donors are the remotes that are asked: those that are named, or all, the branch's
// own first.
func (f *checking) donors(ctx context.Context, r *repo.Repo, names []string) ([]repo.Donor, error) {
	if len(names) == 0 {
		names = remoteNames(r)
		if branch, err := f.s.branch(ctx, r); err == nil {
			own, _ := r.Config.Get("branch." + branch.Short() + ".remote")
			if i := slices.Index(names, own); i > 0 {
				names = slices.Insert(slices.Delete(names, i, i+1), 0, own)
			}
		}
	}
	var donors []repo.Donor
	for _, name := range names {
		m, err := f.s.remoteNamed(r, name)
		if err != nil {
			return nil, err
		}
		donors = append(donors, &donor{f: f, r: r, m: m})
	}
	return donors, nil
}

// A donor is a remote that has what is damaged here.
type donor struct {
	f    *checking
	r    *repo.Repo
	m    remoteStore
	conn remote.Remote
}

func (x *donor) String() string { return x.m.String() }

// Fetch brings those of ids that the remote has and can prove.
func (x *donor) Fetch(ctx context.Context, ids []objects.ID) error {
	if x.conn == nil {
		conn, err := x.f.s.connect(ctx, x.r, x.m, false)
		if err != nil {
			return err
		}
		x.conn = conn
	}
	const most = 8 << 10 // at once, as in other transfers
	for part := range slices.Chunk(ids, most) {
		missing, err := x.conn.Missing(ctx, part)
		if err != nil {
			return err
		}
		lacks := make(map[objects.ID]bool, len(missing))
		for _, id := range missing {
			lacks[id] = true
		}
		there := slices.DeleteFunc(slices.Clone(part), func(id objects.ID) bool { return lacks[id] })
		if err := x.bring(ctx, there); err != nil {
			return err
		}
	}
	return nil
}

// bring fetches ids. Where one can't be had, because it is damaged there too, the
// others come all the same.
func (x *donor) bring(ctx context.Context, ids []objects.ID) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := transfer.FetchObjects(ctx, x.r.DB, x.conn, ids, transfer.Options{Meter: x.f.meter})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, remote.ErrUnreachable):
		return err
	case len(ids) == 1:
		x.f.s.warn("%s: %v", x.m, err)
		return nil
	}
	half := len(ids) / 2
	if err := x.bring(ctx, ids[:half]); err != nil {
		return err
	}
	return x.bring(ctx, ids[half:])
}
