package commands

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/repo"
)

func configCommand(s *session) *cli.Command {
	var all bool
	return &cli.Command{
		Name:      "config",
		Category:  categoryRepo,
		Usage:     "read and change the repository's settings",
		ArgsUsage: "list | get NAME | set NAME VALUE | unset NAME",
		Description: text(`
"list" prints what is set; with --all also every other setting there is, its
default and what it is for. "get" prints one value, its default if it is not set.
"set" refuses names and values that make no sense.`, `
cache-tool config set branch.topic.base main`),
		Flags: []cli.Flag{boolFlag(&all, "list every setting there is", "all", "a")},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 3); err != nil {
				return err
			}
			want := map[string]int{"list": 1, "get": 2, "set": 3, "unset": 2}[c.Args().First()]
			if want == 0 {
				return usagef("%q: want list, get, set or unset", c.Args().First())
			}
			if err := arguments(c, want, want); err != nil {
				return err
			}
			open := s.open
			if c.Args().First() == "set" {
				open = s.openToWrite
			}
			r, err := open(c.Context)
			if err != nil {
				return err
			}
			name, value := c.Args().Get(1), c.Args().Get(2)
			switch c.Args().First() {
			case "list":
				return s.listConfig(r, all)
			case "get":
				value, err = r.Config.Get(name)
				if err != nil {
					err = settingError(name, err)
				}
			default:
				err = setSetting(c.Context, r, name, value)
			}
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]string{"name": name, "value": value})
			}
			if c.Args().First() == "get" {
				s.printf("%s\n", value)
			}
			return nil
		},
	}
}

// setSetting changes a setting; an empty value takes it out. A file is the one that
// is meant here and now: commands run in other directories, too. So is the path of a
// remote; and its URL is what "remote add" would take.
func setSetting(ctx context.Context, r *repo.Repo, name, value string) error {
	switch setting := strings.ToLower(name); {
	case value == "":
	case strings.HasSuffix(setting, "file"):
		path, err := filepath.Abs(value)
		if err != nil {
			return err
		}
		value = path
	case strings.HasPrefix(setting, "remote.") && strings.HasSuffix(setting, ".url"):
		if err := checkURL(value); err != nil {
			return err
		}
		value = absolute(value)
	}
	if err := r.Config.Set(ctx, name, value); err != nil {
		return settingError(name, err)
	}
	return nil
}

// settingError adds which settings there are to an error about one there is not.
func settingError(name string, err error) error {
	if !errors.Is(err, repo.ErrUnknownSetting) {
		return err
	}
	var names []string
	for _, s := range repo.Settings() {
		names = append(names, s.Name)
	}
	hints := []string{`"cache-tool config list --all" shows every setting`}
	if near := nearest(name, names); near != "" {
		hints = append([]string{fmt.Sprintf("did you mean %q?", near)}, hints...)
	}
	return &usageError{err.Error(), hints}
}

func (s *session) listConfig(r *repo.Repo, all bool) error {
	type settingJSON struct {
		Name    string  `json:"name"`
		Value   *string `json:"value,omitempty"`
		Default *string `json:"default,omitempty"`
		Help    string  `json:"help,omitempty"`
	}
	var list []settingJSON
	set := map[string]bool{}
	for _, pair := range r.Config.List() {
		list = append(list, settingJSON{Name: pair[0], Value: &pair[1]})
		set[strings.ToLower(pair[0])] = true
	}
	if all {
		for _, known := range repo.Settings() {
			if !set[strings.ToLower(known.Name)] {
				list = append(list, settingJSON{Name: known.Name, Default: &known.Default, Help: known.Help})
			}
		}
	}
	if s.json {
		return s.answer(map[string]any{"settings": list})
	}
	table := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	for _, one := range list {
		if one.Value != nil {
			fmt.Fprintf(table, "%s=%s\n", one.Name, *one.Value)
			continue
		}
		fmt.Fprintf(table, "# %s=%s\t%s\n", one.Name, *one.Default, one.Help)
	}
	return table.Flush()
}
