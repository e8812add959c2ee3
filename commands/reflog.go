package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func reflogCommand(s *session) *cli.Command {
	var count int
	return &cli.Command{
		Name:      "reflog",
		Category:  categoryHistory,
		Usage:     "show where a branch has been",
		ArgsUsage: "[BRANCH]",
		Description: text(`
Shows every move of BRANCH, or of the current branch, newest first. Each can be
named as BRANCH@{N}: "cache-tool reset main@{1}" undoes the last one. A log goes
when its branch is deleted, and keeps nothing from being collected.`, `
cache-tool reflog -n 10 main`),
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "n", Aliases: []string{"max-count"}, Usage: "stop after `COUNT` moves", Destination: &count, Value: -1, DefaultText: "all"},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 1); err != nil {
				return err
			}
			ctx := c.Context
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			name, err := s.refNamed(ctx, r, c.Args().First())
			if err != nil {
				return err
			}
			moves, err := r.Refs.Log(ctx, name)
			if errors.Is(err, refs.ErrNotFound) && c.NArg() == 0 {
				err = nil // no commit yet, nowhere has it been
			}
			if err != nil {
				return err
			}
			return s.showReflog(name, moves, count)
		},
	}
}

// refNamed returns the branch or tag that a person calls name; the current
// branch for an empty one.
func (s *session) refNamed(ctx context.Context, r *repo.Repo, name string) (refs.Name, error) {
	if name == "" {
		return s.branch(ctx, r)
	}
	candidates := []refs.Name{refs.Branch(name), refs.Tag(name)}
	if full, err := refs.ParseName(name); err == nil {
		candidates = append([]refs.Name{full}, candidates...)
	}
	for _, n := range candidates {
		if n.Check() != nil {
			continue
		}
		if _, err := r.Refs.Get(ctx, n); err == nil || !errors.Is(err, refs.ErrNotFound) {
			return n, nil // a damaged one exists, too
		}
	}
	return "", withHint(errors.New(shown(name)+": no such branch"), `"cache-tool branch --list" shows the branches`)
}

func (s *session) showReflog(name refs.Name, moves []refs.LogEntry, count int) error {
	type moveJSON struct {
		Selector string     `json:"selector"`
		Old      objects.ID `json:"old"` // zeros: it was made
		New      objects.ID `json:"new"`
		Who      string     `json:"who"`
		When     time.Time  `json:"when"`
		Reason   string     `json:"reason"`
	}
	l := &list{s: s}
	if s.json {
		var err error
		if l, err = s.list(nil, "moves"); err != nil {
			return err
		}
	}
	for i := range moves {
		if i == count {
			break
		}
		m := moves[len(moves)-1-i]
		selector := name.Short() + fmt.Sprintf("@{%d}", i)
		if s.json {
			if err := l.add(moveJSON{selector, m.Old, m.New, m.Who.Name, m.Who.When, m.Reason}); err != nil {
				return l.end(err)
			}
			continue
		}
		s.printf("%s %s: %s\n", m.New.Short(), selector, printable(m.Reason))
	}
	if s.json {
		return l.end(nil)
	}
	return nil
}
