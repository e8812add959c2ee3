package tests

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/internal/test"
)

// together runs a test for each name, some at the same time: they wait for what
// hangs more than they work.
func together(t *testing.T, names []string, fn func(t *testing.T, name string)) {
	t.Helper()
	var all errgroup.Group
	all.SetLimit(12)
	for _, name := range names {
		all.Go(func() error {
			t.Run(name, func(t *testing.T) { fn(t, name) })
			return nil
		})
	}
	_ = all.Wait()
}

// faultyPlaces are where requests fail one by one: our own server and that of
// another, which needs ten times as many; in a soak all of them.
func faultyPlaces(t *testing.T) []place {
	if test.Soak() {
		return placesNamed("serve", "apache", "nginx", "lighttpd", "rclone")
	}
	return placesNamed("serve", "lighttpd")
}

// boundedBy is how long a command may take whose server does not answer, with a
// time-out of two seconds. It proves that there is an end to it, and no more.
const boundedBy = 90 * time.Second

// through is a host whose origin is a site behind a network of its own, and that
// does not wait long.
func (s *site) through(t *testing.T) (*host, *network) {
	t.Helper()
	n := newNetwork(t, s.url)
	h := s.host(t)
	h.must("remote", "add", "origin", n.url)
	h.must("config", "set", "remote.origin.timeout", "2")
	return h, n
}

// stride is how many requests there are from one that fails to the next.
func stride(t *testing.T) int { return 10 / test.Count(t, 10) }

// TestRequestFails lets one request of a push, a pull and a look-up fail, each in
// turn and in each way. What passes is not seen; what does not is said. Nothing is
// lost or wrong, and the next time everything is well.
func TestRequestFails(t *testing.T) {
	t.Parallel() // it waits most of the time
	for _, p := range faultyPlaces(t) {
		t.Run(p.name, func(t *testing.T) {
			s := p.start(t)
			first := s.connected(t)
			write(t, first.work("big"), noise(1, 300_000))
			first.must("save", "big", "big")
			first.must("push")
			faults := maps.Clone(passing)
			maps.Copy(faults, wrong)
			if p.name != "serve" {
				delete(faults, "404") // nothing is there, it means
			}
			names := slices.Sorted(maps.Keys(faults))
			if p.name != "serve" && !test.Soak() {
				names = []string{"500, done", "cut", "flipped bit", "reset halfway", "reset, done", "silent", "silent, done", "somebody else answers"}
			}
			slices.Reverse(names) // the silent ones first: they take longest
			together(t, names, func(t *testing.T, name string) {
				_, passes := passing[name]
				r := newRequestTest(t, s, faults[name], passes, name)
				r.each("push", r.push)
				r.each("pull", r.pull)
				r.each("get", r.get)
			})
			s.sound(t)
		})
	}
}

// A requestTest lets requests fail in one way.
type requestTest struct {
	t      *testing.T
	fault  fault
	passes bool
	branch string // nobody else's

	here, there *host // behind the network, and on the side of the site
	lazy        *host // behind the network, too
	net, net2   *network
	n           int
}

func newRequestTest(t *testing.T, s *site, f fault, passes bool, name string) *requestTest {
	r := &requestTest{t: t, fault: f, passes: passes, branch: strings.NewReplacer(" ", "-", ",", "").Replace(name)}
	r.here, r.net = s.through(t)
	r.there = s.connected(t)
	r.lazy, r.net2 = s.through(t)
	for _, h := range []*host{r.here, r.there, r.lazy} {
		h.setenv("CACHE_TOOL_BRANCH", r.branch)
	}
	r.there.must("pull", "origin", "main:"+r.branch)
	r.there.must("push")
	r.here.must("pull", "origin", r.branch)
	r.lazy.must("pull", "--lazy", "origin", r.branch)
	return r
}

