package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/test"
)

// Whatever befalls a wrapped build or the cache around it: its result is its own, and
// the repository is whole.

// passesSignalsOn wants a signal to be the command's, which decides what comes of it;
// then nothing more is done.
func passesSignalsOn(t *testing.T, verb ...string) {
	t.Helper()
	alone(t)
	withoutCI(t)
	dir := t.TempDir()
	repo, ready := filepath.Join(dir, "repo"), filepath.Join(dir, "ready")
	for _, tt := range []struct {
		signal syscall.Signal
		script string
		want   int
	}{
		{syscall.SIGTERM, "trap 'exit 9' TERM", 9},
		{syscall.SIGINT, "trap 'exit 10' INT", 10},
		{syscall.SIGHUP, "trap 'exit 11' HUP", 11},
		{syscall.SIGTERM, ":", 128 + int(syscall.SIGTERM)},
	} {
		os.Remove(ready)
		cmd := process(repo, append(verb, "sh", "-c", tt.script+"; touch "+ready+"; while :; do sleep 0.05; done")...)
		cmd.Env = append(cmd.Env, "XDG_CACHE_HOME="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // there is no terminal that sends it to both
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		awaitFile(t, ready)
		cmd.Process.Signal(tt.signal)
		if code := exitCode(cmd.Wait()); code != tt.want {
			t.Errorf("%v, %q: exit code %d, want %d", tt.signal, tt.script, code, tt.want)
		}
	}
	sound(t, repo)
}

// withoutCI takes away what a service says that runs these tests, and what Git does.
func withoutCI(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"CI", "GITHUB_ACTIONS", "FORGEJO_ACTIONS", "GITEA_ACTIONS", "GITHUB_EVENT_PATH", "GITHUB_STEP_SUMMARY", "GITLAB_CI", "BUILDKITE", "CIRCLECI",
		"TF_BUILD", "TRAVIS", "DRONE", "BITBUCKET_BUILD_NUMBER", "JENKINS_URL", "CACHE_TOOL_REMOTE", "CACHE_TOOL_WRAPPED",
	} {
		t.Setenv(name, "")
	}
	t.Chdir(t.TempDir()) // where Git has nothing checked out
}

// awaitFile waits until there is a file, with something in it if so asked.
func awaitFile(t *testing.T, name string) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		} else if time.Now().After(until) {
			t.Fatal("the command does not come up")
		}
	}
}

func TestWrapPassesSignalsOn(t *testing.T) { passesSignalsOn(t, "wrap", "--") }

// TestWrapAtATerminal presses Ctrl-C: the terminal sends the signal to all of the
// foreground, so the command gets it once, and not again from us.
func TestWrapAtATerminal(t *testing.T) {
	alone(t)
	withoutCI(t)
	dir := t.TempDir()
	repo, ready := filepath.Join(dir, "repo"), filepath.Join(dir, "ready")
	master, slave := terminal(t)
	cmd := process(repo, "wrap", "--", "sh", "-c", "n=10; trap 'n=$((n+1))' INT; touch "+ready+"; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; exit $n")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, ready)
	if _, err := master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(cmd.Wait()); code != 11 {
		t.Errorf("exit code %d, want 11: the command got %d signals", code, code-10)
	}
	sound(t, repo)
}

