package tests

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote/s3/s3test"
)

// A fleet is some servers of one bucket, behind one address.
type fleet struct {
	url   string // of the address
	token string
	hosts []*host

	mu        sync.Mutex
	addresses []string // guarded by mu
	next      int      // guarded by mu
}

// startFleet starts n servers of a site, which must be a bucket.
func startFleet(t *testing.T, s *site, n int) *fleet {
	t.Helper()
	f := new(fleet)
	for i := range n {
		h := s.host(t)
		if i == 0 {
			f.token = strings.TrimSpace(h.must("token", "create", "--name", "test", "--read", "*", "--write", "*").out)
		} else {
			h.must("init", h.repo())
			// Who runs several of them gives each the same tokens.
			copyFile(t, filepath.Join(f.hosts[0].repo(), "tokens"), filepath.Join(h.repo(), "tokens"))
		}
		f.hosts = append(f.hosts, h)
		f.addresses = append(f.addresses, "127.0.0.1:0")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f.url = "http://" + l.Addr().String()
	go f.balance(l)
	return f
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// balance passes each connection on to the next server that takes it.
func (f *fleet) balance(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for range 2 * len(f.hosts) {
				f.mu.Lock()
				f.next++
				to := f.addresses[f.next%len(f.addresses)]
				f.mu.Unlock()
				there, err := net.Dial("tcp", to)
				if err != nil {
					continue
				}
				defer there.Close()
				go func() {
					io.Copy(there, conn)
					there.(*net.TCPConn).CloseWrite()
				}()
				io.Copy(conn, there)
				return
			}
		}()
	}
}

// start starts one of the servers, at the address that it had.
func (f *fleet) start(i int, url string, log io.Writer, args ...string) (*exec.Cmd, error) {
	f.mu.Lock()
	at := f.addresses[i]
	f.mu.Unlock()
	cmd := f.hosts[i].cmd(append([]string{"serve", "--listen", at, "--store", url}, args...)...)
	cmd.Stderr = log
	is, err := firstURL(cmd)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addresses[i] = hostPort(is)
	return cmd, nil
}

// TestReplicas lets machines push and pull through three servers of one bucket, each
// of which is killed now and then. What was acknowledged is in the bucket, and nothing
// there leads to something that is not.
func TestReplicas(t *testing.T) {
	const servers, clients = 3, 16
	lasts := max(10*time.Second, time.Duration(test.Count(t, 60))*time.Second)
	every := lasts / 12
	s := startS3(t, s3test.Servers[0])
	f := startFleet(t, s, servers)
	log := &records{}
	var running [servers]*exec.Cmd
	for i := range running {
		cmd, err := f.start(i, s.url, log, "--cache-size", "2MB")
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		running[i] = cmd
	}
	defer func() {
		for _, cmd := range running {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}()
	stop := make(chan struct{})
	kills := 0
	var killer sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(every):
			}
			i := rand.IntN(servers)
			running[i].Process.Kill()
			running[i].Wait()
			for try := 0; ; try++ {
				cmd, err := f.start(i, s.url, log, "--cache-size", "2MB")
				if err == nil {
					running[i] = cmd
					break
				}
				if try == 20 {
					t.Errorf("%v\n%s", err, log)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			kills++
		}
	})
	var mu sync.Mutex
	var acknowledged []string
	var pushes, pulls atomic.Int64
	var work sync.WaitGroup
	ends := time.Now().Add(lasts)
	for i := range clients {
		h := newHost(t)
		h.setenv("CACHE_TOOL_TOKEN", f.token)
		h.must("remote", "add", "origin", f.url)
		h.must("config", "set", "remote.origin.timeout", "5")
		work.Go(func() {
			var waiting []string
			for n := 0; time.Now().Before(ends); n++ {
				key := fmt.Sprintf("%d-%d", i, n)
				if err := h.put(key); err != nil {
					t.Error(err)
					return
				}
				waiting = append(waiting, key)
				pushes.Add(1)
				if h.try("push", "-q") == nil {
					mu.Lock()
					acknowledged = append(acknowledged, waiting...)
					mu.Unlock()
					waiting = nil
				}
				if n%3 == 2 && h.try("pull", "-q") == nil {
					pulls.Add(1)
				}
			}
		})
	}
	work.Wait()
	close(stop)
	killer.Wait()
	t.Logf("%d kills, %d pushes with %d entries acknowledged, %d pulls", kills, pushes.Load(), len(acknowledged), pulls.Load())
	if kills == 0 || len(acknowledged) == 0 || pulls.Load() == 0 {
		t.Errorf("nothing happened: %s", tail(log.String()))
	}
	s.sound(t)
	s.clone(t).holds(acknowledged...)
}
