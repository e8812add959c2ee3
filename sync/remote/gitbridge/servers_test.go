package gitbridge_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
)

// git runs git in dir and returns what it says.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// bare makes an empty repository that looks at all it is sent.
func bare(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(test.Dir(t), "bare.git")
	git(t, ".", "init", "-q", "--bare", "-b", "main", dir)
	for _, setting := range []string{"receive.fsckObjects=true", "receive.denyDeleteCurrent=ignore", "http.receivepack=true", "gc.auto=0", "core.fsync=none", "core.logAllRefUpdates=false"} {
		name, value, _ := strings.Cut(setting, "=")
		git(t, dir, "config", name, value)
	}
	return dir
}

// A gitServer says under which URL a repository is reached.
type gitServer struct {
	name string
	url  func(t *testing.T, dir string) string
}

var servers = []gitServer{
	{"file", func(_ *testing.T, dir string) string { return "git+file://" + dir }},
	{"http", func(t *testing.T, dir string) string { return "git+" + serveHTTP(t, dir, nil) }},
	{"ssh", func(t *testing.T, dir string) string { return serveSSH(t) + dir }},
}

// serveHTTP serves a repository with git's own program. Around, if not nil, stands
// before it.
func serveHTTP(t *testing.T, dir string, around func(http.Handler) http.Handler) string {
	t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := filepath.Join(strings.TrimSpace(string(path)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skipf("git has no http-backend: %v", err)
	}
	var h http.Handler = &cgi.Handler{
		Path:   backend,
		Env:    []string{"GIT_PROJECT_ROOT=" + filepath.Dir(dir), "GIT_HTTP_EXPORT_ALL=1"},
		Stderr: io.Discard, // it says there what it tells us, too
	}
	if around != nil {
		h = around(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/" + filepath.Base(dir)
}

// serveSSH starts sshd on a port of its own, and lets git's ssh find its way there. It
// returns a URL without its path.
func serveSSH(t *testing.T) string {
	t.Helper()
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		if sshd = "/usr/sbin/sshd"; exec.Command("test", "-x", sshd).Run() != nil {
			t.Skip("no sshd (Debian: openssh-server)")
		}
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("no ssh (Debian: openssh-client)")
	}
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, key := range []string{"host", "mine"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	pub, err := os.ReadFile(filepath.Join(dir, "mine.pub"))
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	for name, text := range map[string]string{
		"authorized": string(pub),
		"known":      fmt.Sprintf("[127.0.0.1]:%d %s", port, host),
		"sshd_config": fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\nPidFile none\nStrictModes no\n"+
			"UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\n", port, dir, dir),
		// As in ~/.ssh/config, but that its place cannot be chosen.
		"config": fmt.Sprintf("Host cache-host\n HostName 127.0.0.1\n Port %d\n User %s\n IdentityFile %s/mine\n IdentitiesOnly yes\n UserKnownHostsFile %s/known\n", port, me.Username, dir, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.MkdirAll("/run/sshd", 0o755) // where it shuts itself in, if it runs as root
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, sshd, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Skipf("sshd does not start: %v", err)
	}
	t.Cleanup(func() {
		stop()
		cmd.Wait()
		log.Close()
	})
	for range 100 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			t.Setenv("GIT_SSH_COMMAND", "ssh -F "+filepath.Join(dir, "config"))
			return "git+ssh://cache-host"
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	t.Skipf("sshd does not answer: %s", text)
	return ""
}
