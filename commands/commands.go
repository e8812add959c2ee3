// Package commands is the command line: one file per verb, and the frame that
// they share.
//
// The frame knows what a shell relies on: flags may stand before or after
// arguments; --json prints one document on standard output and nothing else;
// an error is printed once, with the way out; progress goes to terminals only;
// and the exit code is 0 for done or hit, 1 for an error, 2 for a usage error,
// 3 for a miss and 4 for a conflict.
//
// A verb is built only when it is asked for: `run` wraps single compiler calls,
// so whatever is not needed to start costs every one of them.
package commands

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// Streams are the three files that a command begins with.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// A verb is one command of the command line.
type verb struct {
	name  string
	build func(*session) *cli.Command
	wraps bool // its arguments are a command of their own: flags end at the first

	// direct runs the command without urfave/cli, which takes as long as all else
	// that a cached compile costs.
	direct func(ctx context.Context, s *session, flags flagsGiven, arguments []string) error

	// words returns what a shell may offer for last, the argument after args.
	words func(ctx context.Context, s *session, args []string, last string) []string
}

// verbs returns every command, in the order of the help page.
func verbs() []verb {
	return []verb{
		{name: "save", build: saveCommand},
		{name: "restore", build: restoreCommand, words: savedWords},
		{name: "put", build: putCommand, words: valueWords},
		{name: "get", build: getCommand, words: valueWords},
		{name: "rm", build: rmCommand, words: entryWords},
		{name: "run", build: runCommand, wraps: true, direct: runDirect},
		{name: "wrap", build: wrapCommand, wraps: true},
		{name: "dune", build: duneCommand, words: duneWords},
		{name: "goprog", build: goprogCommand},
		{name: "ls", build: lsCommand, words: pathWords},
		{name: "cat", build: catCommand, words: pathWords},
		{name: "explain", build: explainCommand},
		{name: "stats", build: statsCommand},
		{name: "status", build: statusCommand},
		{name: "commit", build: commitCommand},
		{name: "log", build: logCommand, words: revisionWords},
		{name: "show", build: showCommand, words: revisionWords},
		{name: "diff", build: diffCommand, words: revisionWords},
		{name: "blame", build: blameCommand, words: pathWords},
		{name: "reflog", build: reflogCommand, words: revisionWords},
		{name: "branch", build: branchCommand, words: revisionWords},
		{name: "tag", build: tagCommand, words: revisionWords},
		{name: "merge", build: mergeCommand, words: revisionWords},
		{name: "revert", build: revertCommand, words: revisionWords},
		{name: "reset", build: resetCommand, words: revisionWords},
		{name: "clone", build: cloneCommand},
		{name: "pull", build: pullCommand, words: remoteWords},
		{name: "push", build: pushCommand, words: remoteWords},
		{name: "fetch", build: fetchCommand, words: remoteWords},
		{name: "remote", build: remoteCommand, words: remoteVerbWords},
		{name: "bundle", build: bundleCommand},
		{name: "serve", build: serveCommand},
		{name: "token", build: tokenCommand, words: tokenWords},
		{name: "gc", build: gcCommand},
		{name: "init", build: initCommand},
		{name: "config", build: configCommand, words: configWords},
		{name: "fsck", build: fsckCommand, words: donorWords},
		{name: "export", build: exportCommand},
		{name: "hook", build: hookCommand, words: hookWords},
		{name: "completion", build: completionCommand, words: shellWords},
		{name: "version", build: versionCommand},
		{name: "help", build: helpCommand, words: helpWords},
		{name: completeName, build: completeCommand},
	}
}

func findVerb(name string) (verb, bool) {
	for _, v := range verbs() {
		if v.name == name {
			return v, true
		}
	}
	return verb{}, false
}

// globalFlags returns the flags that every command takes.
func globalFlags(s *session) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "repo", Usage: "the repository is in `DIR`", Destination: &s.repoFlag},
		&cli.StringFlag{Name: "branch", Usage: "work on branch `NAME`", Destination: &s.branchFlag},
		boolFlag(&s.json, "print one JSON document on standard output, and nothing else there", "json"),
		boolFlag(&s.quiet, "print only what was asked for, and errors", "quiet", "q"),
		boolFlag(&s.noProgress, "show no progress on the terminal", "no-progress"),
		boolFlag(&s.verbose, "say more about what is done", "verbose", "v"),
	}
}

// setGlobals does what globalFlags would do with flags.
func (s *session) setGlobals(flags flagsGiven) error {
	return flags.set(map[string]any{
		"repo": &s.repoFlag, "branch": &s.branchFlag, "json": &s.json,
		"quiet": &s.quiet, "no-progress": &s.noProgress, "verbose": &s.verbose,
	})
}

func boolFlag(to *bool, usage, name string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: aliases, Usage: usage, Destination: to, DisableDefaultText: true}
}

// An Interrupted error is the cause of a context that a signal cancelled.
type Interrupted struct{ Signal syscall.Signal }

