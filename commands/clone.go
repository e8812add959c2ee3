package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func cloneCommand(s *session) *cli.Command {
	var lazy bool
	var settings cli.StringSlice
	return &cli.Command{
		Name:      "clone",
		Category:  categoryRemote,
		Usage:     "make a repository of what a remote has",
		ArgsUsage: "URL [DIR]",
		Description: text(`
Makes a repository in DIR, with the remote as "origin" and all of its branches and
tags; without DIR where "init" would make it. With --lazy only the commits come now;
entries are fetched when they are looked up. --config changes a setting before the
remote is asked.`, `
cache-tool clone --lazy dav+https://cache.example.org/team
cache-tool clone --config remote.origin.caFile=ca.pem https://cache.example.org`),
		Flags: []cli.Flag{
			boolFlag(&lazy, "fetch commits now, and the rest when it is needed", "lazy"),
			&cli.StringSliceFlag{Name: "config", Aliases: []string{"c"}, Usage: "set `NAME=VALUE` in the new repository; may be repeated", Destination: &settings},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 2); err != nil {
				return err
			}
			dir, err := initDir(c.Args().Get(1), s.repoFlag)
			if err != nil {
				return err
			}
			return s.clone(c.Context, c.Args().First(), dir, lazy, settings.Value())
		},
	}
}

func (s *session) clone(ctx context.Context, url, dir string, lazy bool, settings []string) error {
	if err := checkURL(url); err != nil {
		return err
	}
	if r, err := repo.Open(ctx, dir, repo.Options{}); !errors.Is(err, repo.ErrNotRepository) {
		if err := errors.Join(err, isThere(ctx, r, url)); err != nil {
			return err
		}
	}
	made, err := s.makeClone(ctx, url, dir, lazy, settings)
	if err != nil {
		return err
	}
	branch, err := s.branch(ctx, made.r)
	if err != nil {
		return made.abandon(err)
	}
	x, list, err := s.pull(ctx, made.r, made.m, branch, pulling{all: true, tags: true, lazy: lazy})
	if err != nil {
		return made.abandon(err)
	}
	if err := s.chooseDefault(ctx, made.r, x); err != nil {
		return err
	}
	return x.show(ctx, "clone", false, list)
}

// isThere says what can be done where a repository is already. One without branches
// is as good as none: init has made it, or a clone that was broken off.
func isThere(ctx context.Context, r *repo.Repo, url string) error {
	if r == nil {
		return nil
	}
	defer r.Close()
	origin, err := r.Config.Get("remote." + originName + ".url")
	same := err == nil && origin == absolute(url)
	if (origin == "" || same) && isVirgin(ctx, r) {
		return nil
	}
	hint := `"cache-tool remote add" and "cache-tool pull" bring more into it`
	if same {
		hint = fmt.Sprintf(`"cache-tool --repo %s pull --all --tags" brings what it lacks of that remote`, r.Dir)
	}
	return withHint(fmt.Errorf("%s is a repository already", shown(r.Dir)), hint)
}

// isVirgin reports whether nothing was ever committed or staged in a repository.
func isVirgin(ctx context.Context, r *repo.Repo) bool {
	for range r.Refs.All(ctx, "refs/") {
		return false
	}
	staged, err := filepath.Glob(filepath.Join(r.Dir, "stage", "*"))
	return err == nil && len(staged) == 0
}

// A clone is a repository that is being made.
type clone struct {
	r     *repo.Repo
	m     remoteStore
	fresh bool // nothing was there before
}

func (s *session) makeClone(ctx context.Context, url, dir string, lazy bool, settings []string) (c clone, err error) {
	left, err := os.ReadDir(dir)
	c.fresh = len(left) == 0
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	s.repoFlag = dir
	if c.r, err = s.openToWrite(ctx); err != nil {
		return c, err
	}
	if err := ignore(dir); err != nil {
		return c, c.abandon(err)
	}
	for _, setting := range settings {
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			return c, c.abandon(usagef("--config %s: want NAME=VALUE", shown(setting)))
		}
		if err := setSetting(ctx, c.r, name, value); err != nil {
			return c, c.abandon(err)
		}
	}
	if err := s.setRemote(ctx, c.r, originName, url, lazy); err != nil {
		return c, c.abandon(err)
	}
	if c.r, err = s.open(ctx); err == nil { // as what the settings make of it
		c.m, err = s.remoteNamed(c.r, originName)
	}
	if err != nil {
		return c, c.abandon(err)
	}
	return c, nil
}

// abandon takes back what was made, unless something has come already. It returns
// cause, with the way out.
func (c *clone) abandon(cause error) error {
	packs, err := filepath.Glob(filepath.Join(c.r.Dir, "packs", "*.pack"))
	staged, _ := filepath.Glob(filepath.Join(c.r.Dir, "stage", "*"))
	if c.fresh && err == nil && len(packs)+len(staged) == 0 {
		return errors.Join(cause, os.RemoveAll(c.r.Dir))
	}
	return withHint(cause, fmt.Sprintf(`%s is a repository now: "cache-tool --repo %s pull --all --tags" goes on`, c.r.Dir, c.r.Dir))
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
