package action

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func shell(script string) command {
	return command{path: "/bin/sh", args: []string{"sh", "-c", script}}
}

// mixed executes the command with both streams going to one buffer.
func mixed(t *testing.T, c command) (*execution, string) {
	t.Helper()
	var both bytes.Buffer
	e, err := execute(t.Context(), c, streams{&both, &both}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	return e, both.String()
}

func TestExecute(t *testing.T) {
	for _, tt := range []struct {
		script, stdout, stderr string
		exit                   int
		interrupted            bool
	}{
		{script: "true"},
		{script: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
		{script: "echo no >&2; exit 3", stderr: "no\n", exit: 3},
		{script: "kill -KILL $$", exit: 128 + 9, interrupted: true},
		{script: "cat; echo end", stdout: "end\n"}, // standard input is empty
		{script: "exec >&- 2>&-; sleep 0.05; exit 4", exit: 4},
	} {
		e, _ := mixed(t, shell(tt.script))
		stdout, _ := io.ReadAll(e.printed[Stdout].reader())
		stderr, _ := io.ReadAll(e.printed[Stderr].reader())
		if e.exit != tt.exit || e.interrupted != tt.interrupted || e.incomplete != nil {
			t.Errorf("%s: exit %d, interrupted %t, %v", tt.script, e.exit, e.interrupted, e.incomplete)
		}
		if string(stdout) != tt.stdout || string(stderr) != tt.stderr {
			t.Errorf("%s: printed %q and %q, want %q and %q", tt.script, stdout, stderr, tt.stdout, tt.stderr)
		}
	}
}

func TestExecuteKeepsTheOrder(t *testing.T) {
	e, both := mixed(t, shell("for i in 1 2 3; do echo out$i; sleep 0.02; echo err$i >&2; sleep 0.02; done"))
	var replayed bytes.Buffer
	readers := [2]io.Reader{e.printed[Stdout].reader(), e.printed[Stderr].reader()}
	err := e.order.Replay(e.printed[Stdout].size, e.printed[Stderr].size, func(s Stream, n int64) error {
		_, err := io.CopyN(&replayed, readers[s], n)
		return err
	})
	if err != nil || replayed.String() != both {
		t.Errorf("replayed %q, %v, want %q", replayed.String(), err, both)
	}
	if !strings.Contains(both, "out1\nerr1\nout2\nerr2\n") {
		t.Errorf("passed through as %q", both)
	}
}

func TestExecuteSpoolsWhatIsLong(t *testing.T) {
	e, both := mixed(t, shell("head -c 3000000 /dev/zero | tr '\\0' x; echo end"))
	got, err := io.ReadAll(e.printed[Stdout].reader())
	if err != nil || len(got) != 3000004 || string(got) != both {
		t.Errorf("captured %d bytes, %v; passed through %d", len(got), err, len(both))
	}
	if e.printed[Stdout].file == nil {
		t.Error("3 MB are held in memory")
	}
}

func TestExecuteWhatCannotStart(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("echo from a script"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		exit int
	}{{filepath.Join(dir, "absent"), 127}, {plain, 126}, {dir, 126}} {
		_, err := execute(t.Context(), command{path: tt.path, args: []string{"x"}}, streams{io.Discard, io.Discard}, nil, true)
		if err == nil || exitFor(err) != tt.exit {
			t.Errorf("%s: %v, exit %d, want %d", tt.path, err, exitFor(err), tt.exit)
		}
	}
	if err := os.Chmod(plain, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, both := mixed(t, command{path: plain, args: []string{"x"}}); both != "from a script\n" {
		t.Errorf("script without #!: printed %q", both)
	}
}

func TestExecuteIsNotHeldByWhatLingers(t *testing.T) {
	e, both := mixed(t, shell("echo here; sleep 60 & echo $!"))
	if pid := strings.Fields(both); len(pid) == 2 {
		defer shellRun(t, "kill "+pid[1])
	}
	if !errors.Is(e.incomplete, errLingering) || e.exit != 0 {
		t.Errorf("exit %d, %v, want %v", e.exit, e.incomplete, errLingering)
	}
}

func shellRun(t *testing.T, script string) {
	t.Helper()
	mixed(t, shell(script))
}

func TestExecutePassesSignalsOn(t *testing.T) {
	signals := make(chan os.Signal, 1)
	started := writerFunc(func(p []byte) (int, error) {
		signals <- syscall.SIGTERM
		return len(p), nil
	})
	e, err := execute(t.Context(), shell(`trap 'exit 7' TERM; echo started; while :; do sleep 0.01; done`), streams{started, io.Discard}, signals, true)
	if err != nil || e.exit != 7 || !e.interrupted {
		t.Errorf("exit %d, interrupted %t, %v", e.exit, e.interrupted, err)
	}
}

func TestExecuteEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	started := writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	})
	e, err := execute(ctx, shell("echo started; exec sleep 60"), streams{started, io.Discard}, nil, true)
	if err != nil || e.exit != 128+15 || !e.interrupted {
		t.Errorf("exit %d, interrupted %t, %v", e.exit, e.interrupted, err)
	}
}

func TestExecuteWithNobodyToPrintTo(t *testing.T) {
	closed := writerFunc(func([]byte) (int, error) { return 0, syscall.EPIPE })
	e, err := execute(t.Context(), command{path: "/usr/bin/yes", args: []string{"yes"}}, streams{closed, io.Discard}, nil, true)
	if err != nil || e.exit != 128+int(syscall.SIGPIPE) || e.incomplete == nil {
		t.Errorf("exit %d, %v, %v", e.exit, e.incomplete, err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
