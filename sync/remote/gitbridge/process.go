package gitbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// A processServer is a Git server that a program connects us with: git itself for a
// repository on this machine, ssh for one on another. ssh and not a library, as
// Git does it: so the agent, ~/.ssh/config with all that can stand in it, and the known
// hosts are those that people have set up.
type processServer struct {
	command  func(s service) []string
	patience time.Duration
	ssh      bool
}

// gitFile is a repository at a path.
func gitFile(path string, o Options) *processServer {
	return &processServer{patience: o.Patience, command: func(s service) []string {
		return []string{"git", strings.TrimPrefix(string(s), "git-"), path}
	}}
}

// gitSSH is a repository that ssh leads to.
func gitSSH(u *url.URL, o Options) (*processServer, error) {
	host, user := u.Hostname(), u.User.Username()
	port, err := portOf(u)
	if err != nil {
		return nil, err
	}
	// What begins with a dash is an option to ssh.
	if strings.HasPrefix(host, "-") || strings.HasPrefix(user, "-") {
		return nil, errors.New("the name of a host or user begins with a dash")
	}
	path := u.Path
	if strings.HasPrefix(path, "/~") {
		path = path[1:]
	}
	if strings.HasPrefix(path, "-") || path == "" || path == "/" {
		return nil, errors.New("the URL names no repository")
	}
	if user != "" {
		host = user + "@" + host
	}
	return &processServer{patience: o.Patience, ssh: true, command: func(s service) []string {
		// Nobody is asked on a terminal: a build would wait for ever.
		args := []string{"-o", "BatchMode=yes", "-o", fmt.Sprintf("ConnectTimeout=%d", max(1, int(min(o.Patience, 15*time.Second)/time.Second)))}
		if port != "" {
			args = append(args, "-p", port)
		}
		args = append(args, host, string(s)+" "+quote(path))
		if own := os.Getenv("GIT_SSH_COMMAND"); own != "" {
			return append([]string{"sh", "-c", own + ` "$@"`, "ssh"}, args...)
		}
		if own := os.Getenv("GIT_SSH"); own != "" {
			return append([]string{own}, args...)
		}
		return append([]string{"ssh"}, args...)
	}}, nil
}

// quote makes one word of s for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// gitEnviron is our environment without what says which repository git is to work on: a
// hook of Git may have started us.
func gitEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_OBJECT_DIRECTORY", "GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE",
			"GIT_GRAFT_FILE", "GIT_INDEX_FILE", "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE", "GIT_PREFIX", "GIT_SHALLOW_FILE",
			"GIT_COMMON_DIR", "GIT_QUARANTINE_PATH", "GIT_NAMESPACE", "GIT_PROTOCOL", "LC_ALL", "LANGUAGE":
			return true
		}
		return false
	})
}

func (s *processServer) isFar() bool { return s.ssh }

func (s *processServer) open(ctx context.Context, what service) (conversation, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, ctx := newWatch(ctx, s.patience)
	args := s.command(what)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	// What it says when it fails is looked at.
	cmd.Env = append(gitEnviron(), "LC_ALL=C")
	cmd.WaitDelay = 5 * time.Second
	p := &process{s: s, cmd: cmd, ctx: ctx, w: w}
	cmd.Stderr = &p.said
	var err error
	if p.in, err = cmd.StdinPipe(); err == nil {
		p.out, err = cmd.StdoutPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	w.pause()
	if err != nil {
		w.stop()
		return nil, err
	}
	return p, nil
}

// A process is a conversation with one.
type process struct {
	s    *processServer
	cmd  *exec.Cmd
	ctx  context.Context
	w    *watch
	in   io.WriteCloser
	out  io.Reader
	said tail

	over   sync.Once
	failed error
}

func (p *process) advertised() io.Reader { return &watched{p.out, p.w, p.ctx} }

func (p *process) exchange(_ context.Context, r request) (io.ReadCloser, error) {
	// Who hangs up says why: that is read in any case.
	_, err := io.Copy(p.in, &sending{r.open(), p.w})
	p.w.pause()
	if err != nil && p.ctx.Err() != nil {
		return nil, errors.Join(cause(p.ctx, err), p.close())
	}
	return struct {
		io.Reader
		io.Closer
	}{&watched{p.out, p.w, p.ctx}, closer(p.close)}, nil
}

// close ends the process, and says why it failed if it did.
func (p *process) close() error {
	p.over.Do(func() {
		io.WriteString(p.in, "0000") // there is nothing that we want, if it still listens
		p.in.Close()
		p.w.wait()
		io.Copy(io.Discard, p.out)
		p.failed = p.why(cause(p.ctx, p.cmd.Wait()))
		p.w.stop()
	})
	return p.failed
}

// why makes an error of how the process ended.
func (p *process) why(err error) error {
	var exit *exec.ExitError
	if err == nil || !errors.As(err, &exit) || p.ctx.Err() != nil {
		return err
	}
	said := p.said.String()
	if said == "" {
		said = err.Error()
	}
	failed := fmt.Errorf("%s: %s", p.cmd.Args[0], said)
	switch {
	case strings.Contains(said, "Permission denied"), strings.Contains(said, "Host key verification failed"):
		return fmt.Errorf("%w: %w", remote.ErrDenied, failed)
	case p.s.ssh && exit.ExitCode() == 255:
		return remote.Unreachable(failed)
	}
	return failed
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-4<<10):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return printable(string(t.text))
}
