package simulate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// A Team is machines that build once each, and push to one bucket.
type Team struct {
	Machines  int
	Shared    bool    // they push to one branch; else each to its own
	PerSecond float64 // builds, at random moments; 0 is all at once
	Entries   int     // that each adds

	// Collect is how often the bucket is collected meanwhile, and what the grace is; 0 is not
	// at all.
	Collect time.Duration
}

// Worked is what became of a Team.
type Worked struct {
	Team
	Pulls    Count           // all of them together
	Pushes   Count           // the same
	Collects int             // that came to their end
	Pushed   int             // acknowledged
	GivenUp  int             // pushes that failed, and said so
	Time     time.Duration   // from the first push to the end of the last one
	Each     []time.Duration // what a push took that was acknowledged; sorted
	Files    int             // in the bucket at the end
	Bytes    int64
}

// Work lets a team work, and proves that nothing is lost that was acknowledged: each entry
// is read from a fresh clone, and all that refs lead to is there.
func (t Team) Work(ctx context.Context, dir string, n Network) (Worked, error) {
	w := &work{team: t, dir: dir, net: n, bucket: new(remotetest.Memory), done: Worked{Team: t}}
	if err := w.begin(ctx); err != nil {
		return w.done, err
	}
	began := time.Now()
	var group sync.WaitGroup
	next := time.Duration(0)
	for i := range t.Machines {
		at := next
		group.Go(func() {
			time.Sleep(at)
			w.build(ctx, i)
		})
		if t.PerSecond > 0 {
			next += time.Duration(rand.ExpFloat64() / t.PerSecond * float64(time.Second))
		}
	}
	built := make(chan struct{})
	collected := make(chan error, 1)
	go func() { collected <- w.collect(ctx, built) }()
	group.Wait()
	close(built)
	if err := <-collected; err != nil {
		return w.done, err
	}
	w.done.Time = w.last.Sub(began) - buildTime
	slices.Sort(w.done.Each)
	if w.failed != nil {
		return w.done, w.failed
	}
	var err error
	if w.done.Files, w.done.Bytes, err = usage(ctx, w.bucket); err != nil {
		return w.done, err
	}
	return w.done, w.prove(ctx)
}

type work struct {
	team   Team
	dir    string
	net    Network
	bucket *remotetest.Memory

	mu     sync.Mutex
	done   Worked    // guarded by mu, as is all below
	pushed []int     // machines whose push was acknowledged
	last   time.Time // when a push ended
	failed error     // of a machine itself
}

// begin pushes something to the shared branch, so that there is something to pull.
func (w *work) begin(ctx context.Context) error {
	m, err := newMachine(ctx, filepath.Join(w.dir, "first"), w.bucket, Network{})
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.put(ctx, main, w.keys(-1)); err != nil {
		return err
	}
	return m.push(ctx, main)
}

func (w *work) keys(machine int) []string {
	keys := make([]string, w.team.Entries)
	for i := range keys {
		keys[i] = fmt.Sprintf("%d/%d", machine, i)
	}
	return keys
}

func (w *work) branch(machine int) refs.Name {
	if w.team.Shared {
		return main
	}
	return refs.Branch(fmt.Sprint("pr/", machine))
}

// buildTime is what passes between the pull of a build and its push.
const buildTime = time.Minute

// build pulls lazily what the shared branch is, makes something, and pushes that.
func (w *work) build(ctx context.Context, i int) {
	failed := func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failed = fmt.Errorf("machine %d: %w", i, err)
	}
	m, err := newMachine(ctx, filepath.Join(w.dir, fmt.Sprint(i)), w.bucket, w.net)
	if err != nil {
		failed(err)
		return
	}
	defer func() { m.Close() }()
	if err := m.beLazy(ctx); err != nil {
		failed(err)
		return
	}
	// That a pull fails, as some do, is a miss, and no error.
	_ = m.pull(ctx, main)
	pull := m.take()
	time.Sleep(buildTime)
	if err := m.put(ctx, w.branch(i), w.keys(i)); err != nil {
		failed(err)
		return
	}
	began := time.Now()
	err = m.push(ctx, w.branch(i))

	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
	w.done.Pulls.Add(pull)
	w.done.Pushes.Add(m.take())
	if err != nil {
		w.done.GivenUp++
		return
	}
	w.done.Pushed++
	w.done.Each = append(w.done.Each, w.last.Sub(began))
	w.pushed = append(w.pushed, i)
}

// collect collects until all is built. That one gives up is no error: others push all the
// time.
func (w *work) collect(ctx context.Context, built <-chan struct{}) error {
	if w.team.Collect == 0 {
		return nil
	}
	c, err := newCollector(ctx, filepath.Join(w.dir, "collector"), w.bucket, w.net)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		select {
		case <-built:
			return nil
		case <-time.After(w.team.Collect):
		}
		if c.collect(ctx, w.team.Collect) == nil {
			w.mu.Lock()
			w.done.Collects++
			w.mu.Unlock()
		}
	}
}

// prove looks for all that was acknowledged.
func (w *work) prove(ctx context.Context) error {
	m, err := newMachine(ctx, filepath.Join(w.dir, "clone"), w.bucket, Network{})
	if err != nil {
		return err
	}
	defer m.Close()
	there, is, err := m.connect(ctx)
	if err != nil {
		return err
	}
	if err := m.fetchAll(ctx, there, is); err != nil {
		return fmt.Errorf("clone all that is there: %w", err)
	}
	for _, i := range w.pushed {
		for _, key := range w.keys(i) {
			if got, err := m.get(ctx, w.branch(i), key); err != nil || got != valueOf(key) {
				return fmt.Errorf("LOST: %s of %s, which was acknowledged, is %q, %w", key, w.branch(i).Short(), got, err)
			}
		}
	}
	return nil
}

// fetchAll brings all branches of a bucket, and proves that nothing is missing that they
// lead to.
func (m *machine) fetchAll(ctx context.Context, there remote.Remote, is map[refs.Name]objects.ID) error {
	var tips []objects.ID
	var updates []refs.Update
	for name, id := range is {
		tips = append(tips, id)
		updates = append(updates, refs.Update{Name: name, New: id, Reason: "clone"})
	}
	_, err := transfer.Fetch(ctx, m.DB, there, tips, nil, transfer.Options{Then: func(ctx context.Context, _ transfer.Stats) error {
		return m.Refs.Apply(ctx, updates...)
	}})
	if err != nil {
		return err
	}
	return reach.Walk(ctx, m.DB, tips, reach.Options{CheckBlobs: true})
}
