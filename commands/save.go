package commands

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

func saveCommand(s *session) *cli.Command {
	var base, message string
	var exclude cli.StringSlice
	var stage, noTimes bool
	return &cli.Command{
		Name:      "save",
		Category:  categoryCache,
		Usage:     "keep files and directories under a key",
		ArgsUsage: "KEY PATH…",
		Description: text(`
Keeps the files and directories at PATHs as one entry and commits it to the current
branch. What has not changed since the last save is not read; content that is stored
already, under whatever key, is not stored again; the same payload under the same
key makes no commit. Paths below the base directory come back below the base of
whoever restores them, paths below the home directory below their home ("~/.npm"),
others where they were. The repository itself and the work tree's own .git are
left out.`, `
cache-tool save deps-linux node_modules ~/.npm --exclude '*.log'`),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "base", Usage: "paths are kept relative to `DIR`", DefaultText: "the root of the Git work tree, else the working directory", Destination: &base},
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what matches `GLOB`: a name, or a path with a slash in it; may be repeated", Destination: &exclude},
			boolFlag(&stage, "add it to the stage; a later commit takes it along", "stage"),
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "say why in the commit's `MESSAGE`", Destination: &message},
			boolFlag(&noTimes, "keep no modification times", "no-times"),
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 2, many); err != nil {
				return err
			}
			key, paths := c.Args().First(), c.Args().Tail()
			if err := checkKey(key); err != nil {
				return err
			}
			for _, path := range paths {
				if path == "" {
					return usagef("an empty path")
				}
			}
			ctx := c.Context
			r, err := s.openToWrite(ctx)
			if err != nil {
				return err
			}
			branch, err := s.branch(ctx, r)
			if err != nil {
				return err
			}
			if base == "" {
				base = defaultBase()
			}
			bar := s.progress("save "+shown(key), "file")
			saved, err := r.Save(ctx, branch, key, paths, repo.SaveOptions{
				Base: base, Exclude: exclude.Value(), NoTimes: noTimes, Stage: stage, Message: message, Meter: bar.meter(),
			})
			bar.stop()
			if err != nil {
				return saveError(key, err)
			}
			for _, skipped := range saved.Snapshot.Skipped {
				s.warn("%s is a %s: left out", shown(skipped.Path), skipped.What)
			}
			return s.showSaved(ctx, r, branch, key, stage, saved)
		},
	}
}

// defaultBase is what paths are relative to if nobody says so.
func defaultBase() string {
	if root := repo.ReadSource(".").Root; root != "" {
		return root
	}
	return "."
}

func saveError(key string, err error) error {
	err = fmt.Errorf("%s: %w", shown(key), err)
	var changed *worktree.ChangedError
	switch {
	case errors.As(err, &changed):
		return withHint(err, "nothing was saved: run the command again when nobody writes there, or leave it out with --exclude")
	case errors.Is(err, os.ErrPermission):
		return withHint(err, "nothing was saved: --exclude leaves files out that you may not read")
	}
	return err
}

// A savedJSON is what --json says of a save.
type savedJSON struct {
	Kind    string      `json:"kind"`
	Key     string      `json:"key"`
	Branch  string      `json:"branch"`
	Entry   objects.ID  `json:"entry"`
	Commit  *objects.ID `json:"commit,omitempty"`
	Staged  bool        `json:"staged"`
	Changed bool        `json:"changed"`
	Files   int         `json:"files"`
	Size    int64       `json:"size"`
	Read    int         `json:"read"` // files that had to be read: the others had not changed since
	Skipped []string    `json:"skipped,omitempty"`
}

func (s *session) showSaved(ctx context.Context, r *repo.Repo, branch refs.Name, key string, stage bool, saved repo.Saved) error {
	snapshot := saved.Snapshot
	tip := saved.Tip
	if tip.IsZero() && !saved.Staged && !stage {
		var err error
		if tip, err = r.Refs.Get(ctx, branch); err != nil {
			return err
		}
	}
	if s.json {
		document := savedJSON{
			Kind: string(entry.Save), Key: key, Branch: branch.Short(), Entry: saved.Entry,
			Staged: saved.Staged, Changed: saved.Changed,
			Files: snapshot.Count, Size: snapshot.Bytes, Read: snapshot.Read,
		}
		if !tip.IsZero() {
			document.Commit = &tip
		}
		for _, skipped := range snapshot.Skipped {
			document.Skipped = append(document.Skipped, skipped.Path)
		}
		return s.answer(document)
	}
	s.tell("saved", written{Key: key, Branch: branch.Short(), Commit: tip.String(), Staged: saved.Staged, Changed: saved.Changed},
		fmt.Sprintf("%s, %s", counted(snapshot.Count, "file"), size(snapshot.Bytes)))
	return nil
}
