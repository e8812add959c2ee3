// Package tests tells stories about the built command, as people type it.
package tests

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cache-tool/cache-tool/commands"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "cache-tool" {
		hear()
	}
	testscript.Main(m, map[string]func(){
		"cache-tool": func() {
			ctx, stop := commands.Signals(os.Args[1:])
			code := commands.Main(ctx, os.Args[1:], commands.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
			stop()
			os.Exit(code)
		},
	})
}

// hear makes sure that what is started here gets signals, though we were started to
// ignore them, as by nohup or in the background of a script: what is caught here is
// as it should be there.
func hear() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

func TestStories(t *testing.T) {
	p := storyParams()
	p.Dir = "testdata"
	testscript.Run(t, p)
}

// storyParams say how stories are told, but for where they are.
func storyParams() testscript.Params {
	return testscript.Params{
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":        exits,
			"flip":         flip,
			"sparse":       sparse,
			"age":          age,
			"newline":      newline,
			"serves":       serves,
			"stops":        stops,
			"setenv":       setenv,
			"certificates": certificates,
			"cuts":         cuts,
		},
	}
}

// setup gives every story an account, a home and a repository of its own.
func setup(e *testscript.Env) error {
	home := filepath.Join(e.WorkDir, "home")
	e.Setenv("HOME", home)
	e.Setenv("USER", "ann")
	e.Setenv("CACHE_TOOL_REPO", filepath.Join(e.WorkDir, "repo"))
	e.Setenv("GORACE", "atexit_sleep_ms=0") // or each of a thousand commands sleeps a second
	e.Values[servingsKey{}] = &servings{all: map[string]*serving{}}
	return os.Mkdir(home, 0o777)
}

// exits CODE COMMAND… runs the command and wants that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command [argument…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if failed, ok := err.(*exec.ExitError); ok {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// flip GLOB OFFSET flips a bit of each file that is long enough; a negative offset
// counts from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip glob offset")
	}
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	offset, err := strconv.Atoi(args[1])
	ts.Check(err)
	flipped := 0
	for _, name := range names {
		data, err := os.ReadFile(name)
		ts.Check(err)
		at := offset
		if at < 0 {
			at += len(data)
		}
		if at < 0 || at >= len(data) {
			continue
		}
		flipped++
		data[at] ^= 0x10
		ts.Check(os.Chmod(name, 0o644))
		ts.Check(os.WriteFile(name, data, 0o644))
	}
	if flipped == 0 {
		ts.Fatalf("no file %s is that long", args[0])
	}
}

// sparse FILE SIZE makes a file of so many zero bytes.
func sparse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sparse file size")
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	name := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(name, nil, 0o644))
	ts.Check(os.Truncate(name, size))
}

// age FILE… makes files look as if they had been written an hour ago, so that
// nobody takes them for files that are being written.
func age(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: age file…")
	}
	for _, name := range args {
		then := time.Now().Add(-time.Hour)
		ts.Check(os.Chtimes(ts.MkAbs(name), then, then))
	}
}

// newline FILE makes a file whose name ends in a line break, which no archive of
// stories can hold.
func newline(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: newline file")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0])+"\n", []byte(fmt.Sprintln("strange")), 0o644))
}
