package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/cache-tool/cache-tool/commands/run"
	"github.com/cache-tool/cache-tool/repo/action"
)

// wrapDune runs a command between a pull and a push. Args are those of the command
// line, from "wrap" on; s.dashes of them stood before "--".
func (s *session) wrapDune(ctx context.Context, args []string, message string) error {
	if s.dashes < 1 || s.dashes > 2 || len(args) == s.dashes {
		return &usageError{"which command?", []string{"usage: cache-tool dune wrap [REMOTE] -- COMMAND [ARGUMENT…]"}}
	}
	if s.json {
		return usagef("--json: standard output belongs to the command that runs")
	}
	remote := ""
	if s.dashes == 2 {
		remote = args[1]
	}
	w, err := s.openDune(ctx, s.openToWrite)
	if _, usage := errors.AsType[*usageError](err); usage {
		return err
	}
	if err != nil {
		s.warn("not cached: %v", err)
	} else {
		s.beforeDune(ctx, w, remote)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	code, notStarted := s.passThrough(ctx, args[s.dashes:], withVariables(os.Environ(), duneVariables))
	switch {
	case notStarted != nil:
		fmt.Fprintf(s.err, "%s%s: %v\n", programName, prefix(s.verb), notStarted)
	case err == nil && ctx.Err() == nil: // whoever interrupts a command wants all of it to end
		s.afterDune(ctx, w, remote, message)
	}
	if code != 0 {
		return exitStatus(code)
	}
	return nil
}

// beforeDune brings what others have made. What can't be had from the remote may
// still be here.
func (s *session) beforeDune(ctx context.Context, w *duneWork, remote string) {
	if err := s.pullFrom(ctx, w.repo, remote, w.branch); err != nil {
		s.warn("%v", err)
	}
	done, err := s.deliverDune(ctx, w)
	s.noteDune(done, pulledLine, err)
}

// afterDune keeps what the command has made.
func (s *session) afterDune(ctx context.Context, w *duneWork, remote, message string) {
	done, err := s.collectDune(ctx, w, message)
	s.noteDune(done, pushedLine, err)
	if err != nil {
		return
	}
	if err := s.pushTo(ctx, w.repo, remote, w.branch); err != nil {
		s.warn("%v", err)
	}
}

// noteDune tells on standard error what was carried, or why nothing was: the other
// stream is the command's.
func (s *session) noteDune(done carriedJSON, line func(carriedJSON) string, err error) {
	switch {
	case err != nil:
		s.warn("%v", err)
	case done.Entries+done.Skipped > 0 && !s.quiet:
		fmt.Fprintf(s.err, "%s%s: %s\n", programName, prefix(s.verb), line(done))
	}
}

// duneVariables let Dune use its cache. The second makes Dune 2 do without its daemon.
var duneVariables = []string{"DUNE_CACHE=enabled", "DUNE_CACHE_TRANSPORT=direct"}

// passThrough runs a command with our own streams and returns its exit code.
// Signals go to the command. An error means that it could not be started.
func (s *session) passThrough(ctx context.Context, args, env []string) (int, error) {
	signals := make(chan os.Signal, 16)
	run.Notify(signals)
	defer signal.Stop(signals)
	return action.Direct{Args: args, Env: env, Stdin: s.in, Stdout: s.stdout, Stderr: s.err, Signals: signals}.Run(ctx)
}
