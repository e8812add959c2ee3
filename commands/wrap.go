package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/action"
	"github.com/cache-tool/cache-tool/repo/ci"
)

func wrapCommand(s *session) *cli.Command {
	var w wrapping
	return &cli.Command{
		Name:      "wrap",
		Category:  categoryCache,
		Usage:     "run a build with the cache around it",
		ArgsUsage: "-- COMMAND [ARGUMENT…]",
		Description: text(`
Works out which branch the build belongs to, brings what others have made, as far as
it is needed, runs COMMAND so that the build tools in it find the cache, commits what
is new, and sends that back. "run" within COMMAND uses the same branch.

A CI service says what is built: a branch has its own; a pull request, from a fork,
too, has pr/NUMBER, and is read through the branch that it is to be merged into; a tag
has tag/NAME. Elsewhere it is the branch that Git has checked out. All but the default
branch start empty, and hold what is new. --branch, --base and $CACHE_TOOL_BRANCH say
otherwise; but a pull request sends nothing to another branch.

The remote is that of the branch, else "origin"; $CACHE_TOOL_REMOTE, a URL, makes one.
Without a remote all is done here. What a CI service runs is pushed, anything else
with --push, or if the setting wrap.push is true.

The exit code is that of COMMAND; 127 or 126 if it could not be started. Whatever is
wrong with the cache or the remote is a warning, and COMMAND runs all the same; after
a signal nothing more is done.`, `
cache-tool wrap -- make -j4
eval "$(cache-tool wrap --print-env)"`),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "base", Usage: "lookups try `BRANCH` after the build's own", Destination: &w.base},
			boolFlag(&w.push, "push what the build made", "push"),
			boolFlag(&w.noPush, "push nothing", "no-push"),
			boolFlag(&w.printEnv, "print what would be set for COMMAND, for a shell to read, and do nothing else", "print-env"),
		},
		Action: func(c *cli.Context) error {
			w.args = c.Args().Slice()
			switch {
			case w.push && w.noPush:
				return usagef("only one of --push and --no-push")
			case w.printEnv && len(w.args) > 0:
				return usagef("--print-env runs no command")
			case w.printEnv:
				return s.printEnv(c.Context, w)
			case len(w.args) == 0:
				return &usageError{"which command?", []string{"usage: cache-tool wrap -- COMMAND [ARGUMENT…]"}}
			case s.json:
				return usagef("--json: standard output belongs to the command that runs")
			}
			return s.wrap(c.Context, w)
		},
	}
}

// wrapping is what was typed.
type wrapping struct {
	args                   []string
	base                   string
	push, noPush, printEnv bool
}

// wrap runs a command with the cache around it. Of what is wrong with the cache it
// tells, and goes on.
func (s *session) wrap(ctx context.Context, typed wrapping) error {
	w, err := s.openWrapped(ctx, typed, s.openToWrite)
	if _, usage := errors.AsType[*usageError](err); usage {
		return err
	}
	environ := os.Environ()
	if err != nil {
		s.warn("not cached: %v", err)
	} else if !w.within {
		w.before(ctx)
		environ = withVariables(environ, append(w.variables(), wrappedVariable+"="+w.repo.Dir))
		if w.gateway != nil {
			environ = withVariables(environ, w.gateway.Env)
		}
		if w.dune != nil {
			environ = withVariables(environ, duneVariables)
		}
	}
	if ctx.Err() != nil {
		w.stop()
		return context.Cause(ctx)
	}
	code, notStarted := s.passThrough(ctx, typed.args, environ)
	if notStarted != nil {
		fmt.Fprintf(s.err, "%s%s: %v\n", programName, prefix(s.verb), notStarted)
	}
	if err == nil && !w.within {
		w.after(ctx)
	}
	if code != 0 {
		return exitStatus(code)
	}
	return nil
}

// A wrapped build is one command, and what the cache does before it and after it.
type wrapped struct {
	s      *session
	typed  wrapping
	build  ci.Build
	within bool // the command of another wrap, which does all that is to be done

	repo      *repo.Repo
	branch    refs.Name
	base      string // what lookups try after the branch, unless it is the default one
	remote    remoteStore
	hasRemote bool

	gateway *gateway  // nil if there is none
	dune    *duneWork // nil if the command does not use Dune
	runs    action.Mark
	sum     wrapSummary
}

// before brings what others have made, and opens the ways in which build tools get at
// it.
func (w *wrapped) before(ctx context.Context) {
	if w.hasRemote {
		if err := w.pull(ctx); err != nil && ctx.Err() == nil {
			w.s.warn("%v: going on with what is here", err)
		}
	}
	w.runs = action.MarkLog(w.repo.Dir)
	g, err := w.s.startGateway(ctx, w.repo, w.branch)
	if err != nil {
		w.s.warn("only \"cache-tool run\" finds the cache: %v", err)
	}
	w.gateway = g
	w.openDune(ctx)
}

