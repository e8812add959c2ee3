package commands

import (
	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
)

func commitCommand(s *session) *cli.Command {
	var message string
	return &cli.Command{
		Name:     "commit",
		Category: categoryHistory,
		Usage:    "fold what is staged into one commit",
		Description: text(`
Makes one commit of all that "save --stage", "put --stage", "rm --stage" and run
have staged for the current branch. With nothing staged it does nothing, and that
is no error. A commit survives a power cut; what is staged survives the end of the
process that staged it.`, `
cache-tool commit -m "nightly build"`),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "say why in the commit's `MESSAGE`", Destination: &message},
		},
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
			staged, err := r.Staged(ctx, branch)
			if err != nil {
				return err
			}
			var tip objects.ID
			var changed bool
			if len(staged) > 0 {
				if tip, changed, err = r.FoldStage(ctx, branch, message); err != nil {
					return err
				}
			}
			if s.json {
				document := struct {
					Branch  string      `json:"branch"`
					Commit  *objects.ID `json:"commit,omitempty"`
					Changed bool        `json:"changed"`
					Entries int         `json:"entries"`
				}{branch.Short(), nil, changed, len(staged)}
				if !tip.IsZero() {
					document.Commit = &tip
				}
				return s.answer(document)
			}
			if !changed {
				s.say("nothing to commit on %s", shown(branch.Short()))
				return nil
			}
			body, err := objects.ReadCommit(ctx, r.DB, tip)
			if err != nil {
				return err
			}
			s.say("[%s %s] %s", shown(branch.Short()), tip.Short(), printable(body.Subject()))
			s.say(" %s", counted(len(staged), "entry"))
			return nil
		},
	}
}