func (e Interrupted) Error() string { return "interrupted" }

// Signals returns a context that SIGINT and SIGTERM cancel, with an Interrupted
// as its cause. A second signal ends the process as if nobody listened: who
// presses Ctrl-C twice means it, and a crash loses nothing.
//
// For `run` it does nothing: to listen starts threads, which is a tenth of what a
// hit costs, and there is nothing that a signal could spoil before the command
// runs. Then run listens for itself.
func Signals(args []string) (ctx context.Context, stop func()) {
	if verbIn(args) == "run" {
		return context.Background(), func() {}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM)
	// With somebody listening, writing to a closed pipe is an error (which Main
	// keeps quiet about) instead of death with files half-written. A channel
	// nobody reads, not Ignore: children must not inherit a deaf ear.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		if s, ok := (<-caught).(syscall.Signal); ok {
			signal.Stop(caught) // and not Reset: `run` listens, too
			cancel(Interrupted{s})
		}
	}()
	return ctx, func() { cancel(nil) }
}

// verbIn returns the first of args that is no global flag, nor its value.
func verbIn(args []string) string {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--repo" || arg == "--branch":
			i++
		case !strings.HasPrefix(arg, "-"):
			return arg
		}
	}
	return ""
}

// memory is what a command stays within where it can: garbage is collected before
// the heap has doubled. A cache shares its machine with the build.
const memory = 144 << 20

// Main runs the command line args, which lack the program's name, and returns
// its exit code.
func Main(ctx context.Context, args []string, streams Streams) int {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory)
	}
	s := newSession(streams)
	err := s.run(ctx, args)
	return s.finish(ctx, err)
}

// run finds the verb in args, builds it and lets it run.
func (s *session) run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "--version" {
		args = append([]string{"version"}, args[1:]...)
	}
	given, rest, _, err := arrange(args, withHelp(globalFlags(s)), flagsFirst)
	if err != nil {
		s.json = asksForJSON(args)
		return err
	}
	global, help := given.without("help")
	switch {
	case len(rest) == 0 && help:
		rest = []string{"help"}
	case len(rest) == 0:
		s.json = asksForJSON(args)
		return &usageError{text: "which command?", hints: []string{`run "cache-tool help" for the list`}}
	case help:
		rest = []string{"help", rest[0]}
	}
	v, ok := findVerb(rest[0])
	if !ok {
		s.json = asksForJSON(args)
		return s.unknownVerb(rest[0])
	}
	s.verb = v.name
	command := v.build(s)
	command.HelpName = v.name
	command.CustomHelpTemplate = verbHelp
	command.HideHelpCommand = true
	command.OnUsageError = onUsageError

	order := flagsAnywhere
	if v.wraps {
		order = flagsFirst
	}
	given, rest, s.dashes, err = arrange(rest[1:], append(withHelp(command.Flags), globalFlags(s)...), order)
	if err != nil {
		s.json = asksForJSON(args)
		return err
	}
	late, own := given.split(globalFlags(s))
	if own, help = own.without("help"); help {
		return s.showHelp(v)
	}
	if v.direct != nil {
		if err := s.setGlobals(slices.Concat(global, late)); err != nil {
			return err
		}
		return v.direct(ctx, s, own, rest)
	}
	line := slices.Concat([]string{programName}, global.words(), late.words(), []string{v.name}, own.words(), []string{"--"}, rest)
	return s.app(command).RunContext(ctx, line)
}

const programName = "cache-tool"

func (s *session) app(commands ...*cli.Command) *cli.App {
	return &cli.App{
		Name:                      programName,
		HelpName:                  programName,
		Usage:                     "a build cache that works like Git",
		CustomAppHelpTemplate:     appHelp,
		Flags:                     globalFlags(s),
		Commands:                  commands,
		HideHelpCommand:           true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // a glob may hold a comma
		OnUsageError:              onUsageError,
		ExitErrHandler:            func(*cli.Context, error) {}, // Main reports
		Writer:                    s.out,
		ErrWriter:                 s.err,
		Reader:                    s.in,
	}
}

// withHelp adds the flag that urfave/cli adds by itself.
func withHelp(flags []cli.Flag) []cli.Flag {
	return append(slices.Clip(flags), cli.HelpFlag)
}

// onUsageError takes the errors about the values of flags; those about their
// names are found earlier, by arrange.
func onUsageError(_ *cli.Context, err error, _ bool) error {
	text := err.Error()
	if before, after, ok := strings.Cut(text, "for flag -"); ok {
		if name, _, _ := strings.Cut(after, ":"); len(name) > 1 {
			after = "-" + after
		}
		text = before + "for flag -" + after
	}
	return &usageError{text: text}
}

// asksForJSON looks for --json where the flags could not be parsed: whoever
// reads standard output as JSON wants that error as JSON, too.
func asksForJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.Contains(args, "--json") || slices.Contains(args, "--json=true")
}
