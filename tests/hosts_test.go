package tests

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote/webdav/davtest"
)

// What the tests of push and pull share: machines that have nothing in common but
// a remote, and the remotes.

// A host has a home, a repository and a directory to work in.
type host struct {
	t   testing.TB
	dir string
	env []string // beside what all machines have
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t, dir: test.Dir(t)}
	for _, dir := range []string{"home", "work"} {
		if err := os.Mkdir(filepath.Join(h.dir, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *host) repo() string { return filepath.Join(h.dir, "repo") }

// work is a path in the directory that commands run in.
func (h *host) work(names ...string) string {
	return filepath.Join(append([]string{h.dir, "work"}, names...)...)
}

func (h *host) home(names ...string) string {
	return filepath.Join(append([]string{h.dir, "home"}, names...)...)
}

// setenv gives the machine a variable, in place of one that it may have.
func (h *host) setenv(name, value string) { h.env = append(h.env, name+"="+value) }

func (h *host) cmd(args ...string) *exec.Cmd {
	cmd := exec.Command("cache-tool", args...)
	cmd.Dir = h.work()
	for _, keep := range []string{"PATH", "TMPDIR"} {
		if value, ok := os.LookupEnv(keep); ok {
			cmd.Env = append(cmd.Env, keep+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+h.home(), "USER=ann", "CACHE_TOOL_REPO="+h.repo(), "GORACE=atexit_sleep_ms=0")
	cmd.Env = append(cmd.Env, h.env...)
	return cmd
}

// longest is how long a command may take in any test. It is no measure of
// anything, but the end of waiting for what hangs.
const longest = 2 * time.Minute

// run runs the command in a process of its own. One that does not end is made to
// say what it does.
func (h *host) run(args ...string) result {
	h.t.Helper()
	return h.runWithin(longest, args...)
}

func (h *host) runWithin(most time.Duration, args ...string) result {
	h.t.Helper()
	r, err := finish(h.cmd(args...), most)
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	return r
}

// must is run for a command that has to succeed.
func (h *host) must(args ...string) result {
	h.t.Helper()
	r := h.run(args...)
	if r.code != done {
		h.t.Fatal(r)
	}
	return r
}

// finish runs a command to its end, which must come in time.
func finish(cmd *exec.Cmd, most time.Duration) (result, error) {
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	hung := make(chan struct{})
	timer := time.AfterFunc(most, func() {
		close(hung)
		cmd.Process.Signal(syscall.SIGQUIT)
	})
	err := cmd.Wait()
	r := result{exitCode(err), out.String(), stderr.String(), cmd.Args[1:]}
	if !timer.Stop() {
		<-hung
		return r, fmt.Errorf("it takes more than %v: %s\n%s", most, strings.Join(cmd.Args, " "), stderr.String())
	}
	return r, nil
}

// sound fails the test if fsck finds anything wrong with the repository.
func (h *host) sound() {
	h.t.Helper()
	h.must("fsck")
}

// A site is a remote that runs for one test.
type site struct {
	url  string // of a remote that nobody has used yet
	repo string // that is behind it, if there is one
	env  []string

	kill    func()       // ends it with SIGKILL, if it is a program
	stop    func() error // ends it as a supervisor does
	restart func()       // starts it again, with what it had
	log     func() string
}

// machine returns one that may read and write the site.
func (s *site) host(t testing.TB) *host {
	t.Helper()
	h := newHost(t)
	h.env = append(h.env, s.env...)
	return h
}

// connected is machine with the site as its origin.
func (s *site) connected(t testing.TB) *host {
	t.Helper()
	h := s.host(t)
	h.must("remote", "add", "origin", s.url)
	return h
}

// clone is a machine with all that the site has, and nothing wrong in it.
func (s *site) clone(t testing.TB) *host {
	t.Helper()
	h := s.host(t)
	h.must("clone", s.url, h.repo())
	h.sound()
	return h
}

// sound fails the test if the site has lost anything that a ref leads to.
func (s *site) sound(t testing.TB) {
	t.Helper()
	c := s.clone(t)
	if s.repo != "" {
		c.must("--repo", s.repo, "fsck")
	}
}

// A place is a kind of remote.
type place struct {
	name  string
	start func(t *testing.T) *site
}

// places are all kinds of remotes there are. Some are not to be had everywhere.
var places = append([]place{
	{"path", func(t *testing.T) *site {
		dir := filepath.Join(test.Dir(t), "other")
		return &site{url: dir, repo: dir}
	}},
	{"bucket", func(t *testing.T) *site {
		return &site{url: "bucket+file://" + filepath.Join(test.Dir(t), "share")}
	}},
	{"serve", func(t *testing.T) *site { return startServe(t) }},
}, append(davPlaces(), s3Places()...)...)

func davPlaces() (list []place) {
	for _, s := range davtest.Servers {
		list = append(list, place{s.Name, func(t *testing.T) *site { return startDAV(t, s) }})
	}
	return list
}

// placesNamed returns some of places.
func placesNamed(names ...string) (list []place) {
	for _, p := range places {
		for _, name := range names {
			if p.name == name {
				list = append(list, p)
			}
		}
	}
	return list
}

// startDAV starts one of the WebDAV servers.
func startDAV(t *testing.T, s davtest.Server) *site {
	t.Helper()
	return davSite(t, s.Start(t))
}

func davSite(t *testing.T, server *davtest.Running) *site {
	return &site{
		url:  "dav+" + davtest.NewBucket(server.URL),
		kill: func() { server.Stop(syscall.SIGKILL) },
		restart: func() {
			// What was killed may hold its port for a moment.
			for try := 0; !server.Run(t); try++ {
				if try == 20 || t.Failed() {
					t.Fatalf("%s does not start again", server.Name)
				}
			}
		},
	}
}

// startServe starts our own server, with a token that may do everything.
func startServe(t *testing.T, args ...string) *site {
	t.Helper()
	return startServeAt(t, "", args...)
}

// startServeAt is startServe for a repository at dir.
func startServeAt(t *testing.T, dir string, args ...string) *site {
	t.Helper()
	h := newHost(t)
	if dir != "" {
		h.setenv("CACHE_TOOL_REPO", dir)
	}
	s := &site{repo: cmp.Or(dir, h.repo())}
	token := strings.TrimSpace(h.must("token", "create", "--name", "test", "--write", "*").out)
	s.env = []string{"CACHE_TOOL_TOKEN=" + token}
	log := &records{}
	s.log = log.String
	var process *exec.Cmd
	address := "127.0.0.1:0"
	s.restart = func() {
		for try := 0; ; try++ {
			cmd := h.cmd(append([]string{"serve", "--listen", address}, args...)...)
			cmd.Stderr = log
			url, err := firstURL(cmd)
			if err == nil {
				process, s.url = cmd, url
				address = url[strings.LastIndex(url, "/")+1:]
				return
			}
			if try == 20 {
				t.Fatalf("serve: %v\n%s", err, log)
			}
			time.Sleep(100 * time.Millisecond) // its port may be in use for a moment
		}
	}
	s.kill = func() {
		if process != nil {
			process.Process.Kill()
			process.Wait()
			process = nil
		}
	}
	s.stop = func() error {
		p := process
		process = nil
		p.Process.Signal(syscall.SIGTERM)
		return p.Wait()
	}
	s.restart()
	t.Cleanup(s.kill)
	return s
}

var anyURL = regexp.MustCompile(`https?://[^\s"]+`)

// firstURL starts a command and returns the URL in the first line that it prints.
func firstURL(cmd *exec.Cmd) (string, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if url := anyURL.FindString(line); err == nil && url != "" {
		return url, nil
	}
	cmd.Process.Kill()
	return "", fmt.Errorf("it prints %q, %v, %v", line, err, cmd.Wait())
}

// hostPort is the address in a URL.
func hostPort(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// readNames returns the names in a directory.
func readNames(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}
