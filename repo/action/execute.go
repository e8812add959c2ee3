package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes for commands that did not get to exit, as shells have them.
const (
	exitCannotExecute = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal's number
)

// lingering is how long a command's output may stay open after its end. What it
// left running in the background has it open, too, and would hold us for ever.
const lingering = time.Second

// errNotKept is why an execution that was not to be kept is not.
var errNotKept = errors.New("not kept")

var errLingering = errors.New("something that the command started keeps its output open")

// A command is a program ready to be started.
type command struct {
	path  string // of the program
	args  []string
	dir   string
	stdin *os.File // nil is the null device
}

// streams are where a command's output goes while it runs.
type streams [2]io.Writer

// An execution is what came of a command.
type execution struct {
	exit        int
	interrupted bool // by a signal: to the command, or to us while it ran
	printed     [2]capture
	order       Order
	incomplete  error // why printed does not hold all that was printed, or nil
	took        time.Duration
}

func (e *execution) close() {
	e.printed[Stdout].close()
	e.printed[Stderr].close()
}

// execute runs the command to its end, lets what it prints through, and keeps it
// if asked to. Signals are passed on to it. Without signals to listen to, the end of ctx
// terminates the command.
//
// An error means that the command could not be started: see exitFor.
func execute(ctx context.Context, c command, out streams, signals <-chan os.Signal, keep bool) (*execution, error) {
	start := time.Now()
	p, pipes, err := startPiped(c)
	if err != nil {
		return nil, err
	}
	e := &execution{}
	if !keep {
		e.printed[Stdout].err, e.printed[Stderr].err = errNotKept, errNotKept
	}
	wake, awake, err := os.Pipe()
	if err != nil {
		wake, awake = nil, nil // without it only a lingering process can hold us
	}
	ended := make(chan *os.ProcessState, 1)
	stop := make(chan struct{})
	forwarded := make(chan bool, 1)
	go func() { forwarded <- forward(ctx, p, signals, stop) }()
	go func() {
		state, _ := p.Wait()
		ended <- state
		close(stop)
		awake.Close()
	}()
	r := relay{out: out, e: e, pipes: pipes, wake: wake}
	r.run()
	wake.Close()
	state := <-ended
	e.interrupted = <-forwarded
	e.took = time.Since(start)
	e.finish(state)
	return e, nil
}

func (e *execution) finish(state *os.ProcessState) {
	if state == nil {
		e.exit, e.incomplete = exitCannotExecute, errors.New("the command's end was not seen")
		return
	}
	e.exit = state.ExitCode()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.exit = exitSignal + int(status.Signal())
		e.interrupted = true
	}
	for i := range e.printed {
		if err := e.printed[i].err; err != nil && e.incomplete == nil {
			e.incomplete = fmt.Errorf("keep what the command prints: %w", err)
		}
	}
}

// startPiped starts the command with a pipe for each of its two streams.
func startPiped(c command) (p *os.Process, pipes [2]*os.File, err error) {
	files := [3]*os.File{c.stdin}
	if c.stdin == nil {
		if files[0], err = os.Open(os.DevNull); err != nil {
			return nil, pipes, err
		}
		defer files[0].Close()
	}
	for s := Stdout; s <= Stderr && err == nil; s++ {
		pipes[s], files[1+s], err = os.Pipe()
		defer files[1+s].Close()
	}
	if err == nil {
		attr := &os.ProcAttr{Dir: c.dir, Files: files[:]}
		p, err = os.StartProcess(c.path, c.args, attr)
		if errors.Is(err, syscall.ENOEXEC) {
			// A script without "#!" is the shell's, as execvp(3) has it.
			p, err = os.StartProcess("/bin/sh", append([]string{"sh", c.path}, c.args[1:]...), attr)
		}
	}
	if err != nil {
		pipes[Stdout].Close()
		pipes[Stderr].Close()
	}
	return p, pipes, err
}

// exitFor returns the exit code of a shell that could not start a command.
func exitFor(err error) int {
	if errors.Is(err, os.ErrNotExist) {
		return exitNotFound
	}
	return exitCannotExecute
}

// A relay reads two pipes, in the order in which they are written as far as
// that can be seen, until both are closed.
type relay struct {
	out   streams
	e     *execution
	pipes [2]*os.File // nil when closed
	wake  *os.File    // readable when the command has ended; may be nil
	order orderWriter
}

func (r *relay) run() {
	buffer := make([]byte, 64<<10)
	timeout := -1
	for r.pipes[Stdout] != nil || r.pipes[Stderr] != nil {
		polled := [...]unix.PollFd{pollFor(r.pipes[Stdout]), pollFor(r.pipes[Stderr]), pollFor(r.wake)}
		if timeout >= 0 {
			polled[2].Fd = -1
		}
		n, err := unix.Poll(polled[:], timeout)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			r.abandon(err)
			break
		}
		if polled[2].Revents != 0 {
			timeout = int(lingering / time.Millisecond)
		}
		for s := Stdout; s <= Stderr; s++ {
			if polled[s].Revents != 0 {
				r.read(s, buffer)
			}
		}
	}
	r.order.flush()
	r.e.order = r.order.order
}

// pollFor asks for what f has to read; a negative descriptor is passed over.
func pollFor(f *os.File) unix.PollFd {
	if f == nil {
		return unix.PollFd{Fd: -1}
	}
	return unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLIN}
}

func (r *relay) abandon(err error) {
	if err == nil {
		err = errLingering
	}
	r.e.incomplete = err
	r.close(Stdout)
	r.close(Stderr)
}

func (r *relay) close(s Stream) {
	r.pipes[s].Close()
	r.pipes[s] = nil
}

// read passes on what a stream has. If nobody takes it the pipe is closed, so
// that the command gets the SIGPIPE that it would have got without us.
func (r *relay) read(s Stream, buffer []byte) {
	n, err := unix.Read(int(r.pipes[s].Fd()), buffer)
	if err == unix.EINTR {
		return
	}
	if n > 0 {
		r.order.add(s, n)
		r.e.printed[s].add(buffer[:n])
		if _, err = r.out[s].Write(buffer[:n]); err != nil {
			r.e.incomplete = fmt.Errorf("pass on what the command prints: %w", err)
		}
	}
	if n <= 0 || err != nil {
		r.close(s)
	}
}