// terminal makes one, and returns it as the person sees it and as programs do.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal is to be had: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("no terminal is to be had: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// TestWrappedCommandEnds lets the command end in every way. What it made before stays.
func TestWrappedCommandEnds(t *testing.T) {
	alone(t)
	withoutCI(t)
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	for i, tt := range []struct {
		what, script string
		want         int
	}{
		{"well", ":", 0},
		{"badly", "exit 3", 3},
		{"of a signal", "kill -TERM $$", 143},
		{"of a signal that nobody can catch", "kill -KILL $$", 137},
		{"of a crash", "kill -SEGV $$", 139},
		{"with a child that goes on", "sleep 300 & echo $! >" + pid + "; exit 4", 4},
	} {
		repo := filepath.Join(dir, strconv.Itoa(i))
		out := filepath.Join(dir, "out")
		cmd := process(repo, "wrap", "--", "sh", "-c", "cache-tool run -- echo made; "+tt.script)
		f, err := os.Create(out) // what goes on has it open, and nobody waits for that
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = f, f
		began := time.Now()
		code := exitCode(cmd.Run())
		f.Close()
		text := read(t, out)
		if code != tt.want || !strings.HasPrefix(text, "made\n") || !strings.Contains(text, "1 miss") || !strings.Contains(text, "1 entry new on main") {
			t.Errorf("%s: exit code %d, want %d\n%s", tt.what, code, tt.want, text)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: it takes %v", tt.what, took)
		}
		sound(t, repo)
	}
	child, err := strconv.Atoi(strings.TrimSpace(read(t, pid)))
	if err != nil || syscall.Kill(child, 0) != nil {
		t.Errorf("the child does not go on: %v", err)
	} else {
		syscall.Kill(child, syscall.SIGKILL)
	}
}

// TestWrapKilled kills wrap itself, at any moment: what it was about to commit comes with
// the next commit.
func TestWrapKilled(t *testing.T) {
	alone(t)
	withoutCI(t)
	died := 0
	for _, after := range []int{1, 5, 10, 15, 20, 25, 30, 40} {
		dir := t.TempDir()
		repo, other := filepath.Join(dir, "repo"), filepath.Join(dir, "other")
		cmd := process(repo, "wrap", "--push", "--", "sh", "-c", "cache-tool run -- echo made; exit 5")
		cmd.Env = append(cmd.Env, "CACHE_TOOL_REMOTE="+other)
		// Not those that it starts: they would be killed, too, and nobody would know when.
		cmd.Args = append([]string{"env", test.KillEnv(after, false)}, cmd.Args...)
		cmd.Path, _ = exec.LookPath("env")
		cmd.Args[len(cmd.Args)-1] = "unset " + strings.SplitN(test.KillEnv(after, false), "=", 2)[0] + "; " + cmd.Args[len(cmd.Args)-1]
		if code := exitCode(cmd.Run()); code != 5 && code != killed {
			t.Fatalf("killed after %d steps: exit code %d", after, code)
		} else if code == killed {
			died++
		}
		r := runProcess(repo, "wrap", "--", "sh", "-c", "cache-tool run -- echo made; exit 5")
		if r.code != 5 || r.out != "made\n" {
			t.Errorf("killed after %d steps, then %v", after, r)
		}
		sound(t, repo)
		if _, err := os.Stat(filepath.Join(other, "config")); err == nil {
			sound(t, other)
		}
	}
	if died < 3 {
		t.Errorf("only %d of them were killed", died)
	}
}

// TestWrapOnAFullDisk lets the repository's disk run full, at the beginning or later.
func TestWrapOnAFullDisk(t *testing.T) {
	alone(t)
	withoutCI(t)
	dir := t.TempDir()
	input := write(t, filepath.Join(dir, "in"), noise(1, 300_000))
	script := fmt.Sprintf("cd %s && cache-tool run --in in --out out -- sh -c 'cat in in >out; echo made'; cmp -s out in; exit 6", dir)
	for _, leave := range []int{0, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 400 << 10, 700 << 10, 2 << 20} {
		disk := smallDisk(t, 8<<20)
		repo := filepath.Join(disk, "repo")
		if leave > 16<<10 { // or there is no repository yet, and no room for one
			must(t, repo, "put", "k", input)
			must(t, repo, "remote", "add", "origin", filepath.Join(disk, "other"))
		}
		empty := fill(t, disk, leave)
		os.Remove(filepath.Join(dir, "out"))
		r := runProcess(repo, "wrap", "--push", "--", "sh", "-c", script)
		if r.code != 6 || r.out != "made\n" || len(read(t, filepath.Join(dir, "out"))) != 600_000 {
			t.Errorf("with %d bytes free: %v", leave, r)
		}
		empty()
		must(t, repo, "put", "more", input)
		sound(t, repo)
		if r := runProcess(repo, "wrap", "--", "sh", "-c", script); r.code != 6 || r.out != "made\n" {
			t.Errorf("with room again: %v", r)
		}
		sound(t, repo)
	}
}

