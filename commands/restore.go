package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

func restoreCommand(s *session) *cli.Command {
	var w restoring
	var prefixes cli.StringSlice
	return &cli.Command{
		Name:      "restore",
		Category:  categoryCache,
		Usage:     "put back what was saved under a key",
		ArgsUsage: "[REV:]KEY",
		Description: text(`
Puts the files of the entry KEY back where they came from. It is looked up in the
current branch, then in its base, then in the default branch; in each of them first
KEY, then the newest entry whose key begins with the first --or PREFIX, then the next
one; with REV, in that version only. Files that are right already are left alone;
what is damaged or missing in the cache leaves everything as it was. Exit code 3
says that nothing was found; with --miss-ok it is 0 then, too.`, `
cache-tool restore deps-linux-4f2a91c --or deps-linux- --or deps-`),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "or", Usage: "if there is no KEY, take the newest entry whose key begins with `PREFIX`; may be repeated", Destination: &prefixes},
			boolFlag(&w.nearest, "take the version that was saved at the nearest ancestor of the source commit", "nearest"),
			&cli.StringFlag{Name: "to", Usage: "put all of it below `DIR`: what was below the base directory into DIR itself, what was below the home directory into DIR/home, the rest into DIR/abs", Destination: &w.to},
			boolFlag(&w.delete, "remove what the entry lacks from the directories that it restores", "delete"),
			boolFlag(&w.missOK, "a miss is no failure: exit code 0", "miss-ok"),
			boolFlag(&w.dryRun, "say what would be done, and do nothing", "dry-run", "n"),
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 1); err != nil {
				return err
			}
			w.prefixes = prefixes.Value()
			err := s.restore(c.Context, w, c.Args().First())
			var miss *missError
			if w.missOK && errors.As(err, &miss) {
				s.say("%v", err)
				if s.json && !s.answered {
					return s.answer(restoredJSON{Key: c.Args().First(), Why: err.Error()})
				}
				return nil
			}
			return err
		},
	}
}

// A restoring is one restore.
type restoring struct {
	prefixes                        []string
	to                              string
	nearest, delete, missOK, dryRun bool
}

// A restoredJSON is what --json says of a restore.
type restoredJSON struct {
	Hit      bool         `json:"hit"`
	Key      string       `json:"key"`               // asked for
	Why      string       `json:"why,omitempty"`     // it is a miss
	Matched  string       `json:"matched,omitempty"` // the key that was restored
	By       string       `json:"by,omitempty"`      // "key", "prefix" or "nearest"
	Branch   string       `json:"branch,omitempty"`
	Entry    *objects.ID  `json:"entry,omitempty"`
	DryRun   bool         `json:"dryRun,omitempty"`
	Written  int          `json:"written"` // files and links
	Bytes    int64        `json:"bytes"`   // that they hold
	Kept     int          `json:"kept"`    // were right already
	Adjusted int          `json:"adjusted"`
	Deleted  int          `json:"deleted"`
	Skipped  []string     `json:"skipped,omitempty"`
	Changes  []changeJSON `json:"changes,omitempty"` // of a dry run
}

type changeJSON struct {
	What  worktree.Verb `json:"what"`
	Path  string        `json:"path"`
	Files int           `json:"files"`
	Bytes int64         `json:"bytes"`
}

func (s *session) restore(ctx context.Context, w restoring, arg string) error {
	r, err := s.openToRead(ctx)
	if err != nil {
		return err
	}
	v, key, err := s.viewOf(ctx, r, arg)
	if err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return err
	}
	chosen, err := s.choose(ctx, r, v, key, w)
	if errors.Is(err, objects.ErrNotFound) {
		return s.missed(key, v, err, s.missHints(ctx, r, v, arg, key, entry.Save)...)
	} else if err != nil {
		return err
	}
	if !w.dryRun {
		r.NoteUse(chosen.Path)
	}
	document := restoredJSON{
		Hit: true, Key: key, Matched: chosen.Key, By: chosen.by, Branch: chosen.Branch.Short(), Entry: &chosen.ID, DryRun: w.dryRun,
	}
	bar := s.progress("restore "+shown(chosen.Key), "file")
	report, err := r.Restore(ctx, chosen.ID, repo.RestoreOptions{
		Base: defaultBase(), To: w.to, Delete: w.delete, DryRun: w.dryRun, Meter: bar.meter(),
		Note: func(c worktree.Change) {
			switch {
			case s.json && w.dryRun:
				document.Changes = append(document.Changes, changeJSON(c))
			case w.dryRun:
				s.say("%s", changeLine(c))
			default:
				s.detail("%s", changeLine(c))
			}
		},
	})
	bar.stop()
	if err != nil {
		return missOf(fmt.Errorf("%s: %w", shown(chosen.Key), err))
	}
	for _, path := range report.Skipped {
		s.warn("%s is left as it is", shown(path))
	}
	if n := len(report.Unset); n > 0 {
		s.warn("permissions or times of %s are another user's to set, such as those of %s", counted(n, "file"), shown(report.Unset[0]))
	}
	document.Written, document.Bytes, document.Kept = report.Written, report.Bytes, report.Kept
	document.Adjusted, document.Deleted, document.Skipped = report.Adjusted, report.Deleted, report.Skipped
	if s.json {
		return s.answer(document)
	}
	s.say("%s", restoredLine(w, chosen, v, report))
	return nil
}

func changeLine(c worktree.Change) string {
	line := fmt.Sprintf("%-7s %s", c.What, shown(c.Path))
	if c.Files > 1 {
		line += fmt.Sprintf(" (%s, %s)", counted(c.Files, "file"), size(c.Bytes))
	}
	return line
}

// restoredLine says which entry it was and what had to be done for it.
func restoredLine(w restoring, chosen choice, v view, report worktree.Report) string {
	verb, where := "restored", v.rev
	if w.dryRun {
		verb = "would restore"
	}
	if where == "" {
		where = chosen.Branch.Short()
	}
	line := fmt.Sprintf("%s %s from %s", verb, shown(chosen.Key), shown(where))
	switch chosen.by {
	case byPrefix:
		line += fmt.Sprintf(" (--or %s)", shown(chosen.prefix))
	case byNearest:
		line += fmt.Sprintf(" (saved at %.12s)", chosen.source)
	}
	line += fmt.Sprintf(": %s written, %s", counted(report.Written, "file"), size(report.Bytes))
	if report.Kept > 0 {
		line += fmt.Sprintf(", %d kept", report.Kept)
	}
	if report.Adjusted > 0 {
		line += fmt.Sprintf(", %d adjusted", report.Adjusted)
	}
	if report.Deleted > 0 {
		line += fmt.Sprintf(", %d removed", report.Deleted)
	}
	return line
}
