package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func branchCommand(s *session) *cli.Command {
	var b branching
	return &cli.Command{
		Name:      "branch",
		Category:  categoryHistory,
		Usage:     "list, make, rename and delete branches",
		ArgsUsage: "[NAME [REV]]",
		Description: text(`
Without NAME it lists the branches, the default one marked with a star. With NAME
it makes that branch at REV, or at the tip of the current branch. --base says which
branch lookups try after it; with --base and without REV the branch starts empty, an
overlay over its base that holds what is new. Any command that writes to a
branch makes it, too. "branch -m OLD NEW" renames one (OLD may be left out for
the current one), "branch -d NAME…" deletes.`, `
cache-tool branch pr-17 --base main`),
		Flags: []cli.Flag{
			boolFlag(&b.list, "list the branches", "list", "l"),
			boolFlag(&b.delete, "delete branches that the default branch has whole", "delete", "d"),
			boolFlag(&b.force, "delete branches all the same", "D"),
			boolFlag(&b.rename, "rename a branch", "move", "m"),
			&cli.StringFlag{Name: "base", Usage: "lookups try `BRANCH` after this one", Destination: &b.base},
			boolFlag(&b.makeDefault, "make NAME the default branch", "default"),
		},
		Action: func(c *cli.Context) error {
			r, err := s.open(c.Context)
			if err != nil {
				return err
			}
			args := c.Args().Slice()
			switch {
			case b.delete || b.force:
				if err := arguments(c, 1, many); err != nil {
					return err
				}
				return s.deleteBranches(c.Context, r, args, b.force)
			case b.rename:
				if err := arguments(c, 1, 2); err != nil {
					return err
				}
				return s.renameBranch(c.Context, r, args)
			case len(args) == 0 || b.list:
				if err := arguments(c, 0, 0); err != nil {
					return err
				}
				if b.base != "" || b.makeDefault {
					return usagef("which branch?")
				}
				return s.listBranches(c.Context, r)
			}
			if err := arguments(c, 1, 2); err != nil {
				return err
			}
			return s.makeBranch(c.Context, r, b, args)
		},
	}
}

type branching struct {
	list, delete, force, rename, makeDefault bool
	base                                     string
}

// branchNamed returns the name of a branch as typed.
func branchNamed(short string) (refs.Name, error) {
	name := refs.Branch(short)
	if err := name.Check(); err != nil {
		return "", &usageError{text: err.Error()}
	}
	return name, nil
}

// A branchJSON is what --json says of a branch.
type branchJSON struct {
	Name    string      `json:"name"`
	Commit  *objects.ID `json:"commit,omitempty"`
	Subject string      `json:"subject,omitempty"`
	Base    string      `json:"base,omitempty"`
	Default bool        `json:"default,omitempty"`
	Deleted bool        `json:"deleted,omitempty"`
}

func (s *session) listBranches(ctx context.Context, r *repo.Repo) error {
	head, err := r.Refs.Head(ctx)
	if err != nil {
		return err
	}
	branches := []branchJSON{}
	for ref, err := range r.Refs.All(ctx, "refs/heads/") {
		if err != nil {
			s.warn("%v", err)
			continue
		}
		one := branchJSON{Name: ref.Name.Short(), Commit: &ref.ID, Default: ref.Name == head, Base: baseOf(r, ref.Name)}
		if body, err := objects.ReadCommit(ctx, r.DB, ref.ID); err != nil {
			s.warn("%s: %v", ref.Name.Short(), err)
		} else {
			one.Subject = body.Subject()
		}
		branches = append(branches, one)
	}
	if s.json {
		return s.answer(map[string]any{"branches": branches})
	}
	width := 0
	for _, b := range branches {
		width = max(width, len(shown(b.Name)))
	}
	for _, b := range branches {
		star, base := " ", ""
		if b.Default {
			star = "*"
		}
		if b.Base != "" {
			base = "[over " + b.Base + "] "
		}
		s.printf("%s %-*s %s %s%s\n", star, width, shown(b.Name), b.Commit.Short(), base, printable(b.Subject))
	}
	return nil
}

