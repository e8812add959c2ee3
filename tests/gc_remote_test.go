package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/internal/test"
)

// A collected is what gc --remote says with --json.
type collected struct {
	Branches []struct {
		Ref                              string
		Entries, EvictedEntries, Commits int
		DroppedCommits                   int
		Bytes, DroppedBytes              int64
	}
	EvictedEntries        int
	SizeBefore, SizeAfter int64
	Condemned, Waiting    struct {
		Files int
		Bytes int64
	}
}

func collectedBy(t *testing.T, r result) (c collected) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.out), &c); err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	return c
}

// TestCollectRemoteAsPlanned: what a dry run says is what is done then, whatever is
// asked for, and what stays is whole.
func TestCollectRemoteAsPlanned(t *testing.T) {
	alone(t)
	dir := test.Dir(t)
	home, url := filepath.Join(dir, "home"), "bucket+file://"+filepath.Join(dir, "share")
	must(t, home, "init")
	must(t, home, "remote", "add", "origin", url)
	for i := range 12 {
		branch := []string{"main", "side", "release"}[i%3]
		if r := runWith([]byte(noise(uint64(i), 10_000+3000*(i%4))), home, "--branch", branch, "put", fmt.Sprint("key", i)); r.code != done {
			t.Fatal(r)
		}
		must(t, home, "--branch", branch, "push")
	}
	for _, args := range [][]string{
		{"--keep-history", "0"},
		{"--max-size", "120kB"},
		{"--max-size", "90kB", "--protected", "release"},
		{"--branch-ttl", "0", "--protected", "release"},
		{"--max-age", "0"},
	} {
		args = append([]string{"gc", "--remote", "origin", "--grace", "0", "--json"}, args...)
		plan := run(home, append(args, "--dry-run")...)
		is := run(home, args...)
		planned, did := collectedBy(t, plan), collectedBy(t, is)
		if fmt.Sprint(planned.Branches, planned.EvictedEntries) != fmt.Sprint(did.Branches, did.EvictedEntries) || plan.code != is.code {
			t.Errorf("planned %v\nand did %v", plan, is)
		}
		if did.Waiting.Files > 0 {
			t.Errorf("nothing had to wait: %v", is)
		}
		copied := filepath.Join(test.Dir(t), "copy")
		must(t, copied, "clone", "-q", url, copied)
		sound(t, copied)
		want := 0
		for _, b := range did.Branches {
			want += b.Entries
		}
		found := 0
		for _, b := range did.Branches {
			if b.Entries > 0 {
				found += strings.Count(must(t, copied, "ls", "-R", "origin/"+strings.TrimPrefix(b.Ref, "refs/heads/")+":").out, "\n")
			}
		}
		if found != want {
			t.Errorf("%d entries are in the bucket, want %d: %v", found, want, is)
		}
	}
}

// TestCollectRemoteBesidePushes: nothing that was pushed meanwhile is lost, and who
// pushes never fails because of it.
func TestCollectRemoteBesidePushes(t *testing.T) {
	for _, p := range placesNamed("bucket", "apache", "versitygw") {
		t.Run(p.name, func(t *testing.T) {
			s := p.start(t)
			rounds := test.Count(t, 10)
			var hosts []*host
			for range 3 {
				hosts = append(hosts, s.connected(t))
			}
			keeper := s.connected(t)
			var pushing, collecting errgroup.Group
			var over atomic.Bool
			for i, h := range hosts {
				pushing.Go(func() error {
					for round := range rounds {
						if err := h.put(fmt.Sprintf("%d-%d", i, round)); err != nil {
							return err
						}
						if err := h.try("push", "-q"); err != nil {
							return err
						}
					}
					return nil
				})
			}
			collecting.Go(func() error {
				for n := 0; !over.Load(); n++ {
					args := []string{"gc", "--remote", "origin", "-q", "--keep-history", "0", "--grace", "0"}
					if n%2 == 1 {
						args = append(args, "--max-size", "1GB", "--max-age", "1d")
					}
					r, err := finish(keeper.cmd(args...), longest)
					if err != nil {
						return err
					}
					if r.code != done && !strings.Contains(r.err, "others push all the time") {
						return fmt.Errorf("%v", r)
					}
				}
				return nil
			})
			if err := pushing.Wait(); err != nil {
				t.Error(err)
			}
			over.Store(true)
			if err := collecting.Wait(); err != nil {
				t.Error(err)
			}
			var keys []string
			for i := range hosts {
				for round := range rounds {
					keys = append(keys, fmt.Sprintf("%d-%d", i, round))
				}
			}
			late := s.connected(t)
			late.must("pull")
			late.holds(keys...)
		})
	}
}

