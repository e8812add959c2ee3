package commands

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func rmCommand(s *session) *cli.Command {
	var stage, force bool
	var message string
	return &cli.Command{
		Name:      "rm",
		Category:  categoryCache,
		Usage:     "take entries out",
		ArgsUsage: "KEY…",
		Description: text(`
Takes entries out of the current branch and commits that. KEY is the key of save
or put, or KIND/KEY as ls shows it. All of them go in one commit; if one is not
there, none goes. History keeps them: "cache-tool revert" brings them back.`, `
cache-tool rm deps-linux run/4f2a91c07b1e`),
		Flags: []cli.Flag{
			boolFlag(&stage, "stage the removal; a later commit takes it along", "stage"),
			boolFlag(&force, "pass over keys that are not there", "force", "f"),
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "say why in the commit's `MESSAGE`", Destination: &message},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, many); err != nil {
				return err
			}
			r, err := s.open(c.Context)
			if err != nil {
				return err
			}
			branch, err := s.branch(c.Context, r)
			if err != nil {
				return err
			}
			ch, err := r.Change(c.Context, branch, odb.BatchOptions{})
			if err != nil {
				return err
			}
			defer ch.Close()
			own := view{scope: []refs.Name{branch}}
			var removed []repo.Found
			for _, key := range c.Args().Slice() {
				found, err := findEntry(c.Context, r, own, key)
				if force && errors.Is(err, objects.ErrNotFound) {
					continue
				} else if err != nil {
					return notOnBranch(err)
				}
				ch.Delete(found.Kind, found.Key)
				removed = append(removed, found)
			}
			return s.removeAll(c, ch, branch, removed, stage, message)
		},
	}
}

func notOnBranch(err error) error {
	if errors.Is(err, objects.ErrNotFound) {
		return withHint(err, `"cache-tool ls -l" shows what is where; --branch NAME takes it out of another branch`)
	}
	return err
}

func (s *session) removeAll(c *cli.Context, ch *repo.Change, branch refs.Name, removed []repo.Found, stage bool, message string) error {
	var tip string
	switch {
	case len(removed) == 0:
	case stage:
		if err := ch.Stage(c.Context); err != nil {
			return err
		}
	default:
		id, _, err := ch.Commit(c.Context, message)
		if err != nil {
			return err
		}
		tip = id.String()
	}
	names := make([]string, len(removed))
	for i, f := range removed {
		names[i] = shownPath(f.Kind, f.Key)
		where := fmt.Sprintf("%s %.12s", branch.Short(), tip)
		if stage {
			where = "staged for " + branch.Short()
		}
		s.say("removed %s: %s", shown(names[i]), where)
	}
	if s.json {
		return s.answer(struct {
			Removed []string `json:"removed"`
			Branch  string   `json:"branch"`
			Commit  string   `json:"commit,omitempty"`
			Staged  bool     `json:"staged"`
		}{names, branch.Short(), tip, stage})
	}
	return nil
}
