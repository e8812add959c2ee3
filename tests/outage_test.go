package tests

import (
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
)

// outages are ways in which a server can be of no use for as long as it lasts.
var outages = map[string]fault{
	"hangs":                   func(x *passage) { x.hang() },
	"resets":                  func(x *passage) { x.reset() },
	"answers 500":             func(x *passage) { x.say(500) },
	"asks for an hour":        func(x *passage) { x.say(503, "Retry-After", "3600") },
	"cuts":                    func(x *passage) { r := x.forward(x.body); x.cut(r, len(r.bytes())/2) },
	"cuts, and does not say":  wrong["cut, and nobody says so"],
	"flips bits":              wrong["flipped bit"],
	"is somebody else":        wrong["somebody else answers"],
	"sends us elsewhere":      wrong["sent elsewhere"],
	"does not know us":        wrong["401"],
	"refuses":                 wrong["403"],
	"drips":                   func(x *passage) { x.drip() },
	"talks without end":       func(x *passage) { x.babble() },
	"says that all is done":   func(x *passage) { x.say(200, "Content-Type", "application/x-cache-tool") },
	"has nothing of that":     func(x *passage) { x.say(410) },
	"is no server of this":    func(x *passage) { x.say(405, "Allow", "GET") },
	"says yes, and is silent": func(x *passage) { x.w.WriteHeader(207); x.flush(); x.hang() },
}

func (x *passage) flush() { _ = http.NewResponseController(x.w).Flush() }

// drip answers with as little as it can.
func (x *passage) drip() {
	r := x.forward(x.body)
	if r == nil {
		x.reset()
		return
	}
	x.w.Header().Set("Content-Type", r.header.Get("Content-Type"))
	x.w.WriteHeader(r.code)
	for x.r.Context().Err() == nil {
		io.WriteString(x.w, " ")
		x.flush()
		time.Sleep(50 * time.Millisecond)
	}
}

// babble answers with more than anybody can take.
func (x *passage) babble() {
	for i := uint64(0); x.r.Context().Err() == nil; i++ {
		if _, err := io.WriteString(x.w, noise(i, 64<<10)); err != nil {
			return
		}
	}
}

// TestNeverFailsABuild lets a remote be of no use in every way: a lazy repository
// builds without it and says so, others do not ask it, and push, pull and their
// like fail with something to read. None of them waits for ever.
func TestNeverFailsABuild(t *testing.T) {
	t.Parallel()
	for _, p := range faultyPlaces(t) {
		t.Run(p.name, func(t *testing.T) {
			s := p.start(t)
			first := s.connected(t)
			first.must("put", "value", first.noise())
			first.must(makesNoise...)
			first.must("push")
			names := slices.Sorted(maps.Keys(outages))
			if p.name != "serve" {
				names = slices.DeleteFunc(names, func(name string) bool { return name == "has nothing of that" }) // an empty bucket
			}
			if p.name != "serve" && !test.Soak() {
				names = []string{"hangs", "cuts", "flips bits", "is somebody else"}
			}
			together(t, names, func(t *testing.T, name string) {
				h, n := s.through(t)
				lazy, n2 := s.through(t)
				for _, h := range []*host{h, lazy} {
					h.must("config", "set", "remote.origin.timeout", "1")
				}
				n.works()
				h.must("pull")
				lazy.must("pull", "--lazy")
				n.always(outages[name])
				n2.always(outages[name])
				if name == "drips" && !test.Soak() {
					wantClear(t, h.runWithin(boundedBy, "push"), "too slow") // it takes its time
					return
				}
				buildsWithout(t, lazy)
				if name == "hangs" {
					asked := n2.requests()
					lazy.must("run", "--", "echo", "another")
					if more := n2.requests() - asked; more > 0 {
						t.Errorf("the next run asks %d times more", more)
					}
				}
				doesNotAsk(t, h, n)
				failsClearly(t, h, n, name)
				n.works()
				n2.works()
				for _, h := range []*host{h, lazy} {
					h.must("config", "unset", "remote.origin.timeout")
				}
				h.must("push", "origin", "main:"+strings.NewReplacer(" ", "-", ",", "").Replace(name))
				h.must("pull")
				if r := lazy.must("get", "value"); r.out != noise(5, noisy) || r.err != "" {
					t.Errorf("%v", r)
				}
				h.sound()
				lazy.sound()
			})
			s.sound(t)
		})
	}
}

// file makes a file that holds its own name.
func (h *host) file(name string) string {
	h.t.Helper()
	return write(h.t, h.work(name), name+"\n")
}

// makesNoise is a run with a result that is too big to come along with trees.
var makesNoise = []string{"run", "--in", "noise", "--out", "made", "--", "sh", "-c", "echo built; cp noise made"}

