package tests

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote/webdav/davtest"
)

// TestServerKilled kills the server with SIGKILL in the middle of pushes by many
// machines, again and again. What was acknowledged is there, what was not can be
// pushed again, and nothing is damaged.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	names := []string{"serve", "apache", "versitygw"}
	if test.Soak() {
		names = append(names, "nginx", "lighttpd", "rclone")
	}
	for _, p := range placesNamed(names...) {
		t.Run(p.name, func(t *testing.T) {
			s := p.start(t)
			pushes := max(3, test.Count(t, 100)/racers)
			var hosts []*host
			for range racers {
				h := s.connected(t)
				h.must("config", "set", "remote.origin.timeout", "5")
				hosts = append(hosts, h)
			}
			stop := make(chan struct{})
			kills := 0
			var killer sync.WaitGroup
			killer.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(rand.N(400 * time.Millisecond)):
					}
					s.kill()
					kills++
					time.Sleep(rand.N(200 * time.Millisecond))
					s.restart()
				}
			})
			var mu sync.Mutex
			var all, acknowledged []string // guarded by mu
			var group errgroup.Group
			for i, h := range hosts {
				group.Go(func() error {
					var pending []string
					for round := range pushes {
						key := fmt.Sprintf("host%d-%d", i, round)
						if err := h.put(key); err != nil {
							return err
						}
						pending = append(pending, key)
						r, err := finish(h.cmd("push"), longest)
						if err != nil {
							return err
						}
						mu.Lock()
						all = append(all, key)
						if r.code == done {
							acknowledged = append(acknowledged, pending...)
							pending = nil
						}
						mu.Unlock()
						if r.code != done && (r.code != failed || !strings.Contains(r.err, "\nhint: ")) {
							return fmt.Errorf("%v", r)
						}
					}
					return nil
				})
			}
			err := group.Wait()
			close(stop)
			killer.Wait()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d kills, %d pushes, %d of them acknowledged", kills, len(all), len(acknowledged))
			if kills == 0 {
				t.Error("the server was never killed")
			}
			s.sound(t)
			if len(acknowledged) > 0 {
				s.clone(t).holds(acknowledged...)
			}
			for _, h := range hosts {
				h.must("push")
				h.sound()
			}
			s.sound(t)
			s.clone(t).holds(all...)
		})
	}
}

// TestServerDiskFull lets the disk of a server run full: who pushes is told so,
// nothing is damaged, what was there can be read, and with room again the push goes
// on.
func TestServerDiskFull(t *testing.T) {
	names := []string{"path", "bucket", "serve"}
	for _, s := range davtest.Servers {
		if s.Name == "apache" || test.Soak() { // others say 500, and are asked again
			names = append(names, s.Name)
		}
	}
	for n, name := range names {
		t.Run(name, func(t *testing.T) {
			for i := range test.Count(t, 40) {
				disk := smallDisk(t, 3<<20)
				s := onDisk(t, name, disk)
				h := s.connected(t)
				h.must("config", "set", "remote.origin.timeout", "1") // who says 500 is asked again as long
				write(t, h.work("small"), noise(1, 20_000))
				h.must("put", "small", "small")
				h.must("push")
				before := s.clone(t).must("ls", "-R").out

				write(t, h.work("big"), noise(2, 400_000))
				h.must("put", "big", "big")
				h.must("save", "work", ".")
				room := free(t, disk)
				empty := fill(t, disk, 16_000*(i*7%60))
				r := h.run("push")
				if r.code != done {
					wantClear(t, r, "origin")
				}
				// Some servers keep it to themselves what is wrong.
				if says := strings.Contains(r.err, "hint: the disk ") && strings.Contains(r.err, "full"); r.code != done && !says && n < 4 {
					t.Errorf("with %d of %d bytes free: %v", 16_000*(i*7%60), room, r)
				}
				if name == "serve" && strings.Contains(r.err, disk) {
					t.Errorf("it says where the server keeps what: %v", r)
				}
				if r.code != done {
					if now := s.clone(t).must("ls", "-R").out; now != before {
						t.Errorf("with %d bytes free there is\n%s\nwant\n%s", 16_000*(i*7%60), now, before)
					}
				}
				s.sound(t)
				empty()
				h.must("push")
				s.sound(t)
				if s.kill != nil {
					s.kill()
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// onDisk starts a site that keeps everything on a disk.
func onDisk(t *testing.T, name, disk string) *site {
	t.Helper()
	switch name {
	case "path":
		return &site{url: disk + "/other", repo: disk + "/other"}
	case "bucket":
		return &site{url: "bucket+file://" + disk + "/share"}
	case "serve":
		return startServeAt(t, disk+"/repo")
	}
	for dir := disk; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range davtest.Servers {
		if s.Name == name {
			return davSite(t, s.StartIn(t, disk))
		}
	}
	t.Fatal(name)
	return nil
}
