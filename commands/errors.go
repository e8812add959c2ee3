package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// The exit codes that a shell may rely on.
const (
	exitDone     = 0 // or a hit
	exitError    = 1
	exitUsage    = 2
	exitMiss     = 3
	exitConflict = 4
	exitSignal   = 128 // plus the number of the signal
)

// A usageError says that the command line makes no sense.
type usageError struct {
	text  string
	hints []string
}

func (e *usageError) Error() string   { return e.text }
func (e *usageError) Hints() []string { return e.hints }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// A missError says that the cache does not hold what was asked for. It is an
// answer, with an exit code of its own.
type missError struct{ text string }

func (e *missError) Error() string { return e.text }

func missf(format string, args ...any) error {
	return &missError{fmt.Sprintf(format, args...)}
}

// A conflictError says that two sides changed the same thing.
type conflictError struct {
	text  string
	hints []string
}

func (e *conflictError) Error() string   { return e.text }
func (e *conflictError) Hints() []string { return e.hints }

// An exitStatus ends the command with a code and without a word: somebody else,
// such as the command that was run, has said all there is to say.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// A hintedError adds the way out to an error of a lower layer.
type hintedError struct {
	error
	hints []string
}

func (e *hintedError) Hints() []string { return e.hints }
func (e *hintedError) Unwrap() error   { return e.error }

// withHint returns err with the way out; a nil err stays nil.
func withHint(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &hintedError{err, hints}
}

// hintsOf collects what the errors within err advise, and what this table knows
// about the causes that any command can meet.
func hintsOf(err error) []string {
	var wise interface{ Hints() []string }
	if errors.As(err, &wise) && len(wise.Hints()) > 0 {
		return wise.Hints()
	}
	var damaged *objects.DamagedError
	switch {
	case errors.As(err, new(*refs.ConflictError)):
		return []string{"another process moved it meanwhile: run the command again"}
	case errors.As(err, &damaged):
		return []string{`run "cache-tool fsck" to see everything that is damaged`}
	case errors.Is(err, repo.ErrExists):
		return []string{"a repository wants a directory of its own: name one that is empty, or not there yet"}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return []string{"the disk is full; nothing was changed: make room and run the command again"}
	case errors.Is(err, syscall.EROFS):
		return []string{"the file system is read-only; --repo DIR uses a repository elsewhere"}
	}
	return nil
}

// codeOf returns the exit code that err stands for.
func codeOf(ctx context.Context, err error) int {
	var (
		status      exitStatus
		usage       *usageError
		miss        *missError
		conflict    *conflictError
		lost        *refs.ConflictError
		interrupted Interrupted
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &status):
		return int(status)
	case errors.As(context.Cause(ctx), &interrupted):
		return exitSignal + int(interrupted.Signal)
	case errors.Is(err, errPipe):
		return exitSignal + int(syscall.SIGPIPE)
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &miss):
		return exitMiss
	case errors.As(err, &conflict), errors.As(err, &lost):
		return exitConflict
	}
	return exitError
}

// finish writes out what is left, reports err once and returns the exit code.
func (s *session) finish(ctx context.Context, err error) int {
	code := codeOf(ctx, err)
	var status exitStatus
	silent := err == nil || errors.As(err, &status) || code == exitSignal+int(syscall.SIGPIPE) || code == exitMiss && s.quiet
	if err != nil && s.json && !s.answered && !errors.As(err, &status) {
		_ = s.answer(errorAnswer(ctx, err, code))
	}
	if flushErr := s.out.Flush(); flushErr != nil && err == nil {
		err, code = flushErr, codeOf(ctx, flushErr)
		silent = errors.Is(err, errPipe)
	}
	if !silent {
		s.meter.clear()
		fmt.Fprintf(s.err, "%s%s: %s\n", programName, prefix(s.verb), message(ctx, err))
		for _, hint := range hintsOf(err) {
			fmt.Fprintf(s.err, "hint: %s\n", hint)
		}
	}
	if err := s.close(); err != nil && code == exitDone {
		fmt.Fprintf(s.err, "%s%s: %s\n", programName, prefix(s.verb), err)
		return exitError
	}
	return code
}

func prefix(verb string) string {
	if verb == "" {
		return ""
	}
	return ": " + verb
}

// message is one line per cause, without the bytes that would let a key or a
// remote steer the terminal.
func message(ctx context.Context, err error) string {
	var interrupted Interrupted
	if errors.As(context.Cause(ctx), &interrupted) {
		return interrupted.Error()
	}
	return harmless(strings.TrimRight(err.Error(), "\n"))
}

// harmless is a text without the bytes that would steer a terminal.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// An errorJSON is what --json prints for a command that failed.
type errorJSON struct {
	Error struct {
		Message string   `json:"message"`
		Hints   []string `json:"hints,omitempty"`
		Code    int      `json:"code"` // the exit code
	} `json:"error"`
}

func errorAnswer(ctx context.Context, err error, code int) errorJSON {
	var a errorJSON
	a.Error.Message = message(ctx, err)
	a.Error.Hints = hintsOf(err)
	a.Error.Code = code
	return a
}

// unknownVerb is the error about a command that does not exist.
func (s *session) unknownVerb(name string) error {
	var names []string
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	err := &usageError{text: fmt.Sprintf("%q is not a command", name)}
	if near := nearest(name, names); near != "" {
		err.hints = append(err.hints, fmt.Sprintf("did you mean %q?", near))
	}
	err.hints = append(err.hints, `run "cache-tool help" for the list`)
	return err
}
