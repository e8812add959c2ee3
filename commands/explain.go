package commands

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/repo/action"
)

// shownDifferences is how many differences are printed; --json has them all.
const shownDifferences = 20

func explainCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Category:  categoryLook,
		Usage:     "say why a run missed",
		ArgsUsage: "[KEY]",
		Description: text(`
Says why the last "cache-tool run" that was no hit had to run its command, or the
last one with this KEY (its first digits will do): which argument, variable or input
file, or whether the program itself, differs from the earlier run that it differs
least from. It tells, too, when a result was not kept, and why.`, `
cache-tool explain`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 1); err != nil {
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
			store, err := r.Runs(c.Context, branch)
			if err != nil {
				return err
			}
			e, err := action.Explain(c.Context, store, r.Dir, c.Args().First())
			if errors.Is(err, action.ErrNoRun) {
				return missf("%v", err)
			}
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(explanationJSON(e))
			}
			s.printExplanation(e)
			return nil
		},
	}
}

func (s *session) printExplanation(e action.Explanation) {
	s.printRan("", e.Run)
	if e.Reason != "" {
		s.printf("  %s\n", e.Reason)
	}
	for i, d := range e.Differences {
		if i == shownDifferences {
			s.printf("  and %s more\n", counted(len(e.Differences)-i, "difference"))
			break
		}
		s.printf("  %s\n", d.Text)
	}
	if !e.Nearest.Key.IsZero() {
		s.printRan("compared with ", e.Nearest)
	}
}

// printRan prints what ran, when, and its key.
func (s *session) printRan(before string, r action.Ran) {
	label := r.Label
	if label == "" {
		label = "a run"
	}
	when := ""
	if !r.Time.IsZero() {
		when = ago(time.Now(), r.Time) + ", "
	}
	s.printf("%s%s (%skey %s)\n", before, shown(label), when, r.Key.Short())
}

type ranJSON struct {
	Key     string    `json:"key"`
	Command string    `json:"command,omitempty"`
	Time    time.Time `json:"time,omitzero"`
	Outcome string    `json:"outcome,omitempty"`
	Exit    int       `json:"exit"`
}

func toRanJSON(r action.Ran) *ranJSON {
	if r.Key.IsZero() {
		return nil
	}
	return &ranJSON{r.Key.String(), r.Label, r.Time, string(r.Outcome), r.Exit}
}

func explanationJSON(e action.Explanation) any {
	return struct {
		Run         *ranJSON            `json:"run"`
		Reason      string              `json:"reason,omitempty"`
		Differences []action.Difference `json:"differences"`
		Nearest     *ranJSON            `json:"nearest"`
	}{toRanJSON(e.Run), e.Reason, append([]action.Difference{}, e.Differences...), toRanJSON(e.Nearest)}
}
