// Command front is what `make build` installs as cache-tool, beside cache-tool-full,
// which is the program at the top of this module. It does `run` by itself, and
// becomes the other for everything else.
//
// A program with a command line, JSON, HTTP and TLS in it takes as long to start as
// all else that a hit of `run` does, and longer than ccache takes for a whole hit;
// this one has none of them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cache-tool/cache-tool/commands/run"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/action"
)

func main() {
	l, ok := parse(os.Args[1:])
	if !ok {
		become()
	}
	os.Exit(l.run())
}

var began = time.Now()

// fullName is the program that does all but run.
const fullName = "cache-tool-full"

// become replaces this process by the full program, with the same arguments. It does
// not return.
func become() {
	name, err := find()
	if err == nil {
		err = syscall.Exec(name, append([]string{"cache-tool"}, os.Args[1:]...), os.Environ())
	}
	fmt.Fprintf(os.Stderr, "cache-tool: %v\nhint: %s belongs beside cache-tool: install both programs that \"make build\" makes\n", err, fullName)
	os.Exit(1)
}

// find returns where the full program is: beside this one, or in PATH.
func find() (string, error) {
	if self, err := os.Executable(); err == nil {
		name := filepath.Join(filepath.Dir(self), fullName)
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	return exec.LookPath(fullName)
}

// run runs the command of the line and returns its exit code. What cannot be done
// here is found out before the command is started.
func (l line) run() int {
	result, err := run.Cached(context.Background(), l.Line, run.Options{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Open: l.open,
		Warn: func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, "cache-tool: run: warning: %s\n", fmt.Sprintf(format, args...))
		},
		Note: func(format string, args ...any) {
			if l.verbose {
				fmt.Fprintf(os.Stderr, format+"\n", args...)
			}
		},
	}, func(error) bool { return false })
	if _, bad := errors.AsType[*action.SpecError](err); bad {
		become() // it says what is wrong
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "cache-tool: run: %v\n", err)
		return 1
	}
	if result.NotStarted != nil {
		fmt.Fprintf(os.Stderr, "cache-tool: run: %v\n", result.NotStarted)
	}
	return result.Exit
}

// open opens the repository. A lazy one needs the network.
func (l line) open(ctx context.Context) (*repo.Repo, refs.Name, error) {
	dir, err := repo.Find(l.repo)
	if err != nil {
		return nil, "", err
	}
	r, err := repo.OpenOrInit(ctx, dir, repo.Options{
		Began:   began,
		Warn:    func(err error) { fmt.Fprintf(os.Stderr, "cache-tool: run: warning: %v\n", err) },
		Promise: func(string) repo.Promise { become(); return nil },
	})
	if err != nil {
		return nil, "", err
	}
	branch, err := r.Branch(ctx, l.branch)
	return r, branch, err
}
