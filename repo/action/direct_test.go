package action_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/repo/action"
)

func TestDirect(t *testing.T) {
	dir := t.TempDir()
	plain, locked := filepath.Join(dir, "plain"), filepath.Join(dir, "locked")
	for name, perm := range map[string]os.FileMode{plain: 0o755, locked: 0o644} {
		if err := os.WriteFile(name, []byte("echo no interpreter: $1\n"), perm); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args     []string
		exit     int
		out, err string
		fails    bool
	}{
		{args: []string{"sh", "-c", "cat; echo $GREETING >&2; exit 7"}, exit: 7, out: "typed", err: "hello\n"},
		{args: []string{plain, "x"}, out: "no interpreter: x\n"},
		{args: []string{"sh", "-c", "kill -9 $$"}, exit: 137},
		{args: []string{filepath.Join(dir, "nosuch")}, exit: 127, fails: true},
		{args: []string{"no-such-command-anywhere"}, exit: 127, fails: true},
		{args: []string{locked}, exit: 126, fails: true},
	} {
		var out, stderr bytes.Buffer
		exit, err := action.Direct{
			Args: tt.args, Env: append(os.Environ(), "GREETING=hello"),
			Stdin: strings.NewReader("typed"), Stdout: &out, Stderr: &stderr,
		}.Run(context.Background())
		if exit != tt.exit || (err != nil) != tt.fails || out.String() != tt.out || stderr.String() != tt.err {
			t.Errorf("%q: exit code %d, %v; printed %q, %q", tt.args, exit, err, out.String(), stderr.String())
		}
	}
}

func TestDirectPassesSignalsOn(t *testing.T) {
	signals := make(chan os.Signal, 1)
	go func() {
		time.Sleep(100 * time.Millisecond)
		signals <- syscall.SIGTERM
	}()
	exit, err := action.Direct{
		Args: []string{"sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done"}, Env: os.Environ(), Signals: signals,
	}.Run(context.Background())
	if exit != 9 || err != nil {
		t.Errorf("exit code %d, %v; want that of the trap", exit, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	exit, err = action.Direct{Args: []string{"sleep", "100"}, Env: os.Environ()}.Run(ctx)
	if exit != 143 || err != nil {
		t.Errorf("exit code %d, %v; want that of SIGTERM", exit, err)
	}
}
