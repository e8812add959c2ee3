// Package refstest holds what every refs.Store must do, as tests, and a store
// in memory for those who need one in theirs.
package refstest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// ID returns an id that tells n apart from other numbers. None is zero.
func ID(n uint64) objects.ID {
	var id objects.ID
	id[0] = 0xab
	binary.BigEndian.PutUint64(id[objects.IDSize-8:], n)
	return id
}

// Number is the inverse of ID. Of the zero id it is 0.
func Number(id objects.ID) uint64 { return binary.BigEndian.Uint64(id[objects.IDSize-8:]) }

var zero objects.ID

// Run holds a store to the contract. open returns an empty one each time.
func Run(t *testing.T, open func(t *testing.T) refs.Store) {
	for name, f := range map[string]func(*testing.T, refs.Store){
		"Apply":      testApply,
		"BadUpdates": testBadUpdates,
		"AllOrNone":  testAllOrNone,
		"All":        testAll,
		"Places":     testPlaces,
		"Log":        testLog,
		"Cancelled":  testCancelled,
		"Race":       testRace,
		"RaceOnce":   testRaceOnce,
		"RaceMany":   testRaceMany,
	} {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
}

const (
	mainBranch refs.Name = "refs/heads/main"
	other      refs.Name = "refs/heads/other"
)

func want(t *testing.T, s refs.Store, name refs.Name, id objects.ID) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if id.IsZero() && !errors.Is(err, refs.ErrNotFound) {
		t.Errorf("Get(%s) = %s, %v; want ErrNotFound", name, got.Short(), err)
	}
	if !id.IsZero() && (err != nil || got != id) {
		t.Errorf("Get(%s) = %s, %v; want %s", name, got.Short(), err, id.Short())
	}
}

func must(t *testing.T, s refs.Store, updates ...refs.Update) {
	t.Helper()
	if err := s.Apply(t.Context(), updates...); err != nil {
		t.Fatal(err)
	}
}

// up is an update from one numbered id to another; 0 is none.
func up(name refs.Name, from, to uint64) refs.Update {
	u := refs.Update{Name: name, Reason: fmt.Sprintf("test: %d to %d", from, to)}
	if from > 0 {
		u.Old = ID(from)
	}
	if to > 0 {
		u.New = ID(to)
	}
	return u
}

func testApply(t *testing.T, s refs.Store) {
	want(t, s, mainBranch, zero)
	for _, tt := range []struct {
		from, to     uint64
		is, expected objects.ID // of the conflict; both zero: none
		after        objects.ID
	}{
		{from: 0, to: 1, after: ID(1)},
		{from: 0, to: 2, is: ID(1), after: ID(1)},
		{from: 3, to: 2, is: ID(1), expected: ID(3), after: ID(1)},
		{from: 1, to: 2, after: ID(2)},
		{from: 2, to: 2, after: ID(2)},
		{from: 1, to: 1, is: ID(2), expected: ID(1), after: ID(2)},
		{from: 1, to: 0, is: ID(2), expected: ID(1), after: ID(2)},
		{from: 0, to: 0, is: ID(2), after: ID(2)},
		{from: 2, to: 0, after: zero},
		{from: 2, to: 0, expected: ID(2), after: zero},
		{from: 0, to: 0, after: zero},
		{from: 0, to: 4, after: ID(4)},
	} {
		err := s.Apply(t.Context(), up(mainBranch, tt.from, tt.to))
		var conflict *refs.ConflictError
		switch wantConflict := tt.is != tt.expected; {
		case !wantConflict && err != nil:
			t.Errorf("%d to %d: %v", tt.from, tt.to, err)
		case wantConflict && !errors.As(err, &conflict):
			t.Errorf("%d to %d: %v, want a conflict", tt.from, tt.to, err)
		case wantConflict && *conflict != refs.ConflictError{Name: mainBranch, Is: tt.is, Expected: tt.expected}:
			t.Errorf("%d to %d: %+v", tt.from, tt.to, conflict)
		}
		want(t, s, mainBranch, tt.after)
	}
}

