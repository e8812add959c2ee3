package commands

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

func catCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "cat",
		Category:  categoryLook,
		Usage:     "print a file that is inside an entry",
		ArgsUsage: "[REV:]PATH",
		Description: text(`
Prints a file inside an entry: PATH is KIND/KEY/NAME… as ls shows it. Of a run,
that is what it printed (run/KEY/stdout) and what it made (run/KEY/out/…); a value
of put needs no more than put/KEY. No byte is printed before all of them are
proven to be what was kept. Exit code 3 says that there is no such file.`, `
cache-tool cat main:save/deps/base/node_modules/.package-lock.json`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 1); err != nil {
				return err
			}
			r, err := s.openToRead(c.Context)
			if err != nil {
				return err
			}
			v, path, err := s.viewOf(c.Context, r, c.Args().First())
			if err != nil {
				return err
			}
			t, err := find(c.Context, r, v, path)
			if errors.Is(err, objects.ErrNotFound) {
				return s.missed(path, v, err)
			} else if err != nil {
				return err
			}
			if t.inside == "" {
				if name, e, err := descend(c.Context, r.DB, t.ID, entry.BodyName); err == nil {
					t.inside, t.entry = name, e
				}
			}
			if t.entry.Mode.IsDir() {
				return withHint(fmt.Errorf("%s: is a directory", shown(t.String())), fmt.Sprintf("%q lists it", "cache-tool ls "+t.String()))
			}
			return s.deliver(c.Context, r, content{Key: t.Key, Path: t.String(), Branch: t.Branch.Short()}, t.entry, "")
		},
	}
}
