package commands

import (
	"context"

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
compared with its first parent. Without REV it is the tip of the current branch.`, `
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
			body, err := objects.ReadCommit(ctx, r.DB, id)
			if err != nil {
				return err
			}
			names, err := decorations(ctx, r)
			if err != nil {
				return err
			}
			commit := repo.Commit{ID: id, CommitBody: body}
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

// treeBefore returns the tree that a commit started from: that of its first
// parent, or the empty one where there is none any more.
func treeBefore(ctx context.Context, r *repo.Repo, c repo.Commit) (objects.ID, error) {
	shallow, err := r.Shallow()
	if err != nil || len(c.Parents) == 0 || shallow[c.ID] {
		return objects.EmptyTree, err
	}
	parent, err := objects.ReadCommit(ctx, r.DB, c.Parents[0])
	return parent.Tree, err
}