func testBadUpdates(t *testing.T, s refs.Store) {
	for _, name := range []refs.Name{"", "main", "refs/heads", "refs/heads/", "refs/heads/../../x", "refs/heads/a.lock", "/refs/heads/a"} {
		if err := s.Apply(t.Context(), up(name, 0, 1)); !errors.Is(err, refs.ErrBadName) {
			t.Errorf("Apply to %q: %v, want ErrBadName", name, err)
		}
		if _, err := s.Get(t.Context(), name); !errors.Is(err, refs.ErrBadName) {
			t.Errorf("Get(%q): %v, want ErrBadName", name, err)
		}
	}
	if err := s.Apply(t.Context(), up(mainBranch, 0, 1), up(mainBranch, 0, 2)); err == nil {
		t.Error("one ref was updated twice at once")
	}
	want(t, s, mainBranch, zero)
	must(t, s)
}

func testAllOrNone(t *testing.T, s refs.Store) {
	must(t, s, up(mainBranch, 0, 1), up(other, 0, 1))
	err := s.Apply(t.Context(), up(mainBranch, 1, 2), up("refs/tags/new", 0, 2), up(other, 7, 2))
	var conflict *refs.ConflictError
	if !errors.As(err, &conflict) || conflict.Name != other {
		t.Errorf("Apply: %v, want a conflict over %s", err, other)
	}
	want(t, s, mainBranch, ID(1))
	want(t, s, other, ID(1))
	want(t, s, "refs/tags/new", zero)

	must(t, s, up(mainBranch, 1, 2), up("refs/tags/new", 0, 2), up(other, 1, 0))
	want(t, s, mainBranch, ID(2))
	want(t, s, other, zero)
	want(t, s, "refs/tags/new", ID(2))
}

func names(t *testing.T, s refs.Store, prefix string) []string {
	t.Helper()
	var names []string
	for r, err := range s.All(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		want(t, s, r.Name, r.ID)
		names = append(names, string(r.Name))
	}
	return names
}

func testAll(t *testing.T, s refs.Store) {
	if got := names(t, s, ""); len(got) > 0 {
		t.Errorf("an empty store has %q", got)
	}
	all := []string{
		"refs/heads/a", "refs/heads/a!", "refs/heads/b-c", "refs/heads/b/a", "refs/heads/b/a-", "refs/heads/b/c/d",
		"refs/heads/b0", "refs/heads/ü", "refs/remotes/origin/a", "refs/tags/a", "refs/tags/tmp-x",
	}
	slices.Sort(all)
	for i, name := range all {
		must(t, s, up(refs.Name(name), 0, uint64(i+1)))
	}
	for _, prefix := range []string{"", "refs/", "refs/heads/", "refs/heads/b", "refs/heads/b/", "refs/heads/b/c/d", "refs/heads/none/", "refs/x/", "x", "refs/tags/a/"} {
		var want []string
		for _, name := range all {
			if strings.HasPrefix(name, prefix) {
				want = append(want, name)
			}
		}
		if diff := cmp.Diff(want, names(t, s, prefix)); diff != "" {
			t.Errorf("All(%q):\n%s", prefix, diff)
		}
	}
	for r, err := range s.All(t.Context(), "") {
		if err != nil || string(r.Name) != all[0] {
			t.Errorf("first of all: %s, %v", r.Name, err)
		}
		break
	}
}

func testPlaces(t *testing.T, s refs.Store) {
	const a, ab, abc refs.Name = "refs/heads/a", "refs/heads/a/b", "refs/heads/a/b/c"
	for _, tt := range []struct {
		what  string
		make  []refs.Update
		taken bool
	}{
		{"below and above at once", []refs.Update{up(a, 0, 1), up(abc, 0, 1)}, true},
		{"below", []refs.Update{up(ab, 0, 1)}, false},
		{"above what is there", []refs.Update{up(a, 0, 1)}, true},
		{"below what is there", []refs.Update{up(abc, 0, 1)}, true},
		{"move up", []refs.Update{up(a, 0, 2), up(ab, 1, 0)}, false},
		{"move down", []refs.Update{up(abc, 0, 3), up(a, 2, 0)}, false},
		{"move up two", []refs.Update{up(abc, 3, 0), up(a, 0, 4)}, false},
		{"delete", []refs.Update{up(a, 4, 0)}, false},
		{"nothing is left in the way", []refs.Update{up(ab, 0, 5)}, false},
		{"delete below", []refs.Update{up(ab, 5, 0)}, false},
		{"nor above", []refs.Update{up(a, 0, 6)}, false},
	} {
		err := s.Apply(t.Context(), tt.make...)
		if tt.taken != errors.Is(err, refs.ErrNameTaken) || !tt.taken && err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		for _, u := range tt.make {
			if tt.taken {
				want(t, s, u.Name, u.Old)
			} else {
				want(t, s, u.Name, u.New)
			}
		}
	}
}

