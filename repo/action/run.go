// Package action runs commands, or puts back what they made before.
//
// What it knows that no other package does: what the result of a command
// depends on (Action), how inputs are found that nobody declared (ParseDepfile,
// Sets), when a result must not be kept, and how to tell why one was not there
// (Explain).
//
// A result is an entry of kind "run" whose key is the id of its action:
//
//	action/   what the result depends on
//	out/      the declared outputs, by place
//	stdout    what was printed
//	stderr
//	order     how the two were mixed
//	exit      the exit code, a line
//	meta      with how long the command took
//
// Of an action with a depfile the declared inputs are not all. Under its key
// without the others stands an entry of kind "deps": sets of the files that
// were read before. A lookup computes for each set the key with those files as
// they are now. It is the direct mode of ccache, and has its limit: a file that
// appears where an include path would now find it earlier is not noticed.
//
// A failure of the cache never fails the command. It is reported, and the
// command runs without.
package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// DefaultWait is how long a run waits for an identical one, unless told otherwise.
const DefaultWait = 10 * time.Minute

// Options say how Run goes about it. The zero value prints nothing.
type Options struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	Dir   string           // of the repository
	Cache *statcache.Cache // may be nil

	CacheFailures bool          // keep and take results with an exit code other than 0
	Wait          time.Duration // for an identical run; zero is DefaultWait, negative is not at all

	// Listen is called before the command is started, and returns the signals that
	// are to be passed on to it. Who gives it cancels the context by them, too, so
	// that does not end the command; without it, the end of the context does.
	Listen func() <-chan os.Signal

	Warn func(message string) // is told of what went wrong with the cache; may be nil
	Note func(message string) // is told what takes long; may be nil

	NewMeta func() entry.Meta // where a result comes from; may be nil
}

// A Result is what became of a run.
type Result struct {
	Exit    int // what to exit with
	Outcome Outcome
	Key     objects.ID    // zero if it never came to one
	Reason  string        // why the result was not kept
	Took    time.Duration // the whole run
	Command time.Duration // what the command itself took, now or when the result was made

	NotStarted error // why the command could not be started, and Exit is 126 or 127
}

// Run puts back what the command of spec made before, if it can be known to
// make the same again; otherwise it runs the command, and keeps what it makes.
// Without a store it only runs it.
//
// An error says that the command was not run: a *SpecError, or that ctx was done.
func Run(ctx context.Context, store Store, spec Spec, o Options) (Result, error) {
	r := &run{store: store, o: o.withDefaults(), began: time.Now()}
	j, err := newJob(spec, o.Cache)
	if err != nil {
		return Result{}, err
	}
	r.job = j
	defer r.close()
	if j.program, err = findProgram(spec.Args[0], j.dir, os.Getenv("PATH")); err != nil {
		return Result{Exit: exitFor(err), Outcome: Uncached, NotStarted: err}, nil
	}
	if spec.Stdin {
		if j.stdin, err = spool(r.o.Stdin); err != nil {
			return Result{}, fmt.Errorf("read standard input: %w", err)
		}
	}
	result, err := r.run(ctx)
	if err != nil {
		return result, err
	}
	result.Took = time.Since(r.began)
	r.finish(ctx, result)
	return result, nil
}

func (o Options) withDefaults() Options {
	if o.Stdin == nil {
		o.Stdin = strings.NewReader("")
	}
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.NewMeta == nil {
		o.NewMeta = func() entry.Meta { return entry.Meta{Created: time.Now()} }
	}
	return o
}

