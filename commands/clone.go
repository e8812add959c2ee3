package commands

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func cloneCommand(s *session) *cli.Command {
	var lazy bool
	return &cli.Command{
		Name:      "clone",
		Category:  categoryRemote,
		Usage:     "make a repository of what a remote has",
		ArgsUsage: "URL [DIR]",
		Description: text(`
Makes a repository at DIR (the current directory's .cache-tool without it), with the
remote as "origin" and all of its branches and tags. With --lazy only the commits
come now; entries are fetched when they are looked up.`, `
cache-tool clone --lazy dav+https://cache.example.org/team`),
		Flags: []cli.Flag{boolFlag(&lazy, "fetch commits now, and the rest when it is needed", "lazy")},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 2); err != nil {
				return err
			}
			dir := c.Args().Get(1)
			switch {
			case dir == "" && s.repoFlag != "":
				dir = s.repoFlag
			case dir == "":
				dir = repo.DirName
			}
			return s.clone(c.Context, c.Args().First(), dir, lazy)
		},
	}
}

func (s *session) clone(ctx context.Context, url, dir string, lazy bool) error {
	if err := checkURL(url); err != nil {
		return err
	}
	if _, err := repo.Open(ctx, dir, repo.Options{}); !errors.Is(err, repo.ErrNotRepository) {
		return errors.Join(err, withHint(fmt.Errorf("%s is a repository already", shown(dir)), `"cache-tool remote add" and "cache-tool pull" bring more into it`))
	}
	s.repoFlag = dir
	r, err := s.openToWrite(ctx)
	if err != nil {
		return err
	}
	verb := s.quiet
	s.quiet = true
	err = s.addRemote(ctx, r, originName, url, lazy)
	s.quiet = verb
	if err != nil {
		return err
	}
	m, err := s.remoteNamed(r, originName)
	if err != nil {
		return err
	}
	branch, err := s.branch(ctx, r)
	if err != nil {
		return err
	}
	x, list, err := s.pull(ctx, r, m, branch, pulling{all: true, tags: true, lazy: lazy})
	if err != nil {
		return withHint(err, fmt.Sprintf(`%s is a repository now: "cache-tool --repo %s pull --all" goes on`, dir, dir))
	}
	if err := s.chooseDefault(ctx, r, x); err != nil {
		return err
	}
	return x.show(ctx, "clone", false, list)
}

// chooseDefault makes a branch of the remote the default one, if it has no main.
func (s *session) chooseDefault(ctx context.Context, r *repo.Repo, x *exchange) error {
	var branches []string
	for name := range x.there {
		if name.IsBranch() {
			branches = append(branches, string(name))
		}
	}
	slices.Sort(branches)
	if len(branches) == 0 || slices.Contains(branches, string(refs.Branch(repo.DefaultBranch))) {
		return nil
	}
	for _, name := range branches {
		if slices.Contains([]string{"master", "trunk", "develop"}, path.Base(name)) && strings.Count(name, "/") == 2 {
			return r.Refs.SetHead(ctx, refs.Name(name))
		}
	}
	return r.Refs.SetHead(ctx, refs.Name(branches[0]))
}