// TestWrapWithoutItsRemote lets the remote be of no use in every way: before the build,
// during the build, and after it.
func TestWrapWithoutItsRemote(t *testing.T) {
	t.Parallel()
	s := startServe(t)
	first := s.connected(t)
	first.noise()
	first.must(append([]string{"wrap", "--push", "--", "cache-tool"}, makesNoise...)...)
	var names []string
	for _, name := range []string{"hangs", "resets", "answers 500", "cuts", "flips bits", "is somebody else", "refuses", "says that all is done", "talks without end"} {
		for from := range 3 {
			names = append(names, fmt.Sprintf("%s, request %d", name, from))
		}
	}
	together(t, names, func(t *testing.T, name string) {
		outage, number, _ := strings.Cut(name, ", request ")
		from, _ := strconv.Atoi(number)
		h, n := s.through(t)
		h.must("config", "set", "remote.origin.timeout", "1")
		h.must("config", "set", "wrap.timeout", "5")
		h.setenv("CACHE_TOOL_BRANCH", strings.NewReplacer(" ", "-", ",", "").Replace(name)) // or all of them race for one
		h.noise()
		write(t, h.work("build.sh"), "cache-tool run --in noise --out made -- sh -c 'echo built; cp noise made'\ncmp noise made\ncache-tool run -- echo '"+name+"'\nexit 7\n")
		n.breaks(func(i int, _ string) fault {
			if i > from {
				return outages[outage]
			}
			return nil
		})
		began := time.Now()
		r := h.runWithin(boundedBy, "wrap", "--push", "--", "sh", "build.sh")
		took := time.Since(began)
		if r.code != 7 || r.out != "built\n"+name+"\n" || !strings.Contains(r.err, "\ncache-tool: wrap: ") {
			t.Errorf("%v", r)
		}
		if name == "hangs, request 0" && took > 10*time.Second {
			t.Errorf("it waits for %v for a remote that does not answer", took)
		}
		h.sound()
		n.works()
		h.must("config", "unset", "wrap.timeout")
		if r := h.must("wrap", "--push", "--", "cache-tool", "run", "--", "echo", "after", name); !strings.Contains(r.err, "pushed to origin") {
			t.Errorf("with the network again: %v", r)
		}
		h.sound()
	})
	s.sound(t)
}

// TestWrapAfterAClockJumped makes all files of a repository look as if they were of
// another time, as they do when a clock was set: to the future, or to the past.
func TestWrapAfterAClockJumped(t *testing.T) {
	alone(t)
	withoutCI(t)
	dir := t.TempDir()
	for _, by := range []time.Duration{10 * 365 * 24 * time.Hour, -10 * 365 * 24 * time.Hour, time.Hour, -time.Hour} {
		repo, other := filepath.Join(dir, by.String()), filepath.Join(dir, by.String()+" other")
		must(t, repo, "remote", "add", "origin", other)
		build := []string{"wrap", "--push", "--", "sh", "-c", "cache-tool run -- echo made; echo $$ | cache-tool -q put --stage k; exit 8"}
		for round, want := range []string{"0 hits, 1 miss", "1 hit, 0 misses", "1 hit, 0 misses"} {
			var out, stderr bytes.Buffer
			cmd := process(repo, build...)
			cmd.Stdout, cmd.Stderr = &out, &stderr
			if code := exitCode(cmd.Run()); code != 8 || out.String() != "made\n" || !strings.Contains(stderr.String(), want) || !strings.Contains(stderr.String(), "1 entry new") && round > 0 {
				t.Errorf("by %v, round %d: exit code %d\n%s%s", by, round, code, out.String(), stderr.String())
			}
			write(t, filepath.Join(repo, "silent"), "")
			for _, root := range []string{repo, other} {
				err := filepath.WalkDir(root, func(name string, e os.DirEntry, err error) error {
					if err != nil {
						return err
					}
					then := time.Now().Add(by)
					return os.Chtimes(name, then, then)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		sound(t, repo)
		sound(t, other)
	}
}