func baseOf(r *repo.Repo, name refs.Name) string {
	base, err := r.Config.Get("branch." + name.Short() + ".base")
	if err != nil {
		return ""
	}
	return base
}

func (s *session) makeBranch(ctx context.Context, r *repo.Repo, b branching, args []string) error {
	name, err := branchNamed(args[0])
	if err != nil {
		return err
	}
	_, err = r.Refs.Get(ctx, name)
	exists := !errors.Is(err, refs.ErrNotFound)
	if exists && len(args) == 2 || exists && b.base == "" && !b.makeDefault {
		return withHint(fmt.Errorf("branch %s exists already", name.Short()), fmt.Sprintf(`"cache-tool --branch %s reset REV" moves it`, name.Short()))
	}
	if b.base != "" {
		if _, err := branchNamed(b.base); err != nil {
			return err
		}
	}
	made := branchJSON{Name: name.Short(), Base: b.base}
	if !exists && !(len(args) == 1 && (b.base != "" || b.makeDefault)) {
		from := ""
		if len(args) == 2 {
			from = args[1]
		}
		at, err := s.commitOf(ctx, r, from)
		if err != nil {
			return err
		}
		if from == "" {
			from = "the current branch"
		}
		if err := r.Refs.Apply(ctx, refs.Update{Name: name, New: at, Reason: "branch: made from " + from}); err != nil {
			return err
		}
		made.Commit = &at
	}
	if b.base != "" {
		if err := r.Config.Set(ctx, "branch."+name.Short()+".base", b.base); err != nil {
			return err
		}
	}
	if b.makeDefault {
		if err := r.Refs.SetHead(ctx, name); err != nil {
			return err
		}
		made.Default = true
	}
	switch {
	case s.json:
		return s.answer(made)
	case made.Commit != nil:
		s.say("made branch %s at %s", shown(made.Name), made.Commit.Short())
	case made.Base != "" && !exists:
		s.say("branch %s starts empty, over %s", shown(made.Name), shown(made.Base))
	case made.Base != "":
		s.say("lookups on %s go on to %s", shown(made.Name), shown(made.Base))
	}
	if made.Default {
		s.say("%s is the default branch", shown(made.Name))
	}
	return nil
}

func (s *session) deleteBranches(ctx context.Context, r *repo.Repo, names []string, force bool) error {
	head, err := r.Refs.Head(ctx)
	if err != nil {
		return err
	}
	headTip, err := r.Refs.Get(ctx, head)
	if err != nil && !errors.Is(err, refs.ErrNotFound) {
		return err
	}
	var updates []refs.Update
	deleted := []branchJSON{}
	for _, short := range names {
		name, err := branchNamed(short)
		if err != nil {
			return err
		}
		tip, err := r.Refs.Get(ctx, name)
		if err != nil {
			return noSuchBranch(short, err)
		}
		if name == head {
			return withHint(fmt.Errorf("%s is the default branch", short), `"cache-tool branch --default NAME" makes another one that first`)
		}
		if !force {
			if err := s.checkMerged(ctx, r, name, tip, headTip); err != nil {
				return err
			}
		}
		updates = append(updates, refs.Update{Name: name, Old: tip, Reason: "branch: deleted"})
		deleted = append(deleted, branchJSON{Name: short, Commit: &tip, Deleted: true})
	}
	if err := r.Refs.Apply(ctx, updates...); err != nil {
		return err
	}
	for _, d := range deleted {
		if err := r.Stage(refs.Branch(d.Name)).Drop(ctx); err != nil {
			s.warn("%v", err)
		}
		if err := r.Config.Set(ctx, "branch."+d.Name+".base", ""); err != nil {
			s.warn("%v", err)
		}
		s.say("deleted branch %s, which was at %s", shown(d.Name), d.Commit.Short())
	}
	if s.json {
		return s.answer(map[string]any{"branches": deleted})
	}
	return nil
}

