package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/commands/run"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/action"
)

func runCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "run",
		Category:  categoryCache,
		Usage:     "run a command, or restore what it made before",
		ArgsUsage: "-- COMMAND [ARGUMENT…]",
		Description: text(`
Runs COMMAND the first time. After that, as long as nothing changed that its result
depends on, what it made is put back in its place: its outputs, what it printed on
standard output and standard error, and its exit code. What counts is the arguments,
the directory relative to the base (the Git work tree, unless --base says otherwise),
the program and, if that is a script, its interpreter, the platform, and what the
flags name: inputs by their content, variables by their values.

An input is a file, a directory with all that is in it, or a pattern with *, ** and
{a,b}. With --depfile the command itself lists what it reads, as "gcc -MD" does.
With --depfile a new header that would be found earlier than a known one is not
noticed. Without --out only what is printed is kept. A directory that is put back keeps
what else is in it. A command that reads standard input needs --stdin, or it finds it
empty. Exit codes other than 0 are kept only with
--cache-failures. Nothing is kept where an input changed while the command ran, where
an output is missing, or after a signal. "cache-tool explain" tells why a run missed.

The exit code is that of COMMAND; 127 or 126 if it could not be started. Whatever is
wrong with the cache is a warning, and the command runs all the same.`, `
cache-tool run --out a.o --depfile a.d -- gcc -MD -c a.c -o a.o
cache-tool run --in 'src/**' --in Makefile --out build --env CFLAGS -- make`),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "in", Usage: "the command reads what `GLOB` matches"},
			&cli.StringSliceFlag{Name: "out", Usage: "the command makes `PATH`: a file, a directory or a link"},
			&cli.StringSliceFlag{Name: "env", Usage: "the command depends on the variable `NAME`"},
			&cli.StringFlag{Name: "depfile", Usage: "the command lists what it reads in `FILE`, as gcc -MD does"},
			&cli.StringFlag{Name: "salt", Usage: "the result depends on `TEXT`, too"},
			&cli.StringFlag{Name: "base", Usage: "paths count relative to `DIR`"},
			boolFlag(nil, "the command reads standard input, all of which counts", "stdin"),
			boolFlag(nil, "keep and restore results with exit codes other than 0, too", "cache-failures"),
		},
	}
}

// runDirect does what runCommand describes.
func runDirect(ctx context.Context, s *session, flags flagsGiven, arguments []string) error {
	var cacheFailures bool
	spec := action.Spec{Args: arguments}
	err := flags.set(map[string]any{
		"in": &spec.In, "out": &spec.Out, "env": &spec.Env, "depfile": &spec.Depfile, "salt": &spec.Salt,
		"base": &spec.Base, "stdin": &spec.Stdin, "cache-failures": &cacheFailures,
	})
	if err != nil {
		return err
	}
	if s.json {
		return usagef("--json: standard output belongs to the command that runs")
	}
	return s.runCached(ctx, run.Line{Spec: spec, CacheFailures: cacheFailures})
}

// runCached runs the command of a line with the cache.
func (s *session) runCached(ctx context.Context, l run.Line) error {
	result, err := run.Cached(ctx, l, run.Options{
		In: s.in, Out: unbuffered{s.out}, Err: s.err,
		Open: func(ctx context.Context) (*repo.Repo, refs.Name, error) {
			r, err := s.openToWrite(ctx)
			if err != nil {
				return nil, "", err
			}
			branch, err := s.branch(ctx, r)
			return r, branch, err
		},
		Warn: s.warn, Note: s.detail,
	}, func(err error) bool {
		_, usage := errors.AsType[*usageError](err)
		return usage
	})
	if bad, ok := errors.AsType[*action.SpecError](err); ok {
		return usagef("%v", bad)
	}
	if err != nil {
		return err
	}
	if result.NotStarted != nil {
		fmt.Fprintf(s.err, "%s%s: %v\n", programName, prefix(s.verb), result.NotStarted)
	}
	if result.Exit != 0 {
		return exitStatus(result.Exit)
	}
	return nil
}

// unbuffered passes on what a command prints when it prints it.
type unbuffered struct{ w *bufio.Writer }

func (u unbuffered) Write(p []byte) (int, error) {
	n, err := u.w.Write(p)
	if err == nil {
		err = u.w.Flush()
	}
	return n, err
}
