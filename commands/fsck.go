package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/repo"
)

func fsckCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:     "fsck",
		Category: categoryRepo,
		Usage:    "verify everything that is stored",
		Description: text(`
Reads every pack and index and proves every object; checks that all that branches,
tags, the stage and shallow lead to is there, and that reflogs and settings can be
read. It changes nothing. Each problem is printed with the way out; with any the exit
code is 1. Nobody has to call this before reading: every command proves what it reads.`, `
cache-tool fsck`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			r, err := s.open(c.Context)
			if err != nil {
				return err
			}
			type problemJSON struct {
				Where string `json:"where"`
				What  string `json:"what"`
				Hint  string `json:"hint,omitempty"`
			}
			problems := []problemJSON{}
			bar := s.progress("fsck", "file")
			sum, err := r.Check(c.Context, func(n int64) { bar.Done(0, n) }, func(p repo.Problem) {
				bar.clear()
				if s.json {
					problems = append(problems, problemJSON(p))
					return
				}
				s.printf("%s: %s\n", shown(p.Where), printable(p.What))
				if p.Hint != "" {
					s.printf("  hint: %s\n", printable(p.Hint))
				}
			})
			bar.stop()
			if err != nil {
				return err
			}
			if s.json {
				if err := s.answer(struct {
					OK      bool `json:"ok"`
					Objects int  `json:"objects"` // that refs and stage lead to

					Promised int           `json:"promised,omitempty"` // of a lazy repository, not here
					Refs     int           `json:"refs"`
					Staged   int           `json:"staged"`
					Problems []problemJSON `json:"problems"`
				}{sum.Problems == 0, sum.Reached, sum.Promised, sum.Refs, sum.Staged, problems}); err != nil {
					return err
				}
			}
			if sum.Problems > 0 {
				return fmt.Errorf("%s: found %s", shown(r.Dir), counted(sum.Problems, "problem"))
			}
			s.say("no problems: %s reached from %s and %s staged",
				counted(sum.Reached, "object"), counted(sum.Refs, "ref"), counted(sum.Staged, "entry"))
			if sum.Promised > 0 {
				s.say("not here yet: %s and what they lead to; they are fetched when they are needed", counted(sum.Promised, "object"))
			}
			return nil
		},
	}
}
