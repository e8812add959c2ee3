package commands

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo"
)

func showCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Category:  categoryHistory,
		Usage:     "show a commit and the entries that it changed",
		ArgsUsage: "[REV]",
		Description: text(`
Shows the commit, and which entries it added (A), replaced (M) and deleted (D),
compared with its first parent. Without REV it is the tip of the current branch. Where
history was cut off ("gc" does that) it is not known what a commit changed.`, `
cache-tool show main~2`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 1); err != nil {
				return err
			}
			ctx := c.Context
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			id, err := s.commitOf(ctx, r, c.Args().First())
			if err != nil {
				return err
			}
			commit, err := r.Commit(ctx, id)
			if err != nil {
				return err
			}
			names, err := decorations(ctx, r)
			if err != nil {
				return err
			}
			if commit.Cut {
				return s.showCut(commit, names[id])
			}
			before, err := treeBefore(ctx, r, commit)
			if err != nil {
				return err
			}
			if s.json {
				document := describeCommit(commit, names[id])
				err := diffEntries(ctx, r, before, commit.Tree, func(e entryChange) error {
					document.Changes = append(document.Changes, e)
					return nil
				})
				if err != nil {
					return err
				}
				return s.answer(document)
			}
			s.printCommit(commit, names[id])
			first := true
			return diffEntries(ctx, r, before, commit.Tree, func(e entryChange) error {
				if first {
					s.printf("\n")
				}
				first = false
				s.printEntryChange(e)
				return nil
			})
		},
	}
}

// showCut shows a commit of which nobody knows any more what it changed.
func (s *session) showCut(c repo.Commit, names []string) error {
	if s.json {
		return s.answer(describeCommit(c, names))
	}
	s.printCommit(c, names)
	s.printf("\nHistory was cut off here: what this commit changed is not known any more.\n")
	return nil
}

// treeBefore returns the tree that a commit started from: that of its first parent, or
// the empty one where there is none. If history was cut off there it is repo.ErrCut.
func treeBefore(ctx context.Context, r *repo.Repo, c repo.Commit) (objects.ID, error) {
	if c.Cut {
		return objects.ID{}, fmt.Errorf("what was there before commit %s is not known any more: %w", c.ID.Short(), repo.ErrCut)
	}
	if len(c.Parents) == 0 {
		return objects.EmptyTree, nil
	}
	parent, err := objects.ReadCommit(ctx, r.DB, c.Parents[0])
	return parent.Tree, err
}
