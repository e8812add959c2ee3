package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// TestRaceCollect collects over and over while others push and fetch who know
// nothing of it, and of each other. Versions come, go and come back; all branches
// share blobs, big ones and trees.
func TestRaceCollect(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Second} {
		t.Run(grace.String(), func(t *testing.T) { raceCollect(t, grace) })
	}
}

const (
	pushers    = 8
	fetchers   = 4
	collectors = 2
)

func raceCollect(t *testing.T, grace time.Duration) {
	b := remotetest.NewStrict(t)
	pushes := test.Count(t, 200) // each
	tips := make([]objects.ID, pushers)
	var done, enough atomic.Bool
	time.AfterFunc(10*time.Second, func() { enough.Store(true) })
	var pushing, beside sync.WaitGroup
	for i := range pushers {
		p := &pusher{t: t, b: b, db: openDB(t), branch: refs.Branch(fmt.Sprint(i)), rand: rand.New(rand.NewPCG(uint64(i), 1)), enough: &enough}
		pushing.Go(func() { tips[i] = p.run(pushes) })
	}
	for range fetchers {
		beside.Go(func() {
			for !done.Load() {
				if err := fetchOne(t, b); err != nil {
					t.Errorf("fetch: %v", err)
				}
			}
		})
	}
	var collected bucket.Collected
	rounds, busy := 0, 0
	var mu sync.Mutex // guards the three
	for range collectors {
		beside.Go(func() {
			for !done.Load() {
				c, err := collectAll(t, b, bucket.CollectOptions{Grace: grace})
				mu.Lock()
				rounds++
				switch {
				case errors.Is(err, bucket.ErrBusy):
					busy++
				case err != nil:
					t.Errorf("collect: %v", err)
				}
				collected.Condemned.N += c.Condemned.N
				if collected.Deleted.N += c.Deleted.N; collected.Deleted.N > 0 {
					enough.Store(true)
				}
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	beside.Go(func() { // at no moment does a ref lead to what is missing
		for !done.Load() {
			wantWhole(t, b.Snapshot(), nil)
			time.Sleep(20 * time.Millisecond)
		}
	})
	pushing.Wait()
	types, err := bucket.Types(t.Context(), bucket.Open(b.Snapshot()))
	if err != nil || types[pack.Recipe] == 0 || types[pack.Delta] == 0 {
		t.Errorf("too little is made of parts: %v, %v", types, err)
	}
	for range 600 { // a slow machine has condemned by now, and deleted nothing yet
		mu.Lock()
		deleted := collected.Deleted.N
		mu.Unlock()
		if deleted > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	done.Store(true)
	beside.Wait()
	if collected.Condemned.N == 0 || collected.Deleted.N == 0 || busy > rounds/2 {
		t.Errorf("collected %+v in %d rounds, of which %d were in vain", collected, rounds, busy)
	}
	for range 2 {
		if _, err := collectAll(t, b, bucket.CollectOptions{}); err != nil {
			t.Error(err)
		}
	}
	wantWhole(t, b.Snapshot(), tips)
	t.Logf("%d rounds, %d in vain: %+v", rounds, busy, collected)
}

func openDB(t *testing.T) *odb.DB {
	db, err := odb.Open(test.Dir(t), odb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// collectAll collects as a client does who knows nothing but the bucket.
func collectAll(t *testing.T, b remote.Bucket, o bucket.CollectOptions) (bucket.Collected, error) {
	db, err := odb.Open(test.Dir(t), odb.Options{})
	if err != nil {
		return bucket.Collected{}, err
	}
	defer db.Close()
	r := bucket.Open(b)
	o.Mark = func(ctx context.Context, tips []objects.ID, shallow map[objects.ID]bool, live *reach.Set) error {
		_, err := transfer.FetchTrees(ctx, db, r, tips, live, transfer.Options{Shallow: shallow, Staged: true})
		return err
	}
	return r.Collect(t.Context(), o)
}

// wantWhole fails the test unless all is there that the refs of a bucket lead to. If
// tips are given, those are the refs.
func wantWhole(t *testing.T, b remote.Bucket, tips []objects.ID) {
	db, err := odb.Open(test.Dir(t), odb.Options{})
	if err != nil {
		t.Error(err)
		return
	}
	defer db.Close()
	r := bucket.Open(b)
	is := map[refs.Name]objects.ID{}
	var all []objects.ID
	for ref, err := range r.Refs(t.Context(), "") {
		if err != nil {
			t.Error(err)
			return
		}
		is[ref.Name] = ref.ID
		all = append(all, ref.ID)
	}
	if _, err := transfer.Fetch(t.Context(), db, r, all, nil, transfer.Options{Staged: true}); err != nil {
		t.Errorf("a ref leads to what is not there: %v", err)
	}
	for i, id := range tips {
		if name := refs.Branch(fmt.Sprint(i)); is[name] != id {
			t.Errorf("%s is at %s, want %s", name, is[name].Short(), id.Short())
		}
	}
	if tips == nil {
		return
	}
	if err := reach.Walk(t.Context(), db, all, reach.Options{CheckBlobs: true}); err != nil {
		t.Error(err)
	}
	if err := db.Verify(t.Context(), odb.VerifyOptions{}, func(p odb.Problem) { t.Errorf("%v", p) }); err != nil {
		t.Error(err)
	}
}

// fetchOne fetches a branch. Files may go under its hands: then it looks again.
func fetchOne(t *testing.T, b remote.Bucket) error {
	db, err := odb.Open(test.Dir(t), odb.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	for try := 1; ; try++ {
		r := bucket.Open(b)
		var tips []objects.ID
		for ref, err := range r.Refs(t.Context(), "") {
			if err != nil {
				return err
			}
			if tips = append(tips, ref.ID); rand.IntN(2) == 0 {
				break
			}
		}
		_, err := transfer.Fetch(t.Context(), db, r, tips, nil, transfer.Options{Staged: true})
		if err == nil || try == 50 {
			return err
		}
	}
}

// A pusher pushes to a branch of its own.
type pusher struct {
	t      *testing.T
	b      remote.Bucket
	db     *odb.DB
	branch refs.Name
	rand   *rand.Rand
	enough *atomic.Bool // there was something to collect

	made []objects.ID // commits
}

func (p *pusher) run(pushes int) (tip objects.ID) {
	for i := 0; i < pushes || !p.enough.Load(); i++ {
		var next objects.ID
		switch n := p.rand.IntN(10); {
		case n == 0: // deleted
		case n < 3 && len(p.made) > 0: // as it was before
			next = p.made[p.rand.IntN(len(p.made))]
		default:
			var parents []objects.ID
			if p.rand.IntN(3) > 0 && !tip.IsZero() {
				parents = []objects.ID{tip}
			}
			next = p.commit(i, parents)
			p.made = append(p.made, next)
		}
		if next != tip {
			if err := p.push(tip, next); err != nil {
				p.t.Errorf("push to %s: %v", p.branch, err)
				return tip
			}
			tip = next
		}
		time.Sleep(time.Duration(p.rand.IntN(20)) * time.Millisecond)
	}
	return tip
}

// commit makes a commit of a few of the versions that all pushers share.
func (p *pusher) commit(n int, parents []objects.ID) objects.ID {
	ctx := p.t.Context()
	b, err := p.db.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		p.t.Error(err)
		return objects.ID{}
	}
	defer b.Close()
	must := func(id objects.ID, err error) objects.ID {
		if err != nil {
			p.t.Error(err)
		}
		return id
	}
	var root objects.Entries
	for d := range 3 {
		version := p.rand.IntN(6)
		var tree, base objects.Entries
		for f := range 40 {
			entry := func(v int) objects.Entry {
				return objects.Entry{Mode: objects.ModeFile, Name: fmt.Sprintf("%02d", f), ID: must(b.PutBytes(objects.Blob, fmt.Append(nil, "blob ", d, f, v)))}
			}
			base = append(base, entry(0))
			if f == version {
				tree = append(tree, entry(version))
			} else {
				tree = append(tree, base[f])
			}
		}
		// Deltas to a tree that no commit need have.
		root = append(root, objects.Entry{Mode: objects.ModeDir, Name: fmt.Sprint(d), ID: must(b.PutTree(tree.Encode(), must(b.PutTree(base.Encode(), objects.ID{}))))})
	}
	if version := p.rand.IntN(8); version < 4 {
		big := make([]byte, 600<<10)
		rand.NewChaCha8([32]byte{1}).Read(big)
		big[version*100_000] ^= 1
		root = append(root, objects.Entry{Mode: objects.ModeFile, Name: "big", ID: must(b.PutBytes(objects.Blob, big))})
	}
	who := objects.Signature{Name: "a", Email: "a@a", When: time.Unix(int64(n), 0)}
	body := objects.CommitBody{Tree: must(b.PutTree(root.Encode(), objects.ID{})), Parents: parents, Author: who, Committer: who, Message: string(p.branch)}
	id := must(b.PutBytes(objects.Commit, body.Encode()))
	if err := b.Commit(ctx, odb.Staged); err != nil {
		p.t.Error(err)
	}
	return id
}

// push moves the branch from old to next, as the command does.
func (p *pusher) push(old, next objects.ID) error {
	r := bucket.Open(p.b)
	ctx := p.t.Context()
	for try := 1; ; try++ {
		var have []objects.ID
		for ref, err := range r.Refs(ctx, "") {
			if err != nil {
				return err
			}
			have = append(have, ref.ID)
		}
		var err error
		if !next.IsZero() {
			_, err = transfer.Send(ctx, p.db, r, []objects.ID{next}, have, transfer.Options{})
		}
		if err == nil {
			err = r.Update(ctx, refs.Update{Name: p.branch, Old: old, New: next})
		}
		if !errors.Is(err, remote.ErrStale) || try == 200 {
			return err
		}
		time.Sleep(time.Duration(p.rand.IntN(10)) * time.Millisecond)
	}
}