// nobody is how long a remote is waited for that may not be there.
const nobody = 800 * time.Millisecond

// pull brings the branches that the build reads: their commits, and the rest when it is
// needed, unless somebody has chosen to have all of it here.
func (w *wrapped) pull(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, w.patience(), w.tooSlow())
	defer cancel()
	ctx, stop := untilSilent(ctx, w.remote, nobody)
	defer stop()
	m := w.remote
	m.hasty = true
	x, _, err := w.s.pull(ctx, w.repo, m, w.branch, pulling{lazy: m.lazy})
	if x != nil {
		w.sum.fetched += x.stats.Bytes
		x.warnOfSettled(x.settledEntries(ctx))
	}
	if errors.Is(err, repo.ErrNotRepository) {
		return nil // the first push makes it
	}
	return w.remoteFailed(ctx, err)
}

// push sends the branch, if it has anything that the remote was not seen with.
func (w *wrapped) push(ctx context.Context) error {
	tip, err := w.repo.Refs.Get(ctx, w.branch)
	if err != nil {
		return nil // nothing was ever made
	}
	if seen, err := w.repo.Refs.Get(ctx, refs.Remote(w.remote.name, w.there().Short())); err == nil && seen == tip {
		return nil
	}
	ctx, stop := untilSilent(ctx, w.remote, nobody)
	defer stop()
	var p pushing
	if err := p.choose(ctx, w.repo, w.branch, nil); err != nil {
		return err
	}
	x, moved, err := w.s.pushRefs(ctx, w.repo, w.remote, p)
	if x != nil {
		w.sum.sent += x.stats.Bytes
		x.warnOfSettled(x.settledEntries(ctx))
	}
	w.sum.pushed = err == nil && len(moved) > 0
	return w.remoteFailed(ctx, err)
}

// there returns what the branch is called at the remote.
func (w *wrapped) there() refs.Name {
	if name, err := w.repo.Config.Get("branch." + w.branch.Short() + ".merge"); err == nil && name != "" {
		return refs.Branch(name)
	}
	return w.branch
}

// remoteFailed says why a remote is of no use, and lets those rest who would ask it
// again at once.
func (w *wrapped) remoteFailed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); ctx.Err() != nil && !errors.As(cause, new(Interrupted)) {
		err = remoteError(w.remote, cause)
	}
	if errors.Is(err, errUnreachable) {
		noteSilence(w.repo)
	}
	return err
}

// after keeps what the command has made.
func (w *wrapped) after(ctx context.Context) {
	w.stop()
	if ctx.Err() != nil {
		return // whoever interrupts a command wants all of it to end
	}
	w.keepDune(ctx)
	ctx, cancel := context.WithTimeoutCause(ctx, w.patience(), w.tooSlow())
	defer cancel()
	if err := w.commit(ctx); err != nil {
		w.s.warn("what the build made is not committed yet: %v", err)
	} else if w.hasRemote && w.mayPush() {
		if err := w.push(ctx); err != nil {
			w.s.warn("not pushed: %v", err)
		}
	}
	w.count()
	w.tell()
}

// stop ends what listens to build tools.
func (w *wrapped) stop() {
	if w == nil || w.gateway == nil {
		return
	}
	const patience = 10 * time.Second // for what it is about to store
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.gateway.Close(ctx); err != nil {
		w.s.warn("%v", err)
	}
}

// commit makes one commit of what was staged. Of the command line it names the program
// only: others will read it, and arguments hold secrets.
func (w *wrapped) commit(ctx context.Context) error {
	n, err := w.repo.Stage(w.branch).Count(ctx)
	if n == 0 || err != nil {
		return err
	}
	message := fmt.Sprintf("%s: %s", filepath.Base(w.typed.args[0]), counted(n, "entry"))
	_, changed, err := w.repo.FoldStage(ctx, w.branch, message)
	if err == nil && changed {
		w.sum.entries += n
	}
	return err
}

// mayPush reports whether what the build made is to be sent.
func (w *wrapped) mayPush() bool {
	switch setting, _ := w.repo.Config.Get("wrap.push"); {
	case w.typed.noPush:
		return false
	case !w.build.MayWrite(w.branch.Short()):
		w.s.warn("not pushed: a pull request writes %s, and not %s", w.build.Branch, shown(w.branch.Short()))
		return false
	case w.typed.push:
		return true
	case w.build.ReadOnly:
		return false
	default:
		return setting == "true" || setting == "ci" && w.build.Provider != ""
	}
}

// withVariables sets variables in an environment, those that somebody has set for the
// cache of one tool or another excepted.
func withVariables(environ, variables []string) []string {
	for _, v := range variables {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "CACHE_TOOL_") || os.Getenv(name) == "" {
			environ = append(environ, v)
		}
	}
	return environ
}
