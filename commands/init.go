package commands

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/repo"
)

func initCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "init",
		Category:  categoryRepo,
		Usage:     "make a repository",
		ArgsUsage: "[DIR]",
		Description: text(`
Makes a repository in DIR; without DIR in --repo or $CACHE_TOOL_REPO, else in
.cache-tool in the working directory, where all commands from here downwards find
it. Where there is a repository already, it stays as it is. Nobody has to call
this: save, put and run make a repository when they need one.`, `
cache-tool init
cache-tool init /var/cache/team`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 1); err != nil {
				return err
			}
			dir, err := initDir(c.Args().First(), s.repoFlag)
			if err != nil {
				return err
			}
			_, err = os.Stat(filepath.Join(dir, "config"))
			existed := err == nil
			r, err := repo.Init(c.Context, dir, repo.Options{})
			if err != nil {
				return err
			}
			defer r.Close()
			if !existed {
				if err := ignore(dir); err != nil {
					return err
				}
			}
			if s.json {
				return s.answer(struct {
					Repository string `json:"repository"`
					Created    bool   `json:"created"`
				}{dir, !existed})
			}
			if existed {
				s.say("%s is a repository already", shown(dir))
			} else {
				s.say("made an empty repository in %s", shown(dir))
			}
			return nil
		},
	}
}

// initDir returns where init makes the repository.
func initDir(arg, flag string) (string, error) {
	if arg != "" && flag != "" && arg != flag {
		return "", usagef("%s, or --repo %s?", arg, flag)
	}
	for _, dir := range []string{arg, flag, os.Getenv("CACHE_TOOL_REPO"), repo.DirName} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	return "", fmt.Errorf("no directory")
}

// ignore keeps a repository out of Git: the work tree around it may be Git's, and
// this is nothing to commit.
func ignore(dir string) error {
	if filepath.Base(dir) != repo.DirName {
		return nil
	}
	return durable.WriteFile(filepath.Join(dir, ".gitignore"), []byte("*\n"), durable.NoSync)
}