// checkMerged refuses to lose what only this branch has.
func (s *session) checkMerged(ctx context.Context, r *repo.Repo, name refs.Name, tip, headTip objects.ID) error {
	force := fmt.Sprintf(`"cache-tool branch -D %s" deletes it all the same`, name.Short())
	staged, err := r.Staged(ctx, name)
	if err != nil {
		return err
	}
	if len(staged) > 0 {
		return withHint(fmt.Errorf("branch %s has %s staged", name.Short(), counted(len(staged), "entry")), force)
	}
	if !headTip.IsZero() {
		base, err := r.MergeBase(ctx, tip, headTip)
		if err != nil || base == tip {
			return err
		}
	}
	return withHint(fmt.Errorf("branch %s has commits that the default branch lacks", name.Short()), force)
}

func noSuchBranch(short string, err error) error {
	if errors.Is(err, refs.ErrNotFound) {
		return withHint(fmt.Errorf("%s: no such branch", shown(short)), `"cache-tool branch --list" shows the branches`)
	}
	return err
}

func (s *session) renameBranch(ctx context.Context, r *repo.Repo, args []string) error {
	from, err := s.branch(ctx, r)
	if len(args) == 2 {
		from, err = branchNamed(args[0])
	}
	if err != nil {
		return err
	}
	to, err := branchNamed(args[len(args)-1])
	if err != nil {
		return err
	}
	tip, err := r.Refs.Get(ctx, from)
	if err != nil {
		return noSuchBranch(from.Short(), err)
	}
	staged, err := r.Staged(ctx, from)
	if err != nil {
		return err
	}
	if len(staged) > 0 {
		return withHint(fmt.Errorf("branch %s has %s staged", from.Short(), counted(len(staged), "entry")),
			fmt.Sprintf(`run "cache-tool --branch %s commit" first`, from.Short()))
	}
	if err := moveBranch(ctx, r, from, to, tip); err != nil {
		return err
	}
	if s.json {
		return s.answer(branchJSON{Name: to.Short(), Commit: &tip, Base: baseOf(r, to)})
	}
	s.say("renamed branch %s to %s", shown(from.Short()), shown(to.Short()))
	return nil
}

// moveBranch renames a branch with its base and, if it is the default one, HEAD.
// At no moment is there a HEAD or a base that leads nowhere; what a killed
// process leaves is finished by doing it again.
func moveBranch(ctx context.Context, r *repo.Repo, from, to refs.Name, tip objects.ID) error {
	head, err := r.Refs.Head(ctx)
	if err != nil {
		return err
	}
	is, err := r.Refs.Get(ctx, to)
	begun := err == nil && is == tip && from != to && (head == from || head == to)
	if !begun && !errors.Is(err, refs.ErrNotFound) {
		return errors.Join(err, fmt.Errorf("branch %s exists already", to.Short()))
	}
	base := baseOf(r, from)
	if base != "" {
		if err := r.Config.Set(ctx, "branch."+to.Short()+".base", base); err != nil {
			return err
		}
	}
	if err := moveRef(ctx, r, from, to, tip, begun, head == from); err != nil || base == "" {
		return err
	}
	return r.Config.Set(ctx, "branch."+from.Short()+".base", "")
}

// moveRef renames a ref. Begun says that the new one is there.
func moveRef(ctx context.Context, r *repo.Repo, from, to refs.Name, tip objects.ID, begun, isHead bool) error {
	reason := fmt.Sprintf("branch: renamed %s to %s", from.Short(), to.Short())
	gone, made := refs.Update{Name: from, Old: tip, Reason: reason}, refs.Update{Name: to, New: tip, Reason: reason}
	if begun {
		made.Old = tip
	}
	if !isHead {
		return r.Refs.Apply(ctx, gone, made)
	}
	err := r.Refs.Apply(ctx, made)
	nested := errors.Is(err, refs.ErrNameTaken) // main and main/x can't be there at once
	if nested {
		err = r.Refs.Apply(ctx, gone, made)
	}
	if err == nil {
		err = r.Refs.SetHead(ctx, to)
	}
	if err == nil && !nested {
		err = r.Refs.Apply(ctx, gone)
	}
	return err
}
