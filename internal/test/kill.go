package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// The environment of a process that is to be killed.
const (
	killEnv     = "CACHE_TOOL_KILL"      // "7": before step 7; "7,cut": in the middle of it
	killTestEnv = "CACHE_TOOL_KILL_TEST" // the test whose Case.Act is wanted
	killDirEnv  = "CACHE_TOOL_KILL_DIR"  // and where
)

// ErrKilled is what Check is told about a process that got SIGKILL.
var ErrKilled = errors.New("killed with SIGKILL")

// KillEnv returns the setting that makes a process which calls KillFromEnv die
// by SIGKILL before its step at, or halfway through writing it.
func KillEnv(at int, halfway bool) string {
	if halfway {
		return fmt.Sprintf("%s=%d,cut", killEnv, at)
	}
	return fmt.Sprintf("%s=%d", killEnv, at)
}

// KillFromEnv obeys KillEnv. A TestMain calls it that runs commands in
// processes of their own.
func KillFromEnv() {
	number, cut, _ := strings.Cut(os.Getenv(killEnv), ",")
	at, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	fault := Dead
	if cut == "cut" {
		fault = DeadCut
	}
	plan := &Plan{At: at, Fault: fault}
	durable.SetHook(func(s durable.Step, do func(durable.Step) error) error {
		err := plan.step(s, unsynced(do))
		if errors.Is(err, ErrDead) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it is delivered before long
		}
		return err
	})
}

// Kill interrupts Act with SIGKILL: before every step, and in the middle of
// it. Each time the test binary is started again and runs the test that called
// Kill up to this call; so what stands before it should be cheap.
func (c Case) Kill(t *testing.T) {
	t.Helper()
	if os.Getenv(killTestEnv) == t.Name() {
		c.victim()
	}
	for round, halfway := range []bool{false, true} {
		c.each(t, round, func(dir string, at int) (string, error, bool) {
			where := fmt.Sprintf("kill -9 at step %d (halfway: %v)", at, halfway)
			err := c.start(t, dir, KillEnv(at, halfway))
			return where, err, errors.Is(err, ErrKilled)
		})
	}
}

// victim is what the started process does.
func (c Case) victim() {
	KillFromEnv()
	if err := c.Act(os.Getenv(killDirEnv)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (c Case) start(t *testing.T, dir, kill string) error {
	t.Helper()
	cmd := Again(t)
	scratch := Dir(t) // whoever is killed leaves its temporary files behind
	defer os.RemoveAll(scratch)
	cmd.Env = append(cmd.Env, kill, killTestEnv+"="+t.Name(), killDirEnv+"="+dir, "TMPDIR="+scratch)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
			return ErrKilled
		}
		return fmt.Errorf("%w: %s", err, out)
	}
	return err
}

// Again returns a command that runs this test, and no other, in a new process.
func Again(t *testing.T) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var pattern []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command(self, "-test.run="+strings.Join(pattern, "/"), "-test.count=1")
	cmd.Env = os.Environ()
	return cmd
}