func testLog(t *testing.T, s refs.Store) {
	l, ok := s.(refs.Logger)
	if !ok {
		t.Skip("keeps no reflogs")
	}
	wantLog := func(name refs.Name, numbers ...uint64) {
		t.Helper()
		entries, err := l.Log(t.Context(), name)
		if len(numbers) == 0 && !errors.Is(err, refs.ErrNotFound) || len(numbers) > 0 && err != nil {
			t.Errorf("Log(%s): %v", name, err)
		}
		var got []uint64
		for _, e := range entries {
			got = append(got, Number(e.New))
			if want := fmt.Sprintf("test: %d to %d", Number(e.Old), Number(e.New)); e.Reason != want {
				t.Errorf("reason %q, want %q", e.Reason, want)
			}
		}
		if diff := cmp.Diff(numbers, got); diff != "" {
			t.Errorf("Log(%s):\n%s", name, diff)
		}
	}
	wantLog(mainBranch)
	must(t, s, up(mainBranch, 0, 1))
	must(t, s, up(mainBranch, 1, 2), up(other, 0, 1))
	must(t, s, up(mainBranch, 2, 1))
	must(t, s, up(mainBranch, 1, 1))
	if err := s.Apply(t.Context(), up(mainBranch, 9, 3), up(other, 1, 2)); err == nil {
		t.Error("no conflict")
	}
	wantLog(mainBranch, 1, 2, 1)
	wantLog(other, 1)
	must(t, s, up(mainBranch, 1, 0))
	wantLog(mainBranch)
	must(t, s, up(mainBranch, 0, 5), up(other, 1, 0))
	wantLog(mainBranch, 5)
	wantLog(other)
	must(t, s, up(other+"/below", 0, 6))
	wantLog(other+"/below", 6)
}

func testCancelled(t *testing.T, s refs.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Apply(ctx, up(mainBranch, 0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: %v", err)
	}
	if _, err := s.Get(ctx, mainBranch); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	want(t, s, mainBranch, zero)
}

// Increment adds one to the number that each of names points to, n times, each
// time by compare-and-swap until it wins. Whatever others do meanwhile, the
// numbers stay equal and none of the steps is lost.
func Increment(ctx context.Context, s refs.Store, n int, names ...refs.Name) error {
	for range n {
		for {
			is, err := s.Get(ctx, names[0])
			if err != nil && !errors.Is(err, refs.ErrNotFound) {
				return err
			}
			var updates []refs.Update
			for _, name := range names {
				updates = append(updates, refs.Update{Name: name, Old: is, New: ID(Number(is) + 1), Reason: "increment"})
			}
			err = s.Apply(ctx, updates...)
			var conflict *refs.ConflictError
			if err == nil {
				break
			}
			if !errors.As(err, &conflict) {
				return err
			}
			if conflict.Name != names[0] {
				return fmt.Errorf("moved apart: %w", err)
			}
		}
	}
	return nil
}

func testRace(t *testing.T, s refs.Store) {
	race(t, s, mainBranch)
}

func testRaceMany(t *testing.T, s refs.Store) {
	race(t, s, mainBranch, other, "refs/tags/deep/er")
}

func race(t *testing.T, s refs.Store, names ...refs.Name) {
	const racers = 8
	n := test.Count(t, 50)
	var wg sync.WaitGroup
	for range racers {
		wg.Go(func() {
			if err := Increment(t.Context(), s, n, names...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, name := range names {
		want(t, s, name, ID(uint64(racers*n)))
	}
}

// testRaceOnce lets many make the same ref, and many delete it: one each time.
func testRaceOnce(t *testing.T, s refs.Store) {
	for range test.Count(t, 50) {
		for _, make := range []bool{true, false} {
			won := make1(t, s, make)
			if won != 1 {
				t.Fatalf("%d of them won (make: %v)", won, make)
			}
		}
	}
}

func make1(t *testing.T, s refs.Store, make bool) (won int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			u := up(mainBranch, 0, 1)
			if !make {
				u = up(mainBranch, 1, 0)
			}
			err := s.Apply(t.Context(), u)
			var conflict *refs.ConflictError
			if err != nil && !errors.As(err, &conflict) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			}
		})
	}
	wg.Wait()
	return won
}
