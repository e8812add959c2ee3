package action

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// A Direct command runs as if nobody stood between it and whoever started us: its
// streams are theirs, and nothing of it is kept.
type Direct struct {
	Args    []string // the first is the program
	Env     []string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Signals <-chan os.Signal // are passed on to it
}

// Run runs the command to its end and returns its exit code, that of a shell if it
// died of a signal. An error means that it could not be started; the exit code is
// a shell's then, too.
func (d Direct) Run(ctx context.Context) (exit int, err error) {
	dir, err := os.Getwd()
	if err != nil {
		return exitCannotExecute, err
	}
	path, err := findProgram(d.Args[0], dir, os.Getenv("PATH"))
	if err != nil {
		return exitFor(err), err
	}
	cmd := d.command(path, d.Args)
	err = cmd.Start()
	if errors.Is(err, syscall.ENOEXEC) {
		cmd = d.command("/bin/sh", append([]string{"sh", path}, d.Args[1:]...))
		err = cmd.Start()
	}
	if err != nil {
		return exitFor(err), err
	}
	stop := make(chan struct{})
	forwarded := make(chan bool)
	go func() { forwarded <- forward(ctx, cmd.Process, d.Signals, stop) }()
	_ = cmd.Wait() // what went wrong with it is in its state
	close(stop)
	<-forwarded
	e := execution{}
	e.finish(cmd.ProcessState)
	return e.exit, nil
}

func (d Direct) command(path string, args []string) *exec.Cmd {
	return &exec.Cmd{
		Path: path, Args: args, Env: d.Env,
		Stdin: d.Stdin, Stdout: d.Stdout, Stderr: d.Stderr,
		WaitDelay: lingering, // counts only where a stream is no file
	}
}
