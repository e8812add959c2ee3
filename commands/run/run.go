// Package run is the verb `run` without the command line around it: it wraps single
// compiler calls, so a hit must cost no more than its look-ups. What parses flags
// and formats answers for the other verbs takes longer to start than a hit takes,
// so none of it may be imported here; see internal/front.
package run

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/action"
)

// A Line is what was typed.
type Line struct {
	action.Spec
	CacheFailures bool
}

// Options say where to run. All of them are needed.
type Options struct {
	In       io.Reader
	Out, Err io.Writer // unbuffered

	// Open opens the repository and says which branch is worked on.
	Open func(ctx context.Context) (*repo.Repo, refs.Name, error)

	Warn func(format string, args ...any) // about the cache, which never fails the command
	Note func(format string, args ...any) // for those who want to know more
}

// Cached runs a command with the cache, or without it if there is something wrong
// with that. The result has the command's exit code. An error is a
// *action.SpecError, or that of Open if fatal says so: then nothing has run.
func Cached(ctx context.Context, l Line, o Options, fatal func(error) bool) (action.Result, error) {
	a := action.Options{
		Stdin: o.In, Stdout: o.Out, Stderr: o.Err, CacheFailures: l.CacheFailures,
		Listen:  listen,
		Warn:    func(message string) { o.Warn("%s", message) },
		Note:    func(message string) { o.Note("%s", message) },
		NewMeta: NewMeta,
	}
	store, err := openStore(ctx, o, &a)
	if err != nil {
		if fatal(err) {
			return action.Result{}, err
		}
		o.Warn("not cached: %v", err)
	}
	result, err := action.Run(ctx, store, l.Spec, a)
	if err == nil {
		o.Note("%s %s in %s", result.Outcome, result.Key.Short(), result.Took.Round(10*time.Microsecond))
	}
	return result, err
}

// openStore opens the repository for runs on the branch. The store it returns is
// nil, not a nil pointer, with an error.
func openStore(ctx context.Context, o Options, a *action.Options) (action.Store, error) {
	r, branch, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	store, err := r.Runs(ctx, branch)
	if err != nil {
		return nil, err
	}
	a.Dir, a.Cache = r.Dir, r.Stat()
	return store, nil
}

// NewMeta says where a result comes from.
func NewMeta() entry.Meta {
	source := repo.ReadSource(".")
	return entry.Meta{Created: time.Now(), Commit: source.Commit, Branch: source.Branch}
}

// listen returns the signals that a command is to get.
func listen() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	Notify(signals)
	return signals
}

// Notify has those signals sent that a command is to get. What this process was
// started to ignore, as by nohup, stays ignored.
func Notify(signals chan<- os.Signal) {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	// With somebody listening, writing to a closed pipe is an error instead of death
	// with files half-written. A channel nobody reads, not Ignore: children must not
	// inherit a deaf ear.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
