package tests

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
)

// slowLine is a network that lets through only so much at a time. It counts what
// comes from the server.
func slowLine(t *testing.T, url string, pause time.Duration) (slow string, came *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	came = new(atomic.Int64)
	pump := func(to, from net.Conn, count bool) {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					break
				}
				if count {
					came.Add(int64(n))
				}
				time.Sleep(pause)
			}
			if err != nil {
				break
			}
		}
		to.Close()
		from.Close()
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", hostPort(url))
			if err != nil {
				client.Close()
				continue
			}
			go pump(server, client, false)
			go pump(client, server, true)
		}
	}()
	return strings.Replace(url, hostPort(url), l.Addr().String(), 1), came
}

// TestServeStops tells a server to stop in the middle of a clone and of a push: it
// takes nothing more, but what it has begun it ends; and what it could not end goes
// on when it is there again.
func TestServeStops(t *testing.T) {
	t.Parallel()
	s := startServe(t)
	first := s.connected(t)
	write(t, first.work("big"), noise(1, 8<<20))
	first.must("save", "big", "big")
	first.must("push")

	slow, came := slowLine(t, s.url, 5*time.Millisecond)
	h := s.host(t)
	cmd := h.cmd("clone", slow, h.repo())
	stopped := make(chan error, 1)
	go func() {
		for came.Load() < 2<<20 {
			time.Sleep(time.Millisecond)
		}
		stopped <- s.stop()
	}()
	r, err := finish(cmd, longest)
	if err != nil || r.code != done {
		t.Errorf("clone: %v, %v", r, err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("it does not stop well: %v\n%s", err, s.log())
	}
	h.sound()
	h.must("config", "set", "remote.origin.timeout", "1")
	r = h.run("pull")
	wantClear(t, r, "origin")

	s.restart()
	first.must("remote", "set-url", "origin", s.url)
	write(t, first.work("more"), noise(2, 8<<20))
	first.must("save", "more", "more")
	slow, _ = slowLine(t, s.url, 5*time.Millisecond)
	first.must("remote", "set-url", "origin", slow)
	first.must("config", "set", "remote.origin.timeout", "2")
	go func() {
		for !strings.Contains(s.log(), "op=missing") {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		stopped <- s.stop()
	}()
	r = first.run("push")
	if r.code != done {
		wantClear(t, r, "origin")
	}
	if err := <-stopped; err != nil {
		t.Errorf("it does not stop well: %v\n%s", err, s.log())
	}
	s.restart()
	first.must("remote", "set-url", "origin", s.url)
	first.must("push")
	s.sound(t)
	same(t, first.work("."), filepath.Join(restoredAll(t, s), "."))
}

// restoredAll is where the two entries are.
func restoredAll(t *testing.T, s *site) string {
	t.Helper()
	c := s.clone(t)
	c.must("restore", "big")
	c.must("restore", "more")
	return c.work()
}

// TestServeBesideWork lets others work in the repository that is served, while
// machines push to it.
func TestServeBesideWork(t *testing.T) {
	s := startServe(t)
	local := newHost(t)
	local.setenv("CACHE_TOOL_REPO", s.repo)
	n := test.Count(t, 60)
	ended := make(chan error, 1)
	go func() {
		for i := range n {
			for {
				err := local.put(fmt.Sprint("local", i))
				if err == nil {
					break
				}
				if !strings.Contains(err.Error(), "exit code 4") { // who loses a race says so
					ended <- err
					return
				}
			}
			if err := local.try("run", "--", "echo", fmt.Sprint(i)); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	h := s.connected(t)
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprint("local", i), fmt.Sprint("pushed", i))
		if err := h.put(fmt.Sprint("pushed", i)); err != nil {
			t.Error(err)
		}
		h.must("push")
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	local.must("commit")
	h.must("pull")
	h.must("push")
	s.sound(t)
	s.clone(t).holds(keys...)
	local.holds(keys...)
}

// TestServeHealth asks what a supervisor and a load balancer ask.
func TestServeHealth(t *testing.T) {
	s := startServe(t, "--json")
	for _, tt := range []struct {
		method, path string
		code         int
		says         string
	}{
		{"GET", "/healthz", 200, "ok\n"},
		{"HEAD", "/healthz", 200, ""},
		{"POST", "/healthz", 405, ""},
		{"GET", "/", 404, "this is a cache-tool server"},
		{"GET", "/v1/refs", 405, ""},
		{"POST", "/v1/refs", 415, ""},
		{"GET", "/../../etc/passwd", 404, ""},
		{"PROPFIND", "/", 404, ""},
	} {
		req, err := http.NewRequest(tt.method, s.url+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.code || !strings.Contains(string(body), tt.says) {
			t.Errorf("%s %s: %d %q, %v; want %d %q", tt.method, tt.path, resp.StatusCode, body, err, tt.code, tt.says)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(s.log()), "\n") {
		if !strings.HasPrefix(line, `{"time":"`) {
			t.Errorf("no line of JSON: %s", line)
		}
	}
}

// TestTwoServers: one port is for one of them; one repository may have several.
func TestTwoServers(t *testing.T) {
	s := startServe(t)
	other := newHost(t)
	other.setenv("CACHE_TOOL_REPO", s.repo)
	r := other.run("serve", "--listen", hostPort(s.url))
	if r.code != failed || !strings.Contains(r.err, "address already in use") || !strings.Contains(r.err, "--listen HOST:0") {
		t.Errorf("%v", r)
	}
	cmd := other.cmd("serve", "--listen", "127.0.0.1:0")
	url, err := firstURL(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer endWith(t, cmd, syscall.SIGTERM)
	a, b := s.connected(t), s.connected(t)
	b.must("remote", "set-url", "origin", url)
	if err := a.put("a"); err != nil {
		t.Fatal(err)
	}
	if err := b.put("b"); err != nil {
		t.Fatal(err)
	}
	a.must("push")
	b.must("push")
	a.must("pull")
	a.holds("a", "b")
	s.sound(t)
}

// endWith wants a server to end well.
func endWith(t *testing.T, cmd *exec.Cmd, sig syscall.Signal) {
	t.Helper()
	cmd.Process.Signal(sig)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it does not stop well: %v", err)
	}
}
