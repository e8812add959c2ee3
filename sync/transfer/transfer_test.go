package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// A store is a repository's objects, with commits that are made in it.
type store struct {
	*odb.DB
	t *testing.T
}

func newStore(t *testing.T) store {
	t.Helper()
	db, err := odb.Open(test.Dir(t), odb.Options{Warn: func(err error) { t.Logf("warning: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return store{db, t}
}

// commit makes a commit of directories with some small files each and of big
// ones; of two versions, one per cent differs.
func (s store) commit(version int, parents ...objects.ID) objects.ID {
	s.t.Helper()
	const dirs, files = 20, 30
	b, err := s.NewBatch(s.t.Context(), odb.BatchOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer b.Close()
	must := func(id objects.ID, err error) objects.ID {
		if err != nil {
			s.t.Fatal(err)
		}
		return id
	}
	var base objects.Entries
	if len(parents) > 0 {
		c, err := objects.ReadCommit(s.t.Context(), s, parents[0])
		if err != nil {
			s.t.Fatal(err)
		}
		if base, err = objects.ReadTree(s.t.Context(), s, c.Tree); err != nil {
			s.t.Fatal(err)
		}
	}
	var root objects.Entries
	for d := range dirs {
		var tree objects.Entries
		for f := range files {
			seed := uint64(d*files + f)
			if d == version%dirs && f < 6 {
				seed += uint64(1e6 * version)
			}
			body := noise(seed, 100+int(seed%3000))
			tree = append(tree, objects.Entry{Mode: objects.ModeFile, Name: fmt.Sprintf("%02d", f), ID: must(b.PutBytes(objects.Blob, body))})
		}
		name := fmt.Sprintf("%02d", d)
		old, _ := base.Find(name)
		root = append(root, objects.Entry{Mode: objects.ModeDir, Name: name, ID: must(b.PutTree(tree.Encode(), old.ID))})
	}
	big := noise(77, 3<<20)
	copy(big[version*100_000:], noise(uint64(version), 1000))
	root = append(root, objects.Entry{Mode: objects.ModeExec, Name: "big", ID: must(b.PutBytes(objects.Blob, big))})
	who := objects.Signature{Name: "a", Email: "a@a", When: time.Unix(int64(version), 0)}
	body := objects.CommitBody{Tree: must(b.PutTree(root.Encode(), objects.ID{})), Parents: parents, Author: who, Committer: who, Message: "m\n"}
	id := must(b.PutBytes(objects.Commit, body.Encode()))
	if err := b.Commit(s.t.Context(), odb.Durable); err != nil {
		s.t.Fatal(err)
	}
	return id
}

func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)}).Read(p)
	return p
}

// wantWhole fails the test unless the store has tips with all that they lead to.
func (s store) wantWhole(tips ...objects.ID) {
	s.t.Helper()
	n := 0
	err := reach.Walk(s.t.Context(), s, tips, reach.Options{CheckBlobs: true, Visit: func(objects.ID, objects.Kind) error { n++; return nil }})
	if err != nil || n < 600 {
		s.t.Errorf("%d objects, %v", n, err)
	}
	if err := s.Verify(s.t.Context(), odb.VerifyOptions{}, func(p odb.Problem) { s.t.Errorf("%v", p) }); err != nil {
		s.t.Error(err)
	}
}

// remotes are ways to make a new empty remote.
var remotes = map[string]func(t *testing.T) func() remote.Remote{
	"bucket": func(t *testing.T) func() remote.Remote {
		b := remotetest.NewStrict(t)
		return func() remote.Remote { return bucket.Open(b) }
	},
	"peer": openPeer,
	// As a server sees it: with packs, and without their indexes.
	"peer, by packs": func(t *testing.T) func() remote.Remote {
		open := openPeer(t)
		return func() remote.Remote { return plain{open()} }
	},
}

func openPeer(t *testing.T) func() remote.Remote {
	dir := test.Dir(t)
	if _, err := refs.Init(t.Context(), dir, refs.Branch("main"), refs.Options{}); err != nil {
		t.Fatal(err)
	}
	cuts := new(remotetest.Cuts)
	return func() remote.Remote {
		db, err := odb.Open(dir+"/packs", odb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return peer.New(db, refs.Open(dir, refs.Options{}), cuts)
	}
}

// plain is a remote that can do nothing more than it must.
type plain struct{ remote.Remote }

func each(t *testing.T, test func(t *testing.T, open func() remote.Remote)) {
	for name, fresh := range remotes {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

func send(t *testing.T, s store, r remote.Remote, tip objects.ID, o transfer.Options, have ...objects.ID) transfer.Stats {
	t.Helper()
	stats, err := transfer.Send(t.Context(), s.DB, r, []objects.ID{tip}, have, o)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

func fetch(t *testing.T, s store, r remote.Remote, tip objects.ID, o transfer.Options, have ...objects.ID) transfer.Stats {
	t.Helper()
	stats, err := transfer.Fetch(t.Context(), s.DB, r, []objects.ID{tip}, have, o)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

func TestThereAndBack(t *testing.T) {
	each(t, func(t *testing.T, open func() remote.Remote) {
		a := newStore(t)
		v1 := a.commit(1)
		first := send(t, a, open(), v1, transfer.Options{PackSize: 256 << 10})
		if again := send(t, a, open(), v1, transfer.Options{}); again.Objects != 0 || again.Bytes != 0 {
			t.Errorf("sent again: %+v", again)
		}
		if err := open().Update(t.Context(), refs.Update{Name: "refs/heads/main", New: v1}); err != nil {
			t.Error(err)
		}
		b := newStore(t)
		fetch(t, b, open(), v1, transfer.Options{})
		b.wantWhole(v1)
		if again := fetch(t, b, open(), v1, transfer.Options{}); again.Bytes != 0 {
			t.Errorf("fetched again: %+v", again)
		}

		v2 := a.commit(2, v1)
		// Six blobs here and six there changed, some chunks, and what leads to them.
		for _, have := range [][]objects.ID{nil, {v1}} {
			second := send(t, a, open(), v2, transfer.Options{}, have...)
			if have == nil && (second.Objects < 16 || second.Objects > 40 || second.Bytes > first.Bytes/10) {
				t.Errorf("of v2 %+v were sent, of v1 %+v", second, first)
			}
		}
		if err := open().Update(t.Context(), refs.Update{Name: "refs/heads/main", Old: v1, New: v2}); err != nil {
			t.Error(err)
		}
		if got := fetch(t, b, open(), v2, transfer.Options{}, v1); got.Bytes > first.Bytes/5 {
			t.Errorf("of v2 %+v were fetched, of v1 %+v", got, first)
		}
		b.wantWhole(v1, v2)
		c := newStore(t)
		fetch(t, c, open(), v2, transfer.Options{PackSize: 1}) // what comes is settled all the time
		c.wantWhole(v1, v2)
	})
}

func TestFetchHistory(t *testing.T) {
	each(t, func(t *testing.T, open func() remote.Remote) {
		a := newStore(t)
		v1 := a.commit(1)
		v2 := a.commit(2, v1)
		send(t, a, open(), v2, transfer.Options{})
		b := newStore(t)
		if _, err := transfer.FetchHistory(t.Context(), b.DB, open(), []objects.ID{v2}, nil, transfer.Options{}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []objects.ID{v1, v2} {
			if _, err := objects.ReadCommit(t.Context(), b, id); err != nil {
				t.Error(err)
			}
		}
		c, err := objects.ReadCommit(t.Context(), b, v2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transfer.FetchObjects(t.Context(), b.DB, open(), []objects.ID{c.Tree}, transfer.Options{}); err != nil {
			t.Fatal(err)
		}
		tree, err := objects.ReadTree(t.Context(), b, c.Tree)
		if err != nil {
			t.Fatal(err)
		}
		big, _ := tree.Find("big")
		if _, err := transfer.FetchObjects(t.Context(), b.DB, open(), []objects.ID{big.ID}, transfer.Options{}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.ReadBytes(t.Context(), big.ID); err != nil {
			t.Error(err)
		}
		// All the rest, of which some is here already.
		fetch(t, b, open(), v2, transfer.Options{})
		b.wantWhole(v2)
	})
}

func TestNotThere(t *testing.T) {
	each(t, func(t *testing.T, open func() remote.Remote) {
		s := newStore(t)
		nowhere := []objects.ID{{1}}
		if _, err := transfer.Fetch(t.Context(), s.DB, open(), nowhere, nil, transfer.Options{}); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("Fetch: %v", err)
		}
		if _, err := transfer.Send(t.Context(), s.DB, open(), nowhere, nil, transfer.Options{}); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("Send: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := transfer.Fetch(ctx, s.DB, open(), nowhere, nil, transfer.Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled Fetch: %v", err)
		}
	})
}

// A broken remote breaks every connection after some bytes, in turn: uploads
// before or after they are done, fetches somewhere.
type broken struct {
	remote.Remote
	calls int
	after int64
}

var errBroken = errors.New("connection reset")

func (r *broken) Upload(ctx context.Context, p io.ReaderAt, size int64) error {
	r.calls++
	switch r.calls % 3 {
	case 1:
		return errBroken
	case 2:
		return errors.Join(r.Remote.Upload(ctx, p, size), errBroken)
	}
	return r.Remote.Upload(ctx, p, size)
}

func (r *broken) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	body, err := r.Remote.Fetch(ctx, q)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(body, r.after), &failing{}), body}, nil
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errBroken }

// TestGoesOn sends and fetches over connections that break all the time: each try
// gets further than the one before.
func TestGoesOn(t *testing.T) {
	each(t, func(t *testing.T, open func() remote.Remote) {
		a := newStore(t)
		v1 := a.commit(1)
		r := &broken{Remote: open()}
		sent, tries := int64(0), 0
		for ; ; tries++ {
			stats, err := transfer.Send(t.Context(), a.DB, r, []objects.ID{v1}, nil, transfer.Options{PackSize: 256 << 10, Parallel: 1})
			sent += stats.Bytes
			if err == nil {
				break
			}
			if !errors.Is(err, errBroken) || tries > 100 {
				t.Fatalf("try %d: %v", tries, err)
			}
		}
		if whole := send(t, a, remotes["bucket"](t)(), v1, transfer.Options{}); tries < 3 || sent > whole.Bytes*5/4 {
			t.Errorf("%d bytes in %d tries, want about %d at once", sent, tries, whole.Bytes)
		}
		b := newStore(t)
		r = &broken{Remote: open(), after: 2200 << 10}
		if _, err := transfer.Fetch(t.Context(), b.DB, r, []objects.ID{v1}, nil, transfer.Options{}); err != nil {
			t.Fatal(err)
		}
		b.wantWhole(v1)
		// One that never brings a block whole is given up.
		c := newStore(t)
		r = &broken{Remote: open(), after: 10}
		if _, err := transfer.Fetch(t.Context(), c.DB, r, []objects.ID{v1}, nil, transfer.Options{}); !errors.Is(err, errBroken) {
			t.Errorf("%v", err)
		}
	})
}

// A liar flips a bit of what it sends.
type liar struct {
	remote.Remote
	bit int
}

func (r *liar) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	body, err := r.Remote.Fetch(ctx, q)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	p, err := io.ReadAll(body)
	p[r.bit/8%len(p)] ^= 1 << (r.bit % 8)
	return io.NopCloser(bytes.NewReader(p)), err
}

func TestLies(t *testing.T) {
	each(t, func(t *testing.T, open func() remote.Remote) {
		a := newStore(t)
		v1 := a.commit(1)
		send(t, a, open(), v1, transfer.Options{})
		for i := range test.Count(t, 50) {
			b := newStore(t)
			if _, err := transfer.Fetch(t.Context(), b.DB, &liar{open(), i * 98_993}, []objects.ID{v1}, nil, transfer.Options{}); err == nil {
				t.Fatal("a pack with a flipped bit was taken")
			}
			if err := b.Verify(t.Context(), odb.VerifyOptions{}, func(p odb.Problem) { t.Errorf("%v", p) }); err != nil {
				t.Error(err)
			}
		}
	})
}

// A counting remote follows what leads to what, and counts fetches.
type counting struct {
	*peer.Remote
	fetches atomic.Int64
}

func (r *counting) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	r.fetches.Add(1)
	return r.Remote.Fetch(ctx, q)
}

// TestFetchTheRest has the root of a wide tree already, as lazy repositories do: all
// that is below comes with one request.
func TestFetchTheRest(t *testing.T) {
	there, here := newStore(t), newStore(t)
	b, err := there.NewBatch(t.Context(), odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var tree objects.Entries
	for i := range 20_000 {
		id, err := b.PutBytes(objects.Blob, noise(uint64(i), 20))
		if err != nil {
			t.Fatal(err)
		}
		tree = append(tree, objects.Entry{Mode: objects.ModeFile, Name: fmt.Sprintf("%05d", i), ID: id})
	}
	root, err := b.PutTree(tree.Encode(), objects.ID{})
	if err == nil {
		err = b.Commit(t.Context(), odb.Durable)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &counting{Remote: peer.New(there.DB, nil, nil)}
	if _, err := transfer.FetchObjects(t.Context(), here.DB, r, []objects.ID{root}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	r.fetches.Store(0)
	fetch(t, here, r, root, transfer.Options{})
	here.wantWhole(root)
	if n := r.fetches.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestFetchTrees brings commits and trees, once, and no blob.
func TestFetchTrees(t *testing.T) {
	from := newStore(t)
	first := from.commit(1)
	second := from.commit(2, first)
	for name, fresh := range remotes {
		t.Run(name, func(t *testing.T) {
			open := fresh(t)
			if _, err := transfer.Send(t.Context(), from.DB, open(), []objects.ID{second}, nil, transfer.Options{}); err != nil {
				t.Fatal(err)
			}
			db, seen := newStore(t), new(reach.Set)
			want, trees := new(reach.Set), 0
			fetch := func(tip objects.ID, o transfer.Options) transfer.Stats {
				t.Helper()
				stats, err := transfer.FetchTrees(t.Context(), db.DB, open(), []objects.ID{tip}, seen, o)
				if err != nil {
					t.Fatal(err)
				}
				err = reach.Walk(t.Context(), from, []objects.ID{tip}, reach.Options{Seen: want, Shallow: func(id objects.ID) bool { return o.Shallow[id] }, Visit: func(id objects.ID, k objects.Kind) error {
					if !seen.Has(id) {
						t.Errorf("%s %s was not seen", k, id.Short())
					}
					missing, err := db.Missing(t.Context(), []objects.ID{id})
					if k != objects.Blob {
						if trees++; len(missing) > 0 {
							t.Errorf("%s %s did not come", k, id.Short())
						}
					}
					return err
				}})
				if err != nil || seen.Len() != want.Len() {
					t.Errorf("%d objects were seen, want %d: %v", seen.Len(), want.Len(), err)
				}
				return stats
			}
			fetch(second, transfer.Options{Shallow: map[objects.ID]bool{second: true}})
			if stats := fetch(first, transfer.Options{}); stats.Objects > 10 {
				t.Errorf("%d objects came for a commit that is like another", stats.Objects)
			}
			if stats := fetch(first, transfer.Options{}); stats.Objects+stats.Packs > 0 {
				t.Errorf("%+v came again", stats)
			}
			if _, err := transfer.FetchTrees(t.Context(), db.DB, open(), []objects.ID{{1}}, seen, transfer.Options{}); !errors.Is(err, objects.ErrNotFound) {
				t.Errorf("fetched what is not there: %v", err)
			}
		})
	}
}