const noisy = 200_000

// noise makes the file that makesNoise reads.
func (h *host) noise() string {
	h.t.Helper()
	return write(h.t, h.work("noise"), noise(5, noisy))
}

// buildsWithout wants builds in a lazy repository to go on.
func buildsWithout(t *testing.T, h *host) {
	t.Helper()
	h.noise()
	r := h.runWithin(boundedBy, makesNoise...)
	if r.code != done || r.out != "built\n" || strings.Count(r.err, "warning: origin cannot be asked: ") != 1 {
		t.Errorf("%v", r)
	}
	if r := h.runWithin(boundedBy, "run", "--", "sh", "-c", "exit 7"); r.code != 7 {
		t.Errorf("%v", r)
	}
	r = h.runWithin(boundedBy, "get", "value")
	told := strings.Contains(r.err, "warning: origin cannot be asked: ") || strings.Contains(r.err, "warning: origin lacks what it has promised: ")
	// Of a server that is no program it may have come along with what lies beside it.
	if (r.code != missed || r.out != "" || !told) && (r.code != done || r.out != noise(5, noisy)) {
		t.Errorf("%v", r)
	}
	// What was built is kept, as it would be without a remote.
	r = h.runWithin(boundedBy, append([]string{"-v"}, makesNoise...)...)
	if r.code != done || r.out != "built\n" || !strings.Contains(r.err, "hit ") {
		t.Errorf("built again: %v", r)
	}
	h.must("put", "mine", h.file("mine"))
	if r := h.must("get", "mine"); r.out != "mine\n" {
		t.Errorf("%v", r)
	}
	h.must("log")
	h.must("fsck")
}

// doesNotAsk wants a repository that is not lazy to build, and ask nobody.
func doesNotAsk(t *testing.T, h *host, n *network) {
	t.Helper()
	h.noise()
	for range 2 {
		if r := h.must(makesNoise...); r.out != "built\n" || r.err != "" {
			t.Errorf("%v", r)
		}
	}
	h.must("put", "local", h.file("local"))
	if r := h.run("get", "nothing"); r.code != missed {
		t.Errorf("%v", r)
	}
	if asked := n.requests(); asked > 0 {
		t.Errorf("it asks the remote %d times", asked)
	}
}

// failsClearly wants commands that need the remote to fail, and nothing to change.
func failsClearly(t *testing.T, h *host, n *network, outage string) {
	t.Helper()
	before := h.must("branch", "--list").out + h.must("log", "--oneline").out
	others := [][]string{{"pull"}, {"fetch"}, {"remote", "show", "origin"}}
	if !test.Soak() {
		others = others[len(outage)%3:][:1]
	}
	for _, args := range append(others, []string{"push"}, []string{"clone", "-c", "remote.origin.timeout=1", n.url, h.work("clone")}) {
		r := h.runWithin(boundedBy, args...)
		if outage == "flips bits" && args[0] == "remote" {
			continue // who shows names and ids cannot know that they are others
		}
		if outage == "flips bits" && args[0] == "push" && r.code == done {
			continue // of the answers to what is put somewhere few bits matter; what there is now is looked at below
		}
		wantClear(t, r, "origin")
		if r.out != "" {
			t.Errorf("%v", r)
		}
	}
	if names, err := readNames(h.work("clone")); err == nil {
		t.Errorf("clone leaves %q", names)
	}
	if after := h.must("branch", "--list").out + h.must("log", "--oneline").out; after != before {
		t.Errorf("branches and log before:\n%s\nand after:\n%s", before, after)
	}
}

// TestNobodyListens is the commonest of all outages.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := refused.Addr().String()
	refused.Close()
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections, and that is all
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	var urls []string
	for _, scheme := range []string{"http", "https", "dav+http", "dav+https"} {
		for _, at := range []string{address, deaf.Addr().String(), "host.invalid"} {
			urls = append(urls, scheme+"://"+at+"/a")
		}
	}
	s := startServe(t)
	first := s.connected(t)
	first.must("put", "value", first.noise())
	first.must("push")
	together(t, urls, func(t *testing.T, url string) {
		h := s.host(t)
		h.must("clone", "--lazy", s.url, h.repo())
		h.must("remote", "set-url", "origin", url)
		h.must("config", "set", "remote.origin.timeout", "1")
		buildsWithout(t, h)
		for _, verb := range []string{"push", "pull", "fetch"}[len(url)%3:][:1] {
			r := h.runWithin(boundedBy, verb)
			wantClear(t, r, "origin")
			insecure := strings.HasPrefix(url, "http://host") // with a token
			if !insecure && !strings.Contains(r.err, "it goes on where it stopped") {
				t.Errorf("%v", r)
			}
		}
	})
}