// each calls try with each request failing, until there is none left that could.
func (r *requestTest) each(what string, try func(t *testing.T, key string, n *network, at int) int) {
	step := stride(r.t)
	for at := 1 + len(r.branch)%step; ; at += step {
		more := true
		r.t.Run(fmt.Sprintf("%s-%d", what, at), func(t *testing.T) {
			r.n++
			more = try(t, fmt.Sprintf("%s%d", what, r.n), r.net, at) >= at
		})
		if !more || r.t.Failed() {
			return
		}
	}
}

// new is a key with a value of its own, on a host.
func (r *requestTest) new(h *host, key string) {
	write(r.t, h.work(key), "the value of "+key)
	h.must("put", key, h.work(key))
}

func (r *requestTest) want(h *host, key string) {
	r.t.Helper()
	if got := h.must("get", key).out; got != "the value of "+key {
		r.t.Errorf("%s is %q", key, got)
	}
}

// failing runs a command on a host while request at fails.
func (r *requestTest) failing(t *testing.T, h *host, n *network, at int, args ...string) result {
	t.Helper()
	n.at(at, r.fault)
	res := h.runWithin(boundedBy, args...)
	hit := n.requests() >= at
	n.requestsAreFine()
	switch {
	case res.code == done:
	case !hit:
		t.Errorf("without any fault: %v", res)
	case r.passes:
		t.Errorf("it does not get over one request that fails: %v", res)
	default:
		wantClear(t, res, "origin")
	}
	return res
}

// requestsAreFine lets all come through, and keeps the count.
func (n *network) requestsAreFine() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.choose = nil
}

// wantClear wants an error that says what it is about and gives a way out, in two
// or three lines.
func wantClear(t *testing.T, r result, about string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.err), "\n")
	switch {
	case r.code != failed:
		t.Errorf("exit code %d, want %d: %v", r.code, failed, r)
	case !strings.HasPrefix(lines[0], "cache-tool: ") || !strings.Contains(lines[0], about):
		t.Errorf("it does not say what it is about: %v", r)
	case !strings.Contains(r.err, "\nhint: "):
		t.Errorf("no way out: %v", r)
	case len(lines) > 4 || len(r.err) > 2000:
		t.Errorf("too much to read: %v", r)
	}
}

func (r *requestTest) push(t *testing.T, key string, n *network, at int) int {
	r.new(r.here, key)
	if r.failing(t, r.here, n, at, "push").code != done {
		r.here.must("push")
	}
	count := n.requests()
	r.there.must("pull", "origin", r.branch)
	r.want(r.there, key)
	return count
}

func (r *requestTest) pull(t *testing.T, key string, n *network, at int) int {
	r.new(r.there, key)
	r.there.must("push")
	if r.failing(t, r.here, n, at, "pull", "origin", r.branch).code != done {
		r.here.must("pull", "origin", r.branch)
	}
	r.want(r.here, key)
	r.here.sound()
	return n.requests()
}

// get looks up what is not here yet. A miss is no error, but must have a reason.
func (r *requestTest) get(t *testing.T, key string, _ *network, at int) int {
	r.new(r.there, key)
	r.there.must("push")
	r.lazy.must("fetch", "origin")
	r.lazy.must("pull", "origin", r.branch)
	n := r.net2
	n.at(at, r.fault)
	res := r.lazy.runWithin(boundedBy, "get", key)
	count := n.requests()
	n.works()
	switch {
	case res.code == done && res.out == "the value of "+key:
	case res.code != missed || res.out != "":
		t.Errorf("%v", res)
	case count < at:
		t.Errorf("without any fault: %v", res)
	case r.passes:
		t.Errorf("it does not get over one request that fails: %v", res)
	case !strings.Contains(res.err, "warning: origin cannot be asked: ") && !strings.Contains(res.err, "cannot be fetched"):
		t.Errorf("it does not say why: %v", res)
	}
	r.want(r.lazy, key)
	return count
}
