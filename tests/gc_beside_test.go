package tests

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/webdav"
	"github.com/cache-tool/cache-tool/sync/remote/webdav/davtest"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// How many do something beside a collection.
const (
	workers = 32
	lookers = 8
)

// A bustle is many who write and read at once, until its time is over.
type bustle struct {
	t    *testing.T
	dir  string
	over atomic.Bool
	hub  *repo.Repo // that is collected; nil if it is none

	working, beside sync.WaitGroup

	overtaken atomic.Int64 // pushes that had to be done once more

	mu      sync.Mutex
	said    []saying                      // guarded by mu
	evicted []func(entry objects.ID) bool // guarded by mu; what each collection has taken out
}

// A saying is an entry that somebody was told is kept.
type saying struct {
	branch, key string
	kind        entry.Kind
	id          objects.ID // of the entry, if it was still there a moment later
}

func newBustle(t *testing.T) *bustle {
	t.Helper()
	alone(t)
	b := &bustle{t: t, dir: test.Dir(t)}
	for i := range variants {
		write(t, b.path("work", fmt.Sprint("tree", i), "file"), strings.Repeat(fmt.Sprintln("line", i), 30))
		write(t, b.path("work", fmt.Sprint("tree", i), "noise"), noise(uint64(i), 3000))
	}
	t.Chdir(b.path("work"))
	return b
}

func (b *bustle) path(names ...string) string {
	return filepath.Join(append([]string{b.dir}, names...)...)
}

// machine makes a repository with a remote.
func (b *bustle) machine(name, remote, url string) string {
	b.t.Helper()
	dir := b.path(name)
	must(b.t, dir, "init", dir)
	must(b.t, dir, "remote", "add", remote, url)
	return dir
}

// again does something until the time is over.
func (b *bustle) again(to *sync.WaitGroup, what string, fn func(i int) error) {
	to.Go(func() {
		for i := 0; !b.over.Load() && !b.t.Failed(); i++ {
			if err := fn(i); err != nil {
				b.t.Errorf("%s: %v", what, err)
				return
			}
		}
	})
}

// wait lets everybody go on for a minute in a soak, and until enough was collected, if
// that comes to pass, and waits until all have come to an end.
func (b *bustle) wait(enough func() bool) {
	b.t.Helper()
	const most = 45 * time.Second // a slow machine has done little in a few seconds
	least := time.Duration(test.Count(b.t, 60)) * time.Second
	for began := time.Now(); time.Since(began) < least || !enough() && time.Since(began) < max(most, 3*least); {
		if time.Sleep(50 * time.Millisecond); b.t.Failed() {
			break
		}
	}
	b.over.Store(true)
	b.working.Wait()
	b.beside.Wait()
	if b.t.Failed() {
		b.t.FailNow()
	}
}

func (b *bustle) say(s ...saying) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, s...)
}

// any returns something that was said, most often a short while ago.
func (b *bustle) any() (saying, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.said)
	if n == 0 {
		return saying{}, false
	}
	if rand.IntN(2) == 0 {
		return b.said[n-1-rand.IntN(min(n, 20))], true
	}
	return b.said[rand.IntN(n)], true
}

// valueFor is what is put for a key. Some share chunks with others.
func valueFor(key string) string {
	n := uint64(len(key))
	for _, c := range key {
		n = n*31 + uint64(c)
	}
	switch {
	case n%23 == 0:
		return noise(n%3, 150_000) + key
	case n%3 == 0:
		return noise(n, 2000) + key
	}
	return "the value of " + key
}

