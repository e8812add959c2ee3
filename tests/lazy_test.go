package tests

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
	"github.com/cache-tool/cache-tool/tests/crowd"
)

// What a lazy clone and one hit may take, over the network.
const (
	lazyRequests = 8
	lazyBytes    = 5e6
)

// TestLazyHit takes a result that another machine made, out of a branch of many,
// into a repository that has nothing yet: as a build does that has just begun.
func TestLazyHit(t *testing.T) {
	alone(t)
	project := test.Dir(t)
	write(t, filepath.Join(project, "a.c"), "int a;\n")
	write(t, filepath.Join(project, "a.h"), "int h;\n")
	t.Chdir(project)

	compile := []string{"--out", "a.o", "--", "sh", "-c", "cat a.c a.h > a.o && echo 'a.o: a.c a.h' > a.d && echo made"}
	var hits []lazyHit
	full := filepath.Join(test.Dir(t), "repo")
	made := func(when string) {
		for _, hit := range []lazyHit{
			{when + ", inputs named", []string{"run", "--salt", when, "--in", "a.c", "--in", "a.h"}},
			{when + ", inputs discovered", []string{"run", "--salt", when, "--depfile", "a.d"}},
		} {
			hit.args = append(hit.args, compile...)
			hits = append(hits, hit)
			must(t, full, hit.args...)
		}
		must(t, full, "-q", "commit")
	}
	made("before the others")
	if err := crowd.Make(ctx, full, entry.Run, test.Count(t, 100_000)); err != nil {
		t.Fatal(err)
	}
	made("after them")

	r := open(t, full)
	store := peer.New(r.DB, r.Refs, r)
	s := servertest.Start(t, server.Options{Open: func() server.Store { return store }, Anonymous: auth.Rules{Read: []string{"*"}}})
	wire := listenBefore(t, s.Addr)
	for _, hit := range hits {
		os.Remove("a.o")
		os.Remove("a.d")
		lazy := filepath.Join(test.Dir(t), "lazy")
		requests, bytes := strings.Count(s.Log(), "msg=request"), wire.bytes.Load()
		must(t, lazy, "-q", "clone", "--lazy", "http://"+wire.addr, lazy)
		got := must(t, lazy, append([]string{"-v"}, hit.args...)...)
		requests, bytes = strings.Count(s.Log(), "msg=request")-requests, wire.bytes.Load()-bytes

		if got.out != "made\n" || !strings.Contains(got.err, "hit ") || read(t, "a.o") != "int a;\nint h;\n" {
			t.Errorf("%s: %v", hit.name, got)
		}
		t.Logf("%s: %d requests, %d bytes", hit.name, requests, bytes)
		if requests > lazyRequests || bytes > lazyBytes {
			t.Errorf("%s: %d requests and %d bytes, want at most %d and %d\n%s", hit.name, requests, bytes, lazyRequests, int(lazyBytes), s.Log())
		}
	}
}

// A lazyHit is a command whose result is there, made before or after most others.
type lazyHit struct {
	name string
	args []string
}

// A tap passes connections on, and counts what goes over them both ways.
type tap struct {
	addr  string
	bytes atomic.Int64
}

func listenBefore(t *testing.T, addr string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tap{addr: l.Addr().String()}
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				client.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				defer to.Close()
				defer from.Close()
				_, _ = io.Copy(to, io.TeeReader(from, w))
			}
			all.Go(func() { pass(server, client) })
			all.Go(func() { pass(client, server) })
		}
	})
	return w
}

func (w *tap) Write(p []byte) (int, error) {
	w.bytes.Add(int64(len(p)))
	return len(p), nil
}
