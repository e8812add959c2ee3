package tests

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/internal/test"
)

// racers is how many machines push to one branch at the same time.
const racers = 8

// racyPlaces are where they do that.
func racyPlaces() []place {
	if test.Soak() {
		return places
	}
	return placesNamed("path", "bucket", "serve", "apache", "versitygw")
}

// try is run for other goroutines than that of the test: it returns an error where
// the command fails.
func (h *host) try(args ...string) error {
	r, err := finish(h.cmd(args...), longest)
	if err == nil && r.code != done {
		err = fmt.Errorf("%v", r)
	}
	return err
}

// put puts a value that tells its key.
func (h *host) put(key string) error {
	cmd := h.cmd("put", key)
	cmd.Stdin = strings.NewReader("the value of " + key)
	r, err := finish(cmd, longest)
	if err == nil && r.code != done {
		err = fmt.Errorf("%v", r)
	}
	return err
}

// holds fails the test unless the branch has these keys, each with its value.
func (h *host) holds(keys ...string) {
	h.t.Helper()
	have := "\n" + h.must("ls", "put").out
	for _, key := range keys {
		if !strings.Contains(have, "\n"+key+"\n") && !strings.Contains(have, "\nput/"+key+"\n") {
			h.t.Errorf("%s is lost", key)
		}
	}
	if n := strings.Count(have, "\n") - 1; n < len(keys) {
		h.t.Errorf("%d entries, want %d", n, len(keys))
	}
	for _, key := range []string{keys[0], keys[len(keys)/2], keys[len(keys)-1]} {
		if got := h.must("get", key).out; got != "the value of "+key {
			h.t.Errorf("%s is %q", key, got)
		}
	}
}

// TestRacingPushes lets machines push to one branch at the same time, again and
// again. Each entry of each is there at the end.
func TestRacingPushes(t *testing.T) {
	for _, p := range racyPlaces() {
		t.Run(p.name, func(t *testing.T) {
			s := p.start(t)
			rounds := test.Count(t, 30)
			var hosts []*host
			for range racers {
				hosts = append(hosts, s.connected(t))
			}
			var group errgroup.Group
			var keys []string
			for i, h := range hosts {
				for round := range rounds {
					keys = append(keys, fmt.Sprintf("host%d-%d", i, round))
				}
				group.Go(func() error {
					for round := range rounds {
						if err := h.put(fmt.Sprintf("host%d-%d", i, round)); err != nil {
							return err
						}
						if err := h.try("push"); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			s.sound(t)
			s.clone(t).holds(keys...)
			for _, h := range hosts {
				h.must("pull")
				h.sound()
			}
			hosts[0].holds(keys...)
		})
	}
}

// TestExchangeBesideWork pushes and pulls in a repository in which others commit,
// run, stage and merge meanwhile, and against a remote that another machine pushes
// to. Nothing is lost, and nobody is in anybody's way.
func TestExchangeBesideWork(t *testing.T) {
	for _, p := range placesNamed("path", "bucket", "serve") {
		t.Run(p.name, func(t *testing.T) {
			s := p.start(t)
			here, there := s.connected(t), s.connected(t)
			if err := there.put("first"); err != nil {
				t.Fatal(err)
			}
			there.must("push")
			here.must("pull")
			here.must("branch", "side")

			var working atomic.Bool
			working.Store(true)
			var beside sync.WaitGroup
			again := func(what string, fn func(i int) error) {
				beside.Go(func() {
					for i := 0; working.Load(); i++ {
						if err := fn(i); err != nil {
							t.Errorf("%s: %v", what, err)
							return
						}
					}
				})
			}
			var there2, side atomic.Int64
			again("push", func(int) error { return here.try("push") })
			again("pull", func(int) error { return here.try("pull", "--tags") })
			again("fetch", func(int) error { return here.try("fetch", "--tags") })
			again("tag there", func(i int) error {
				if err := there.try("tag", fmt.Sprint("v", i)); err != nil {
					return err
				}
				return there.try("push", "--tags")
			})
			again("push there", func(i int) error {
				if err := there.put(fmt.Sprint("there", i)); err != nil {
					return err
				}
				there2.Store(int64(i + 1))
				return there.try("push")
			})
			again("merge", func(i int) error {
				cmd := here.cmd("--branch", "side", "put", fmt.Sprint("side", i))
				cmd.Stdin = strings.NewReader(fmt.Sprint("the value of side", i))
				if r, err := finish(cmd, longest); err != nil || r.code != done {
					return fmt.Errorf("%v %v", r, err)
				}
				// Who loses a race with a commit says so.
				r, err := finish(here.cmd("merge", "side"), longest)
				if err != nil || r.code != done && r.code != conflict {
					return fmt.Errorf("%v %v", r, err)
				}
				if r.code == done {
					side.Store(int64(i + 1))
				}
				return nil
			})
			n := test.Count(t, 150)
			var group errgroup.Group
			group.SetLimit(2)
			keys := []string{"first"}
			for i := range n {
				keys = append(keys, fmt.Sprint("here", i))
				group.Go(func() error {
					if i%3 == 0 {
						if err := here.try("run", "--", "echo", fmt.Sprint(i)); err != nil {
							return err
						}
					}
					for {
						err := here.put(fmt.Sprint("here", i))
						if err == nil || !strings.Contains(err.Error(), "exit code 4") {
							return err // who loses a race with a commit says so
						}
					}
				})
			}
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
			working.Store(false)
			beside.Wait()
			for i := range there2.Load() {
				keys = append(keys, fmt.Sprint("there", i))
			}
			for i := range side.Load() {
				keys = append(keys, fmt.Sprint("side", i))
			}
			t.Logf("%d entries", len(keys))
			here.must("push")
			there.must("push")
			here.sound()
			there.sound()
			s.sound(t)
			last := s.clone(t)
			last.holds(keys...)
			if r := last.must("ls", "run"); strings.Count(r.out, "\n") != (n+2)/3 {
				t.Errorf("want %d runs: %v", (n+2)/3, r)
			}
		})
	}
}