// run runs a command, in this process or in one of its own. The parser of flags is not
// made to be used twice at once, as far as the race detector can tell.
func (b *bustle) run(stdin, dir string, args ...string) (result, error) {
	if !test.Race && rand.IntN(8) > 0 {
		return runWith([]byte(stdin), dir, args...), nil
	}
	cmd := process(dir, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return finish(cmd, longest)
}

// ok runs a command until it has not lost a race.
func (b *bustle) ok(stdin, dir string, args ...string) error {
	for {
		r, err := b.run(stdin, dir, args...)
		if err != nil {
			return err
		}
		switch {
		case r.code == done:
			return nil
		case r.code == conflict: // who loses a race with a commit says so
		case strings.Contains(r.err, "has been collected meanwhile") && args[len(args)-4] == "push":
			b.overtaken.Add(1) // nothing protects what is only on its way when there is no grace
		default:
			return fmt.Errorf("%v", r)
		}
	}
}

// write adds something to a branch of a repository. Then it rests for a moment, as long
// as a build does something else.
func (b *bustle) write(dir, branch, who string, i int) error {
	time.Sleep(rand.N(400 * time.Millisecond))
	key := fmt.Sprint(who, "-", i)
	switch i % 8 {
	case 3:
		if err := b.ok("", dir, "--branch", branch, "save", "--no-times", key, fmt.Sprint("tree", i%variants)); err != nil {
			return err
		}
		b.say(b.saying(branch, key, entry.Save))
		return nil
	case 5:
		r, err := b.run("", dir, "--branch", branch, "run", "--", "sh", "-c", "echo said "+key)
		if err != nil || r.code != done || r.out != "said "+key+"\n" {
			return fmt.Errorf("%v %v", r, err)
		}
		return nil
	case 6: // what goes again
		if err := b.ok("x"+key, dir, "--branch", branch, "put", "again-"+who); err != nil {
			return err
		}
		return b.ok("", dir, "--branch", branch, "rm", "again-"+who)
	}
	args := staging(i%8 == 2, "--branch", branch, "put", key)
	if err := b.ok(valueFor(key), dir, args...); err != nil {
		return err
	}
	b.say(b.saying(branch, key, entry.Put))
	return nil
}

// saying notes which entry a key has in the hub.
func (b *bustle) saying(branch, key string, kind entry.Kind) saying {
	s := saying{branch: branch, key: key, kind: kind}
	if b.hub != nil {
		if found, err := b.hub.Lookup(ctx, []refs.Name{refs.Branch(branch)}, kind, key); err == nil {
			s.id = found.ID
		}
	}
	return s
}

// isEvicted reports whether a collection has taken something out.
func (b *bustle) isEvicted(s saying) bool {
	return s.id.IsZero() || slices.ContainsFunc(b.evicted, func(has func(objects.ID) bool) bool { return has(s.id) })
}

// read looks for something that was said to be there. It may have been evicted if
// mayMiss.
func (b *bustle) read(dir string, mayMiss func(saying) bool) error {
	s, ok := b.any()
	if !ok {
		time.Sleep(time.Millisecond)
		return nil
	}
	return b.readOne(dir, s, mayMiss(s))
}

func (b *bustle) readOne(dir string, s saying, mayMiss bool) error {
	args := []string{"--branch", s.branch, "get", s.key}
	if s.kind == entry.Save {
		to, err := os.MkdirTemp(b.dir, "to")
		if err != nil {
			return err
		}
		defer os.RemoveAll(to)
		args = []string{"--branch", s.branch, "restore", s.key, "--to", to}
	}
	r, err := b.run("", dir, args...)
	switch {
	case err != nil:
		return err
	case r.code == missed && mayMiss:
	case r.code != done:
		return fmt.Errorf("%s in %s: %v", s.key, s.branch, r)
	case s.kind == entry.Put && r.out != valueFor(s.key):
		return fmt.Errorf("%s in %s is %.100q", s.key, s.branch, r.out)
	}
	return nil
}

// holds wants all that was said to be in a repository, and to be right.
func (b *bustle) holds(dir string, mayMiss func(saying) bool) {
	b.t.Helper()
	r := open(b.t, dir)
	there := map[string]map[string]objects.ID{}
	for _, s := range b.said {
		if there[s.branch] != nil {
			continue
		}
		there[s.branch] = map[string]objects.ID{}
		for found, err := range r.Entries(ctx, refs.Branch(s.branch), "") {
			if err != nil {
				b.t.Fatal(err)
			}
			there[s.branch][found.Path] = found.ID
		}
	}
	lost := 0
	for _, s := range b.said {
		id, ok := there[s.branch][entry.Path(s.kind, s.key)]
		switch {
		case !ok && mayMiss(s):
			lost++
			continue
		case !ok:
			b.t.Errorf("%s in %s is lost", s.key, s.branch)
			continue
		}
		payload, _, err := entry.Read(ctx, r.DB, id)
		if err != nil {
			b.t.Errorf("%s in %s: %v", s.key, s.branch, err)
			continue
		}
		if s.kind == entry.Put && payload[0].ID != objects.Sum(objects.Blob, []byte(valueFor(s.key))) {
			b.t.Errorf("%s in %s has other bytes", s.key, s.branch)
		}
	}
	b.t.Logf("%d entries, %d of them evicted", len(b.said), lost)
}

func never(saying) bool { return false }

// collect drops what nobody needs, and some of the history.
func (b *bustle) collect(dir string, i int) error {
	args := []string{"gc", "--grace", "0"}
	if i%3 == 0 {
		args = append(args, "--keep-history", "0")
	}
	return b.ok("", dir, args...)
}

// collectSize takes out of branches what there is no room for.
func (b *bustle) collectSize(dir string, i int) error {
	r, err := repo.Open(ctx, dir, repo.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	o := r.CollectSettings()
	o.Grace, o.KeepHistory, o.MaxSize = 0, 1, int64(40_000+i%5*40_000)
	sum, err := r.Collect(ctx, o)
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.evicted = append(b.evicted, sum.Evicts)
	}
	return err
}

// TestCollectBesideWork collects a repository over and over while many write to it,
// read from it, push to it and fetch from it, and it pulls from others.
func TestCollectBesideWork(t *testing.T) {
	for _, tt := range []struct {
		name    string
		gc      func(b *bustle, dir string, i int) error
		mayMiss func(saying) bool
	}{
		{"grace 0", (*bustle).collect, never},
		{"size", (*bustle).collectSize, func(s saying) bool { return s.branch != "keep" && s.branch != "pinned" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBustle(t)
			hub := b.path("hub")
			must(t, hub, "init", hub)
			must(t, hub, "config", "set", "gc.protected", "keep")
			must(t, hub, "config", "set", "stage.limit", "50")
			b.hub = open(t, hub)
			for i := range 5 { // what a tag holds
				key := fmt.Sprint("pinned", i)
				if r := runWith([]byte(valueFor(key)), hub, "--branch", "pinned", "put", key); r.code != done {
					t.Fatal(r)
				}
				b.say(b.saying("pinned", key, entry.Put))
			}
			must(t, hub, "tag", "v1", "pinned")
			for i := range workers {
				if i%8 >= 6 {
					b.machine(fmt.Sprint("w", i), "hub", hub)
				}
			}
			var rounds atomic.Int64
			b.again(&b.beside, "gc", func(i int) error {
				err := tt.gc(b, hub, i)
				rounds.Add(1)
				return err
			})
			for i := range workers {
				who := fmt.Sprint("w", i)
				branch := []string{"main", "dev", "keep", "main"}[i%4]
				switch i % 8 {
				case 6: // pushes by path
					b.again(&b.working, "push", func(i int) error { return b.pushed(b.path(who), "hub", branch, who, i) })
				case 7: // is pulled from, and fetches
					b.again(&b.working, "pull", func(i int) error { return b.pulled(b.path(who), hub, branch, who, i) })
				default:
					b.again(&b.working, "write", func(i int) error { return b.write(hub, branch, who, i) })
				}
			}
			for range lookers {
				b.again(&b.beside, "read", func(int) error {
					time.Sleep(rand.N(50 * time.Millisecond)) // or nobody else comes to anything
					return b.read(hub, tt.mayMiss)
				})
			}
			b.wait(func() bool { return rounds.Load() >= 5 })
			t.Logf("%d collections, %d pushes were overtaken", rounds.Load(), b.overtaken.Load())
			b.holds(hub, func(s saying) bool { return tt.mayMiss(s) && b.isEvicted(s) })
			sound(t, hub)
			must(t, hub, "gc", "--grace", "0")
			must(t, hub, "commit")
			sound(t, hub)
			for i := range workers {
				if own := b.path(fmt.Sprint("w", i)); i%8 >= 6 {
					sound(t, own)
				}
			}
		})
	}
}

// pushed puts something in a repository of its own, and pushes it.
func (b *bustle) pushed(own, remote, branch, who string, i int) error {
	time.Sleep(rand.N(400 * time.Millisecond))
	var mine []saying
	for j := range 3 {
		key := fmt.Sprint(who, "-", i, "-", j)
		if err := b.ok(valueFor(key), own, staging(j == 1, "--branch", branch, "put", key)...); err != nil {
			return err
		}
		mine = append(mine, saying{branch: branch, key: key, kind: entry.Put})
	}
	if i%5 == 4 {
		if err := b.ok("", own, "gc", "--grace", "0", "--keep-history", "0"); err != nil {
			return err
		}
	}
	if err := b.ok("", own, "--branch", branch, "push", "-q", remote, branch); err != nil {
		return err
	}
	for _, s := range mine {
		b.say(b.saying(s.branch, s.key, s.kind))
	}
	return nil
}

// pulled puts something in a repository of its own, from where it is pulled; and
// fetches what the other one has.
func (b *bustle) pulled(own, hub, branch, who string, i int) error {
	key := fmt.Sprint(who, "-", i)
	if err := b.ok(valueFor(key), own, "--branch", branch, "put", key); err != nil {
		return err
	}
	if err := b.ok("", hub, "--branch", branch, "pull", "-q", own, branch); err != nil {
		return err
	}
	b.say(b.saying(branch, key, entry.Put))
	return b.ok("", own, "fetch", "-q", "hub")
}

// TestCollectBucketBesideWork collects a bucket on a WebDAV server, and repositories,
// while many push to it and fetch from it.
func TestCollectBucketBesideWork(t *testing.T) {
	b := newBustle(t)
	var server davtest.Server
	for _, s := range davtest.Servers {
		if s.Name == "apache" {
			server = s
		}
	}
	url := "dav+" + davtest.NewBucket(server.Start(t).URL)
	var own []string
	for i := range workers / 4 {
		own = append(own, b.machine(fmt.Sprint("machine", i), "origin", url))
	}
	for i := range lookers {
		b.machine(fmt.Sprint("reader", i), "origin", url)
	}
	if err := b.pushed(own[0], "origin", "main", "first", 0); err != nil {
		t.Fatal(err)
	}
	var condemned, deleted, rounds atomic.Int64
	b.again(&b.beside, "gc of the bucket", func(int) error {
		c, err := collectBucket(b.path("collector"), url, bucket.CollectOptions{Grace: 2 * time.Second, Rewrite: 0.2})
		rounds.Add(1)
		condemned.Add(int64(c.Condemned.N))
		deleted.Add(int64(c.Deleted.N))
		time.Sleep(50 * time.Millisecond)
		return err
	})
	for i, dir := range own {
		who := fmt.Sprint("m", i)
		branch := []string{"main", "dev"}[i%2]
		b.again(&b.working, "push", func(i int) error {
			if err := b.pushed(dir, "origin", branch, who, i); err != nil || i%2 > 0 {
				return err
			}
			// What goes again.
			return errors.Join(b.ok(noise(uint64(i), 3000), dir, "--branch", who, "put", "x"), b.ok("", dir, "push", "-q", "origin", who),
				b.ok("", dir, "push", "-q", "origin", ":"+who))
		})
		for j := range 2 {
			b.again(&b.working, "put", func(i int) error {
				time.Sleep(10 * time.Millisecond)
				return b.ok(valueFor(fmt.Sprint(who, j, i)), dir, "--branch", branch, "put", fmt.Sprint("beside", who, j, i%7))
			})
		}
		b.again(&b.working, "gc", func(int) error {
			time.Sleep(100 * time.Millisecond)
			return b.ok("", dir, "gc", "--grace", "0")
		})
	}
	for i := range lookers {
		dir := b.path(fmt.Sprint("reader", i))
		b.again(&b.beside, "read", func(n int) error {
			s, ok := b.any()
			if !ok {
				return nil
			}
			args := []string{"--branch", s.branch, "pull", "-q", "origin", s.branch}
			if i%2 == 1 {
				args = append(args, "--lazy")
			}
			if err := b.ok("", dir, args...); err != nil {
				return err
			}
			return b.readOne(dir, s, false)
		})
	}
	b.wait(func() bool { return condemned.Load() > 0 })
	t.Logf("%d collections: %d packs condemned, %d files deleted", rounds.Load(), condemned.Load(), deleted.Load())
	if condemned.Load() == 0 {
		t.Error("nothing was collected")
	}
	for range 2 {
		if _, err := collectBucket(b.path("collector"), url, bucket.CollectOptions{}); err != nil {
			t.Error(err)
		}
	}
	last := b.path("last")
	must(t, last, "clone", "-q", url, last)
	must(t, last, "pull", "-q", "--all")
	b.holds(last, never)
	sound(t, last)
	for _, dir := range own {
		sound(t, dir)
	}
}

// collectBucket collects a bucket, as somebody would who has nothing else.
func collectBucket(dir, url string, o bucket.CollectOptions) (bucket.Collected, error) {
	there, err := webdav.Open(url, webdav.Options{})
	if err != nil {
		return bucket.Collected{}, err
	}
	db, err := odb.Open(dir, odb.Options{})
	if err != nil {
		return bucket.Collected{}, err
	}
	defer db.Close()
	r := bucket.Open(there)
	o.Mark = func(ctx context.Context, tips []objects.ID, shallow map[objects.ID]bool, live *reach.Set) error {
		_, err := transfer.FetchTrees(ctx, db, r, tips, live, transfer.Options{Shallow: shallow, Staged: true})
		return err
	}
	return r.Collect(ctx, o)
}
