package commands

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects/gitpack"
	"github.com/cache-tool/cache-tool/repo"
)

func exportCommand(s *session) *cli.Command {
	var dir string
	return &cli.Command{
		Name:     "export",
		Category: categoryRepo,
		Usage:    "write a real Git repository of all branches and tags",
		Description: text(`
Writes all branches and tags with their history into a Git repository of object
format sha256, where git log, git show, git checkout and git fsck work (Git 2.29 or
later). Every id is the same there. Into an earlier export it writes what is new;
branches that were moved there by hand are not moved back.`, `
cache-tool export --git /tmp/cache.git-copy`),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "git", Usage: "write the repository into `DIR`, which is empty or an earlier export", Destination: &dir},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			if dir == "" {
				return usagef("where to? --git DIR")
			}
			ctx := c.Context
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			all, err := exportedRefs(ctx, r)
			if err != nil {
				return err
			}
			if dir, err = filepath.Abs(dir); err != nil {
				return err
			}
			bar := s.progress("export", "object")
			o := gitpack.Options{}
			if bar != nil {
				o.Added = func() { bar.Done(1, 0) }
			}
			report, err := gitpack.Export(ctx, r.DB, all, dir, o)
			bar.stop()
			if err != nil {
				return exportError(err)
			}
			if report.CheckedOut {
				s.warn("%s has files checked out: git shows what has changed since as your changes", shown(dir))
			}
			if s.json {
				return s.answer(struct {
					Git     string `json:"git"`
					Objects int    `json:"objects"` // written: others were there
					Packs   int    `json:"packs"`
					Bytes   int64  `json:"bytes"`
					Refs    int    `json:"refs"` // made, moved or removed
				}{dir, report.Objects, report.Packs, report.Bytes, report.Refs})
			}
			s.say("exported to %s: %s, %s; %s changed", shown(dir), counted(report.Objects, "object"), size(report.Bytes), counted(report.Refs, "ref"))
			return nil
		},
	}
}

// exportedRefs returns what an export shows. A ref that can't be read ends it: an
// export that lacks a branch would be taken for all there is.
func exportedRefs(ctx context.Context, r *repo.Repo) (gitpack.Refs, error) {
	var all gitpack.Refs
	head, err := r.Refs.Head(ctx)
	if err != nil {
		return all, err
	}
	all.Head = string(head)
	for ref, err := range r.Refs.All(ctx, "refs/") {
		if err != nil {
			return all, err
		}
		if ref.Name.IsBranch() || ref.Name.IsTag() {
			all.All = append(all.All, gitpack.Ref{Name: string(ref.Name), ID: ref.ID})
		}
	}
	shallow, err := r.Shallow()
	for id := range shallow {
		all.Shallow = append(all.Shallow, id)
	}
	return all, err
}

func exportError(err error) error {
	var moved *gitpack.MovedError
	switch {
	case errors.Is(err, gitpack.ErrNotExport):
		return withHint(err, "name a new directory, or an earlier export")
	case errors.As(err, &moved):
		return withHint(err, "name a new directory, or move the branch in the export back")
	}
	return err
}
