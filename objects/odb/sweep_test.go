package odb_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
)

func newSet() odb.Set { return new(reach.Set) }

// live returns a set of some objects.
func live(all ...map[objects.ID][]byte) *reach.Set {
	s := new(reach.Set)
	for _, some := range all {
		for id := range some {
			s.Add(id)
		}
	}
	return s
}

func sweep(t testing.TB, db *odb.DB, o odb.SweepOptions) odb.Swept {
	t.Helper()
	o.NewSet = newSet
	swept, err := db.Sweep(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return swept
}

// checkGone looks that objects are not there.
func checkGone(t testing.TB, db *odb.DB, gone map[objects.ID][]byte) {
	t.Helper()
	ids := slices.Collect(maps.Keys(gone))
	if missing, err := db.Missing(t.Context(), ids); err != nil || len(missing) != len(ids) {
		t.Errorf("%d of %d are gone, %v", len(missing), len(ids), err)
	}
}

// some makes a pack with two lots of objects: small and big blobs, trees, deltas.
func some(t testing.TB, db *odb.DB, n int) (a, b map[objects.ID][]byte) {
	t.Helper()
	a, b = map[objects.ID][]byte{}, map[objects.ID][]byte{}
	commit(t, db, odb.Durable, func(batch *odb.Batch) {
		for i := range 40 {
			to := a
			if i%2 == 1 {
				to = b
			}
			maps.Copy(to, putSome(t, batch, 1000*n+i))
		}
		big := bigText(uint64(n))
		a[put(t, batch, objects.Blob, big)] = big
		// It shares most chunks with the other.
		other := append(noise(uint64(n), 100_000), big...)
		b[put(t, batch, objects.Blob, other)] = other
	})
	return a, b
}

func TestSweep(t *testing.T) {
	for _, young := range []bool{false, true} {
		dir := test.Dir(t)
		db := open(t, dir)
		a, b := some(t, db, 1)
		o := odb.SweepOptions{Live: live(a), Before: live(a, b)}
		if young {
			o.Grace = time.Hour // it is not for what somebody gave up
		}
		before, err := db.Usage()
		if err != nil {
			t.Fatal(err)
		}
		dry := o
		dry.DryRun = true
		planned := sweep(t, db, dry)
		if u, err := db.Usage(); err != nil || u != before {
			t.Errorf("a dry run left %+v of %+v, %v", u, before, err)
		}
		swept := sweep(t, db, o)
		if swept != planned || swept.Objects < len(b) {
			t.Errorf("planned %+v, done %+v, of %d objects", planned, swept, len(b))
		}
		checkAll(t, db, a)
		checkGone(t, db, b)
		if problems := verify(t, db); len(problems) > 0 {
			t.Errorf("afterwards: %v", problems)
		}
		after, err := db.Usage()
		if err != nil || after.Bytes >= before.Bytes {
			t.Errorf("%d bytes before, %d after, %v", before.Bytes, after.Bytes, err)
		}
		if again := sweep(t, db, o); again.Objects != 0 {
			t.Errorf("a second sweep dropped %+v", again)
		}
	}
}

// What nobody ever needed stays for the grace, with the chunks that it is made of.
func TestSweepSparesTheYoung(t *testing.T) {
	db := open(t, test.Dir(t))
	a, b := some(t, db, 1)
	sweep(t, db, odb.SweepOptions{Live: live(a), Grace: time.Hour})
	checkAll(t, db, a)
	checkAll(t, db, b)
	sweep(t, db, odb.SweepOptions{Live: live(a)})
	checkAll(t, db, a)
	checkGone(t, db, b)
}

// A young blob may be made of chunks that were there before, and of which nobody else
// has need: who sent it left them out.
func TestSweepKeepsPartsOfTheYoung(t *testing.T) {
	dir := test.Dir(t)
	db := open(t, dir)
	big := bigText(7)
	old := map[objects.ID][]byte{}
	commit(t, db, odb.Durable, func(b *odb.Batch) { old[put(t, b, objects.Blob, big)] = big })
	makeOld(t, dir)
	young := map[objects.ID][]byte{}
	body := append(bytes.Clone(big), "more"...)
	commit(t, db, odb.Durable, func(b *odb.Batch) { young[put(t, b, objects.Blob, body)] = body })
	sweep(t, db, odb.SweepOptions{Live: newSet(), Grace: time.Hour})
	checkAll(t, db, young)
	if problems := verify(t, db); len(problems) > 0 {
		t.Errorf("afterwards: %v", problems)
	}
}

// Below the threshold a pack stays as it is.
// What nobody needs may be left in a pack that is hardly worth to be written anew. It
// is whole then, so that it can come to be needed again.
func TestSweepKeepsPartsOfWhatIsLeft(t *testing.T) {
	for _, rewrite := range []float64{0, 0.2, 1} {
		dir := test.Dir(t)
		db := open(t, dir)
		big := bigText(1)
		other := append(noise(1, 20_000), big...)
		commit(t, db, odb.Durable, func(b *odb.Batch) { put(t, b, objects.Blob, other) })
		// Of the other one most chunks are here.
		kept := map[objects.ID][]byte{}
		commit(t, db, odb.Durable, func(b *odb.Batch) {
			put(t, b, objects.Blob, big)
			for i := range 100 {
				maps.Copy(kept, putSome(t, b, i))
			}
			filler := noise(2, len(big))
			kept[put(t, b, objects.Blob, filler)] = filler
		})
		for range 2 {
			sweep(t, db, odb.SweepOptions{Live: live(kept), Rewrite: rewrite})
			checkSound(t, db)
		}
		commit(t, db, odb.Durable, func(b *odb.Batch) { put(t, b, objects.Blob, big) })
		db = open(t, dir)
		checkAll(t, db, kept)
		check(t, db, objects.Blob, big)
	}
}

// Writers may be faster than a sweep: it does not go after all that they leave.
func TestSweepEnds(t *testing.T) {
	db := open(t, test.Dir(t))
	kept, dead := some(t, db, 1)
	turns := 0
	sweep(t, db, odb.SweepOptions{Live: live(kept), Done: func(int64) {
		if turns++; turns < 100 {
			commit(t, db, odb.Durable, func(b *odb.Batch) { put(t, b, objects.Blob, noise(uint64(turns), 1000)) })
		}
	}})
	if turns > 50 {
		t.Errorf("%d packs had their turn", turns)
	}
	checkGone(t, db, dead)
	checkAll(t, db, kept)
}

func checkSound(t *testing.T, db *odb.DB) {
	t.Helper()
	if err := db.Verify(t.Context(), odb.VerifyOptions{}, func(p odb.Problem) { t.Errorf("%v", p) }); err != nil {
		t.Error(err)
	}
}

func TestSweepThreshold(t *testing.T) {
	db := open(t, test.Dir(t))
	a, b := some(t, db, 1)
	swept := sweep(t, db, odb.SweepOptions{Live: live(a), Rewrite: 0.99})
	if swept.Objects != 0 || swept.Dead == 0 {
		t.Errorf("%+v, want nothing dropped, and the waste told", swept)
	}
	checkAll(t, db, b)
	if swept := sweep(t, db, odb.SweepOptions{Live: newSet(), Rewrite: 0.99}); swept.Rewritten != 0 || swept.Objects < len(a)+len(b) {
		t.Errorf("of a pack in which all is dead: %+v", swept)
	}
	checkGone(t, db, a)
	if u, err := db.Usage(); err != nil || u.Packs != 0 {
		t.Errorf("%+v, %v are left", u, err)
	}
}

// What becomes needed at the last moment stays, with the parts it is made of.
func TestSweepMarksAgain(t *testing.T) {
	for _, at := range []int{1, 2} { // which call; after the second the first pack is gone
		db := open(t, test.Dir(t))
		a, b := some(t, db, 1)
		set, calls := live(a), 0
		sweep(t, db, odb.SweepOptions{Live: set, Mark: func(context.Context) ([]objects.ID, error) {
			if calls++; calls != at {
				return nil, nil
			}
			var fresh []objects.ID
			for id := range b {
				set.Add(id)
				fresh = append(fresh, id)
			}
			return fresh, nil
		}})
		checkAll(t, db, a)
		checkAll(t, db, b)
		if problems := verify(t, db); len(problems) > 0 || calls < at {
			t.Errorf("at call %d of %d: %v", at, calls, problems)
		}
	}
}

// If it can't be told what is needed, nothing is dropped.
func TestSweepStopsWhereMarkingFails(t *testing.T) {
	db := open(t, test.Dir(t))
	a, b := some(t, db, 1)
	bad := errors.New("no")
	_, err := db.Sweep(t.Context(), odb.SweepOptions{Live: live(a), NewSet: newSet, Mark: func(context.Context) ([]objects.ID, error) { return nil, bad }})
	if !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
	checkAll(t, db, a)
	checkAll(t, db, b)
}

func TestSweepIsNeverHalf(t *testing.T) { sweepCase(t, test.Count(t, 1000)).EveryStep(t) }

func TestSweepSurvivesKill(t *testing.T) { sweepCase(t, test.Count(t, 100)).Kill(t) }

func sweepCase(t *testing.T, most int) test.Case {
	whole := test.Dir(t)
	a, b := some(t, open(t, whole), 3)
	return test.Case{
		Max:   most,
		Setup: func(dir string) error { return os.CopyFS(dir, os.DirFS(whole)) },
		Act: func(dir string) error {
			db, err := odb.Open(dir, odb.Options{})
			if err != nil {
				return err
			}
			_, err = db.Sweep(context.Background(), odb.SweepOptions{Live: live(a), NewSet: newSet})
			return err
		},
		Check: func(t *testing.T, dir string, err error) {
			db := open(t, dir)
			checkAll(t, db, a)
			if problems := verify(t, db); len(problems) > 0 {
				t.Errorf("%v: %v", err, problems)
			}
			sweep(t, db, odb.SweepOptions{Live: live(a)})
			checkAll(t, db, a)
			checkGone(t, db, b)
		},
	}
}

// makeOld makes all packs two hours old.
func makeOld(t *testing.T, dir string) {
	t.Helper()
	then := time.Now().Add(-2 * time.Hour)
	for _, name := range files(t, dir, "*.pack") {
		if err := os.Chtimes(name, then, then); err != nil {
			t.Fatal(err)
		}
	}
}

// Writers that rely on what is there, and name it before they let go, lose nothing to
// sweeps that run all the time.
func TestSweepBesideWriters(t *testing.T) {
	dir := test.Dir(t)
	var mu sync.Mutex
	set := new(reach.Set)
	named := map[objects.ID][]byte{} // by records; guarded by mu
	var fresh []objects.ID           // guarded by mu
	ctx, stop := context.WithCancel(t.Context())
	var sweeps, writers sync.WaitGroup
	sweeps.Go(func() {
		db := open(t, dir)
		for n := 0; ctx.Err() == nil; n++ {
			_, err := db.Sweep(ctx, odb.SweepOptions{Live: set, NewSet: newSet, Mark: func(context.Context) ([]objects.ID, error) {
				mu.Lock()
				defer mu.Unlock()
				ids := fresh
				fresh = nil
				return ids, nil
			}})
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	for w := range 8 {
		writers.Go(func() {
			db := open(t, dir)
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for range test.Count(t, 300) {
				b := batch(t, db, odb.BatchOptions{})
				// Few different ones, so that most were dropped before or are about to be.
				some := putSome(t, b, r.IntN(40))
				if err := b.Commit(t.Context(), odb.Staged); err != nil {
					t.Error(err)
				}
				if r.IntN(4) == 0 {
					mu.Lock()
					for id, body := range some {
						set.Add(id)
						named[id] = body
						fresh = append(fresh, id)
					}
					mu.Unlock()
				}
				b.Close()
			}
		})
	}
	writers.Wait()
	stop()
	sweeps.Wait()
	db := open(t, dir)
	checkAll(t, db, named)
	if problems := verify(t, db); len(problems) > 0 {
		t.Errorf("afterwards: %v", problems)
	}
}

// An object that is live and not here, as in a lazy repository, may come while others
// are swept, made of chunks that nobody else needs.
func TestSweepLooksAtPacksThatCome(t *testing.T) {
	db := open(t, test.Dir(t))
	big := bigText(7)
	commit(t, db, odb.Durable, func(b *odb.Batch) { put(t, b, objects.Blob, big) })
	body := append(bytes.Clone(big), "more"...)
	promised := map[objects.ID][]byte{objects.Sum(objects.Blob, body): body}
	calls := 0
	sweep(t, db, odb.SweepOptions{Live: live(promised), Mark: func(context.Context) ([]objects.ID, error) {
		if calls++; calls == 1 {
			commit(t, db, odb.Durable, func(b *odb.Batch) { put(t, b, objects.Blob, body) })
		}
		return nil, nil
	}})
	checkAll(t, db, promised)
	if problems := verify(t, db); len(problems) > 0 || calls == 0 {
		t.Errorf("after %d calls: %v", calls, problems)
	}
}
