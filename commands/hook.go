package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func hookCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "hook",
		Category:  categoryTool,
		Usage:     "keep the cache beside the Git work tree that one is in",
		ArgsUsage: "install | uninstall | run NAME [ARGUMENT…]",
		Description: text(`
"install" adds lines to two of Git's hooks: after a checkout the commits of the branch
are brought from the remote, as "wrap" would; before a commit what is staged in the
cache is committed there. Hooks that are there already keep what they do. "uninstall"
takes the lines out again. "run" is what they call; it never stops Git.`, `
cache-tool hook install`),
		Action: func(c *cli.Context) error {
			verb := c.Args().First()
			if verb == "run" && c.NArg() > 1 {
				return s.runHook(c.Context, c.Args().Get(1), c.Args().Slice()[2:])
			}
			if err := arguments(c, 1, 1); err != nil {
				return err
			}
			switch verb {
			case "install":
				return s.changeHooks(c.Context, withHook)
			case "uninstall":
				return s.changeHooks(c.Context, func(_, script string) (string, error) { return withoutHook(script), nil })
			}
			return usagef("%q: want install, uninstall or run", verb)
		},
	}
}

func hookWords(_ context.Context, _ *session, args []string, _ string) []string {
	if len(args) > 0 {
		return nil
	}
	return []string{"install\tadd lines to Git's hooks", "uninstall\ttake them out again"}
}

// hookNames are the hooks that we have lines in.
var hookNames = []string{"post-checkout", "pre-commit"}

// Our lines in a hook. They stand first: what a hook does may end in exit or exec.
const (
	hookBegin = "# cache-tool: begin"
	hookEnd   = "# cache-tool: end"
)

var shellScript = regexp.MustCompile(`^#!\s*(\S*/)?(env\s+)?(\S*/)?(sh|bash|dash|ksh|zsh)(\s.*)?$`)

// withHook returns the script of a hook with our lines in it.
func withHook(name, script string) (string, error) {
	script = withoutHook(script)
	first, rest, _ := strings.Cut(script, "\n")
	if script == "" {
		first = "#!/bin/sh"
	}
	if !shellScript.MatchString(first) {
		return "", withHint(fmt.Errorf("%s is there, and no shell script", name), fmt.Sprintf(`let it run "cache-tool hook run %s", with its own arguments`, name))
	}
	return fmt.Sprintf("%s\n%s\nif command -v cache-tool >/dev/null; then cache-tool -q hook run %s \"$@\" </dev/null || :; fi\n%s\n%s",
		first, hookBegin, name, hookEnd, rest), nil
}

// withoutHook returns the script of a hook without our lines; nothing if nothing else
// was in it.
func withoutHook(script string) string {
	before, rest, begins := strings.Cut(script, hookBegin+"\n")
	_, after, ends := strings.Cut(rest, hookEnd+"\n")
	if !begins || !ends {
		return script
	}
	if before == "#!/bin/sh\n" && after == "" {
		return ""
	}
	return before + after
}

// changeHooks writes the hooks of the work tree anew.
func (s *session) changeHooks(ctx context.Context, change func(name, script string) (string, error)) error {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--git-path", "hooks").Output()
	if err != nil {
		return withHint(errors.New("no Git work tree here"), "hooks belong to one: run the command in it")
	}
	dir := strings.TrimSuffix(string(out), "\n")
	changed := map[string]string{} // all or none: a hook may not be ours to change
	for _, name := range hookNames {
		script, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if changed[name], err = change(name, string(script)); err != nil {
			return err
		}
		if fi, err := os.Stat(filepath.Join(dir, name)); err == nil && fi.Mode()&0o111 == 0 && changed[name] != string(script) {
			return withHint(fmt.Errorf("%s is there, and not executable: Git does not run it, and would then", name), "remove it, or make it executable")
		}
	}
	document := map[string]any{"directory": dir, "hooks": hookNames}
	for _, name := range hookNames {
		if err := writeHook(filepath.Join(dir, name), changed[name]); err != nil {
			return err
		}
		s.say("%s is %s", shown(filepath.Join(dir, name)), map[bool]string{true: "without us", false: "installed"}[!strings.Contains(changed[name], hookBegin)])
	}
	if s.json {
		return s.answer(document)
	}
	return nil
}

// writeHook replaces a hook; an empty one goes.
func writeHook(name, script string) error {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	if script == "" {
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".cache-tool-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(script)
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// runHook is what a hook does. Whatever is wrong with the cache, Git goes on.
func (s *session) runHook(ctx context.Context, name string, args []string) error {
	const most = 5 * time.Second // somebody waits
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	switch {
	case name == "post-checkout" && len(args) > 2 && args[2] == "0":
		return nil // of files, and not of a branch
	case name != "post-checkout" && name != "pre-commit":
		return usagef("%q: want one of %s", name, strings.Join(hookNames, ", "))
	}
	w, err := s.openWrapped(ctx, wrapping{args: []string{"git"}}, s.open)
	if err != nil {
		s.detail("%v", err) // no repository, most of all
		return nil
	}
	switch {
	case name == "pre-commit":
		err = w.commit(ctx)
	case w.hasRemote:
		err = w.pull(ctx)
	}
	if err != nil {
		s.warn("%v", err)
	}
	return nil
}