// spool keeps all of in in a file, and returns it at its beginning.
func spool(in io.Reader) (*os.File, error) {
	f, err := anonymousFile()
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(f, in); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

type run struct {
	*job
	store Store
	o     Options
	began time.Time
	sets  Sets   // of discovered inputs, as stored
	room  []byte // for a leaf
}

func (r *run) close() {
	if r.stdin != nil {
		r.stdin.Close()
	}
}

func (r *run) warn(format string, args ...any) {
	r.o.Warn(fmt.Sprintf(format, args...))
}

func (r *run) out() streams { return streams{r.o.Stdout, r.o.Stderr} }

func (r *run) run(ctx context.Context) (Result, error) {
	if r.store == nil {
		return r.execute(ctx, nil)
	}
	if err := r.prepare(ctx, r.o.Dir); err != nil {
		return r.without(ctx, err)
	}
	if result, ok := r.hit(ctx); ok {
		return result, nil
	}
	lock, waited, err := lockKey(ctx, r.o.Dir, r.key, r.o.Wait, func() { r.o.Note("waiting for the same command, which runs already") })
	if err != nil {
		return r.without(ctx, err)
	}
	defer lock.unlock()
	// Somebody may have finished it between the look and the lock.
	if result, ok := r.hit(ctx); ok {
		return result, nil
	}
	if lock == nil && waited && r.o.Wait > 0 {
		r.warn("the same command runs for longer than %s already: not waiting for it", r.o.Wait)
	}
	return r.execute(ctx, r.keep)
}

// without runs the command after the cache has failed.
func (r *run) without(ctx context.Context, err error) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	r.warn("not cached: %v", err)
	result, failed := r.execute(ctx, nil)
	if result.Reason == "" {
		result.Reason = err.Error()
	}
	return result, failed
}

// execute runs the command and has its result kept.
func (r *run) execute(ctx context.Context, keep func(context.Context, *execution) (objects.ID, error)) (Result, error) {
	result := Result{Outcome: Uncached, Key: r.key}
	if keep != nil && r.depfile != "" {
		if err := r.awaitTick(ctx); err != nil {
			return result, err
		}
	}
	c := command{path: r.program, args: r.spec.Args, dir: r.dir, stdin: r.stdin}
	if r.stdin != nil {
		if _, err := r.stdin.Seek(0, io.SeekStart); err != nil {
			return result, err
		}
	}
	var signals <-chan os.Signal
	if r.o.Listen != nil {
		signals = r.o.Listen()
	}
	e, err := execute(ctx, c, r.out(), signals, keep != nil)
	if err != nil {
		result.NotStarted = fmt.Errorf("%s: %w", r.spec.Args[0], plain(err))
		result.Exit, result.Reason = exitFor(err), result.NotStarted.Error()
		return result, nil
	}
	defer e.close()
	result.Exit, result.Command = e.exit, e.took
	switch {
	case keep == nil:
	case e.interrupted:
		result.Reason = "it was interrupted"
	case e.exit != 0 && (!r.o.CacheFailures || r.depfile != ""):
		// Who fails writes no depfile: what it read is not known.
		result.Reason = "exit code " + strconv.Itoa(e.exit)
	default:
		key, err := keep(context.WithoutCancel(ctx), e)
		if err != nil {
			result.Reason = plain(err).Error()
			r.warn("not cached: %s", result.Reason)
			break
		}
		result.Outcome, result.Key = Miss, key
	}
	return result, nil
}

// awaitTick waits until the file system's clock, which moves in ticks, has passed
// the moment when the run began. What is written from here on has a later time:
// that tells which discovered inputs the command may have read as they were.
func (r *run) awaitTick(ctx context.Context) error {
	const most = 100 * time.Millisecond // the clock may have been set back
	for statcache.Clock() <= r.began.UnixNano() && time.Since(r.began) < most {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond / 2):
		}
	}
	return ctx.Err()
}

// plain takes "fork/exec path: " off an error.
func plain(err error) error {
	var p *os.PathError
	if errors.As(err, &p) && p.Op == "fork/exec" {
		return p.Err
	}
	return err
}

// finish keeps what was learned. Nobody waits for it to succeed.
func (r *run) finish(ctx context.Context, result Result) {
	if r.store == nil {
		return
	}
	flushed := r.o.Cache.Flush(context.WithoutCancel(ctx))
	ran := Ran{
		Time: time.Now(), Outcome: result.Outcome, Key: result.Key, Family: r.family(), Took: result.Took,
		Command: result.Command, Exit: result.Exit, Reason: result.Reason, Label: label(r.spec.Args),
	}
	if r.depfile != "" {
		ran.Base = r.key
	}
	logged := record(r.o.Dir, ran)
	for _, err := range []error{flushed, logged} {
		// A repository that one may only read is good for hits.
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
			r.warn("%v", err)
		}
	}
}