// TestEvictRemoteBesidePushes: two machines keep a bucket small to which others push. What
// came last stays, nothing that goes comes back, and what is there is whole.
func TestEvictRemoteBesidePushes(t *testing.T) {
	s := placesNamed("bucket")[0].start(t)
	rounds := max(10, test.Count(t, 100)) // fewer do not fill 60 kB
	var pushing, collecting errgroup.Group
	var over atomic.Bool
	hosts := []*host{s.connected(t), s.connected(t), s.connected(t)}
	for i, h := range hosts {
		pushing.Go(func() error {
			for round := range rounds {
				key := fmt.Sprintf("%d-%d", i, round)
				if err := os.WriteFile(h.work("value"), []byte(noise(uint64(i<<20+round), 5_000)), 0o666); err != nil {
					return err
				}
				if err := h.try("put", key, "value"); err != nil {
					return err
				}
				if err := h.try("push", "-q"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	evicted := 0
	for i := range 2 {
		keeper := s.connected(t)
		collecting.Go(func() error {
			for !over.Load() {
				r, err := finish(keeper.cmd("gc", "--remote", "origin", "--grace", "0", "--max-size", "60kB"), longest)
				if err != nil {
					return err
				}
				if r.code != done && !strings.Contains(r.err, "others push all the time") && !strings.Contains(r.err, "stay, more than") {
					return fmt.Errorf("%v", r)
				}
				if i == 0 && strings.Contains(r.out, "; dropped ") {
					evicted++
				}
			}
			return nil
		})
	}
	err := pushing.Wait()
	if err == nil {
		err = hosts[0].put("last")
	}
	if err == nil {
		err = hosts[0].try("push", "-q")
	}
	over.Store(true)
	if err := errors.Join(err, collecting.Wait()); err != nil {
		t.Fatal(err)
	}
	if evicted == 0 {
		t.Error("nothing was evicted meanwhile")
	}
	last := s.connected(t).must("gc", "--remote", "origin", "--grace", "0", "--max-size", "60kB", "--json")
	if c := collectedBy(t, last); c.SizeAfter > 60_000 {
		t.Errorf("%v", last)
	}
	late := s.clone(t)
	late.must("get", "last")
	if n := strings.Count(late.must("ls", "put").out, "\n"); n > 12 {
		t.Errorf("%d entries are in 60 kB", n)
	}
}

// TestCollectRemoteMany collects a bucket of many entries in little memory.
func TestCollectRemoteMany(t *testing.T) {
	alone(t)
	n := test.Count(t, 250_000) // of three objects, and one more for the trees above
	dir := fillBranch(t, n)
	url := "bucket+file://" + filepath.Join(test.Dir(t), "share")
	must(t, dir, "push", "-q", url)
	empty := filepath.Join(test.Dir(t), "empty")
	must(t, empty, "init")
	all := collectedBy(t, must(t, empty, "gc", "--remote", url, "--json"))
	used, r := measure(t, empty, "gc", "--remote", url, "--json", "--grace", "0", "--max-size", fmt.Sprint(all.SizeBefore*2/3))
	c := collectedBy(t, r)
	t.Logf("%d of %d entries go, %d -> %d kB: %d MB of memory", c.EvictedEntries, n, c.SizeBefore>>10, c.SizeAfter>>10, used.Peak>>20)
	if used.Peak > 300<<20 && !test.Race {
		t.Errorf("%d MB of memory", used.Peak>>20)
	}
	if c.EvictedEntries < n/5 || c.EvictedEntries > 2*n/3 || c.SizeAfter > all.SizeBefore*2/3 {
		t.Errorf("%d of %d entries go", c.EvictedEntries, n)
	}
}
