package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
)

// A moved says how much a push or pull has moved.
type moved struct {
	Objects, Packs int
	Bytes          int64
}

func movedBy(t *testing.T, r result) (m moved) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.out), &m); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	return m
}

// bigWork fills a host's repository with a few packs' worth that do not compress.
func bigWork(t *testing.T, h *host, seed uint64, packs int) {
	t.Helper()
	for i := range packs * 20 {
		write(t, h.work("big", fmt.Sprint(i)), noise(seed+uint64(i), 3_500_000))
	}
	h.must("save", fmt.Sprint("big", seed), "big")
}

// TestPushGoesOn interrupts a push of several packs, by SIGINT and SIGKILL, again and
// again at another moment. It goes on each time, and sends little twice.
func TestPushGoesOn(t *testing.T) {
	t.Parallel() // it waits most of the time
	names := []string{"serve"}
	if test.Soak() {
		names = append(names, "path", "bucket", "apache", "nginx", "lighttpd", "rclone", "versitygw")
	}
	for _, p := range placesNamed(names...) {
		t.Run(p.name, func(t *testing.T) {
			s := p.start(t)
			h := s.connected(t)
			bigWork(t, h, 1, 2)
			whole := movedBy(t, h.must("--json", "push", "--dry-run"))
			if whole.Packs < 3 {
				t.Fatalf("%d packs are no push to break off", whole.Packs)
			}
			var n *network
			if p.name == "serve" || p.name == "apache" {
				n = newNetwork(t, s.url)
				h.must("remote", "set-url", "origin", n.url)
			}
			interrupted := 0
			for i, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
				cmd := h.cmd("push")
				started := make(chan struct{})
				var stderr strings.Builder
				cmd.Stderr = &stderr
				if n != nil { // after a pack has arrived, and is known to have
					var arrived atomic.Int64
					n.breaks(func(_ int, method string) fault {
						return func(x *passage) {
							x.answer(x.forward(x.body))
							known := method == "MOVE" && strings.Contains(x.r.Header.Get("Destination"), "/root/")
							if (known || len(x.body) > 1<<20 && method == "POST") && arrived.Add(1) == 1 {
								<-started
								cmd.Process.Signal(sig)
							}
						}
					})
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				close(started)
				if n == nil {
					timer := time.AfterFunc(time.Duration(40+60*i)*time.Millisecond, func() { cmd.Process.Signal(sig) })
					defer timer.Stop()
				}
				began := time.Now()
				code := exitCode(cmd.Wait())
				switch {
				case code == 128+int(sig):
					interrupted++
					if took := time.Since(began); took > longest/2 {
						t.Errorf("it takes %v to stop", took)
					}
					if sig != syscall.SIGKILL && !strings.Contains(stderr.String(), "interrupted") {
						t.Errorf("after %v it says %q", sig, stderr.String())
					}
				case code != done:
					t.Fatalf("exit code %d: %s", code, stderr.String())
				}
				if s.repo != "" {
					if _, err := os.Stat(filepath.Join(s.repo, "config")); err == nil {
						h.must("--repo", s.repo, "fsck")
					}
				}
			}
			if n != nil {
				n.works()
				if interrupted < 2 {
					t.Errorf("it was interrupted %d times", interrupted)
				}
			}
			rest := movedBy(t, h.must("--json", "push"))
			t.Logf("interrupted %d times; of %d bytes %d were left", interrupted, whole.Bytes, rest.Bytes)
			if n != nil && rest.Bytes > whole.Bytes*5/6 {
				t.Errorf("it sends %d bytes of %d, though packs have arrived", rest.Bytes, whole.Bytes)
			}
			if again := movedBy(t, h.must("--json", "push")); again.Bytes > 0 || again.Packs > 0 {
				t.Errorf("pushed again: %+v", again)
			}
			s.sound(t)
			same(t, h.work("big"), s.clone(t).restored("big1", "big"))
		})
	}
}

// TestPullGoesOn breaks the connection in the middle of the packs of a clone, and
// kills it: what has come need not come again.
func TestPullGoesOn(t *testing.T) {
	t.Parallel() // it waits most of the time
	names := []string{"serve"}
	if test.Soak() {
		names = append(names, "apache", "lighttpd")
	}
	for _, p := range placesNamed(names...) {
		t.Run(p.name, func(t *testing.T) {
			s := p.start(t)
			first := s.connected(t)
			bigWork(t, first, 5, 1)
			whole := movedBy(t, first.must("--json", "push"))
			n := newNetwork(t, s.url)

			// A connection that breaks all the time only takes longer.
			h := s.host(t)
			n.breaks(func(i int, _ string) fault {
				if i < 3 || i > 8 {
					return nil
				}
				return func(x *passage) { r := x.forward(x.body); x.cut(r, len(r.bytes())*2/3) }
			})
			got := movedBy(t, h.must("--json", "clone", n.url, h.repo()))
			if got.Bytes > whole.Bytes*3/2 {
				t.Errorf("%d bytes have come, of %d", got.Bytes, whole.Bytes)
			}
			h.sound()

			// One that is killed goes on.
			h = s.host(t)
			cmd := h.cmd("clone", n.url, h.repo())
			started := make(chan struct{})
			var came atomic.Int64
			n.breaks(func(i int, _ string) fault {
				return func(x *passage) {
					r := x.forward(x.body)
					if len(r.bytes()) < 1<<20 {
						x.answer(r)
						return
					}
					x.slowly(r, func(piece int) {
						// Once: a second signal ends it at once.
						if now := came.Add(int64(piece)); now > whole.Bytes*5/6 && now-int64(piece) <= whole.Bytes*5/6 {
							<-started
							cmd.Process.Signal(syscall.SIGINT)
						}
					})
				}
			})
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			close(started)
			if err := cmd.Wait(); exitCode(err) != 128+int(syscall.SIGINT) {
				t.Fatal(err)
			}
			n.works()
			h.sound()
			rest := movedBy(t, h.must("--json", "pull", "--all", "--tags"))
			t.Logf("of %d bytes %d came after the interruption", whole.Bytes, rest.Bytes)
			if rest.Bytes > whole.Bytes*2/3 {
				t.Errorf("%d bytes of %d come after the interruption", rest.Bytes, whole.Bytes)
			}
			h.sound()
			same(t, first.work("big"), h.restored("big5", "big"))
		})
	}
}

// slowly passes an answer on in pieces.
func (x *passage) slowly(r *reply, between func(piece int)) {
	for name, values := range r.header {
		x.w.Header()[name] = values
	}
	x.w.WriteHeader(r.code)
	const piece = 256 << 10
	for at := 0; at < len(r.body); at += piece {
		n, err := x.w.Write(r.body[at:min(at+piece, len(r.body))])
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		x.flush()
		between(n)
	}
}
