package commands

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
)

func statusCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:     "status",
		Category: categoryHistory,
		Usage:    "show the branch, where lookups go, and what is staged",
		Description: text(`
Shows the current branch and its tip, the branches that a lookup tries after it,
and the entries that wait in the stage for a commit.`, `
cache-tool status`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			ctx := c.Context
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			branch, err := s.branch(ctx, r)
			if err != nil {
				return err
			}
			scope, err := r.Scope(ctx, branch)
			if err != nil {
				return err
			}
			tip, _, err := r.Tip(ctx, branch)
			if err != nil {
				return err
			}
			var then []string
			for _, name := range scope[1:] {
				then = append(then, name.Short())
			}
			staged := []entryChange{}
			err = stagedChanges(ctx, r, branch, func(e entryChange) error {
				staged = append(staged, e)
				return nil
			})
			if err != nil {
				return err
			}
			if s.json {
				document := struct {
					Repository string        `json:"repository"`
					Branch     string        `json:"branch"`
					Commit     *objects.ID   `json:"commit,omitempty"`
					Then       []string      `json:"then,omitempty"` // the branches that a lookup tries next
					Staged     []entryChange `json:"staged"`
				}{r.Dir, branch.Short(), nil, then, staged}
				if !tip.IsZero() {
					document.Commit = &tip
				}
				return s.answer(document)
			}
			s.printf("Repository %s\n", shown(r.Dir))
			if tip.IsZero() {
				s.printf("On branch %s, no commit yet\n", shown(branch.Short()))
			} else {
				s.printf("On branch %s at %s\n", shown(branch.Short()), tip.Short())
			}
			if len(then) > 0 {
				s.printf("Lookups go on to %s\n", shown(strings.Join(then, ", ")))
			}
			if len(staged) == 0 {
				s.printf("Nothing staged\n")
				return nil
			}
			s.printf("Staged (\"cache-tool commit\" commits it):\n")
			for _, e := range staged {
				word := map[string]string{"A": "new:", "M": "replaced:", "D": "deleted:"}[e.Status]
				s.printf("  %-10s %s\n", word, shown(shownPath(e.Kind, e.Key)))
			}
			return nil
		},
	}
}
