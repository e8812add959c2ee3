package repo_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/gc"
)

// noise returns n bytes of text that can't be made smaller, the same for the same seed.
func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

const day = 24 * time.Hour

// collect collects as on a day that is so far from today.
func collect(t *testing.T, r *repo.Repo, later time.Duration, o repo.CollectOptions) repo.Collected {
	t.Helper()
	o.Now = time.Now().Add(later)
	dry := o
	dry.DryRun = true
	planned, err := r.Collect(t.Context(), dry)
	if err != nil {
		t.Fatal(err)
	}
	done, err := r.Collect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if planned.Swept != done.Swept || !slices.Equal(planned.Branches, done.Branches) {
		t.Errorf("a dry run said\n%+v\n%+v, and then happened\n%+v\n%+v", planned.Swept, planned.Branches, done.Swept, done.Branches)
	}
	checkClean(t, r)
	return done
}

// used notes on which day from today entries were used.
func used(t *testing.T, r *repo.Repo, days map[string]int) {
	t.Helper()
	for key, n := range days {
		if err := uses.Note(r.Dir, uses.Today(time.Now())+int32(n), entry.Path(entry.Put, key)); err != nil {
			t.Fatal(err)
		}
	}
}

// keys returns those of keys that branch has.
func keys(t *testing.T, r *repo.Repo, branch refs.Name, keys ...string) string {
	t.Helper()
	var there []string
	for _, key := range keys {
		if _, err := r.Lookup(t.Context(), []refs.Name{branch}, entry.Put, key); err == nil {
			there = append(there, key)
		} else if !errors.Is(err, objects.ErrNotFound) {
			t.Error(err)
		}
	}
	return strings.Join(there, " ")
}

func bytesOf(t *testing.T, r *repo.Repo) int64 {
	t.Helper()
	u, err := r.DB.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u.Bytes
}

func TestCollectDropsWhatADeletedBranchHad(t *testing.T) {
	r := newRepo(t)
	put(t, r, main, "a="+noise(1, 50_000))
	small := bytesOf(t, r)
	side := refs.Branch("side")
	tip := put(t, r, side, "b="+noise(2, 50_000))
	if err := r.Refs.Apply(t.Context(), refs.Update{Name: side, Old: tip}); err != nil {
		t.Fatal(err)
	}
	if done := collect(t, r, 0, repo.CollectOptions{Grace: time.Hour}); done.Objects != 0 {
		t.Errorf("within the grace %d objects were dropped", done.Objects)
	}
	collect(t, r, 0, repo.CollectOptions{})
	if got := bytesOf(t, r); got > small+small/20 {
		t.Errorf("%d bytes are left, %d before the branch", got, small)
	}
	if got := get(t, r, main, "a"); got != noise(1, 50_000) {
		t.Errorf("a has %d bytes", len(got))
	}
}

func TestCollectKeepsWhatIsStaged(t *testing.T) {
	r := newRepo(t)
	stagePut(t, r, main, "a=1")
	collect(t, r, 400*day, repo.CollectOptions{Settings: gc.Settings{MaxAge: day, KeepHistory: 1, BranchTTL: 1}})
	if got := get(t, r, main, "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
}

func TestCollectCutsHistory(t *testing.T) {
	r := newRepo(t)
	for i := range 5 {
		put(t, r, main, fmt.Sprint("a=", noise(uint64(i), 1000)), fmt.Sprint("k", i, "=", i))
	}
	old := put(t, r, main, "gone=away")
	put(t, r, main, "gone")
	// Two days from now all but the tip was replaced long ago.
	done := collect(t, r, 2*day, repo.CollectOptions{Settings: gc.Settings{KeepHistory: day}})
	b := done.Branches[0]
	if b.Commits != 1 || b.DroppedCommits != 6 || b.Entries != 6 || b.DroppedBytes == 0 {
		t.Errorf("%+v", b)
	}
	if missing, err := r.DB.Missing(t.Context(), []objects.ID{old}); err != nil || len(missing) != 1 {
		t.Errorf("an old commit is still there: %v", err)
	}
	if got := keys(t, r, main, "a", "k0", "k4", "gone"); got != "a k0 k4" {
		t.Errorf("%q are left", got)
	}
	// And history goes on from there.
	put(t, r, main, "b=2")
	tip, _, err := r.Tip(t.Context(), main)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range r.Log(t.Context(), tip) {
		if n++; err != nil {
			t.Error(err)
		}
	}
	if n != 2 {
		t.Errorf("%d commits, want 2", n)
	}
	collect(t, r, 0, repo.CollectOptions{})
}

func TestCollectKeepsHistoryWithin(t *testing.T) {
	r := newRepo(t)
	first := put(t, r, main, "a=1")
	put(t, r, main, "a=2")
	done := collect(t, r, 0, repo.CollectOptions{Settings: gc.Settings{KeepHistory: day}})
	if b := done.Branches[0]; b.Commits != 2 || b.DroppedCommits != 0 {
		t.Errorf("%+v", b)
	}
	if _, err := r.LookupAt(t.Context(), first, entry.Put, "a"); err != nil {
		t.Error(err)
	}
}

func TestCollectDropsIdleBranches(t *testing.T) {
	r := newRepo(t)
	put(t, r, main, "a=1")
	put(t, r, refs.Branch("idle"), "b=1")
	put(t, r, refs.Branch("release/1"), "c=1")
	put(t, r, refs.Branch("busy"), "d=1")
	stagePut(t, r, refs.Branch("busy"), "e=1")
	collect(t, r, 15*day, repo.CollectOptions{Settings: gc.Settings{BranchTTL: 14 * day, Protected: []string{"release/*"}}})
	var names []string
	for ref, err := range r.Refs.All(t.Context(), "refs/heads/") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, ref.Name.Short())
	}
	if got := strings.Join(names, " "); got != "busy main release/1" {
		t.Errorf("branches %s are left", got)
	}
}

func TestCollectEvictsByAge(t *testing.T) {
	r := newRepo(t)
	put(t, r, main, "old=1", "new=2", "made=3", "pinned=4")
	tip, _, err := r.Tip(t.Context(), main)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Refs.Apply(t.Context(), refs.Update{Name: refs.Tag("v1"), New: tip}); err != nil {
		t.Fatal(err)
	}
	put(t, r, main, "other=5")
	used(t, r, map[string]int{"old": -40, "new": -2, "made": -1, "pinned": -50, "other": -60})
	// The tag holds what was there when it was made.
	done := collect(t, r, 0, repo.CollectOptions{Settings: gc.Settings{MaxAge: 30 * day}})
	if got := keys(t, r, main, "old", "new", "made", "pinned", "other"); got != "old new made pinned" || done.Evicted != 1 {
		t.Errorf("%q are left, %d were evicted", got, done.Evicted)
	}
	if err := r.Refs.Apply(t.Context(), refs.Update{Name: refs.Tag("v1"), Old: tip}); err != nil {
		t.Fatal(err)
	}
	collect(t, r, 0, repo.CollectOptions{Settings: gc.Settings{MaxAge: 30 * day}})
	if got := keys(t, r, main, "old", "new", "made", "pinned", "other"); got != "new made" {
		t.Errorf("%q are left", got)
	}
}

func TestCollectEvictsBySize(t *testing.T) {
	const n, size = 20, 10_000
	r := newRepo(t)
	days, all := map[string]int{}, []string{}
	for i := range n {
		key := fmt.Sprintf("k%02d", i)
		put(t, r, main, key+"="+noise(uint64(i), size))
		days[key] = -(i * 7 % n) // k00 last, then k03, k06, …
		all = append(all, key)
	}
	used(t, r, days)
	limit := int64(n * size / 2)
	done := collect(t, r, 0, repo.CollectOptions{Settings: gc.Settings{MaxSize: limit}, Grace: time.Hour})
	if got := bytesOf(t, r); got > limit || got < limit*8/10 || done.SizeAfter != got {
		t.Errorf("%d bytes are left of %d allowed, told were %d", got, limit, done.SizeAfter)
	}
	left := strings.Fields(keys(t, r, main, all...))
	slices.SortFunc(all, func(a, b string) int { return days[b] - days[a] })
	want := slices.Sorted(slices.Values(all[:len(left)]))
	if !slices.Equal(left, want) {
		t.Errorf("%v are left, want the last used: %v", left, want)
	}
	for _, key := range left {
		if len(get(t, r, main, key)) != size {
			t.Errorf("%s has %d bytes", key, len(get(t, r, main, key)))
		}
	}
	// There is nothing left to do.
	if again := collect(t, r, 0, repo.CollectOptions{Settings: gc.Settings{MaxSize: limit}}); again.Evicted != 0 {
		t.Errorf("a second run evicted %d", again.Evicted)
	}
}

// Of one day those go that were made first.
func TestCollectEvictsOldestOfADay(t *testing.T) {
	const n, size = 12, 10_000
	r := newRepo(t)
	var all []string
	for i := range n {
		key := fmt.Sprintf("k%02d", i*5%n)
		all = append(all, key)
		c := change(t, r, main)
		id, err := c.Batch.PutBytes(objects.Blob, []byte(noise(uint64(i), size)))
		if err != nil {
			t.Fatal(err)
		}
		payload := objects.Entries{{Mode: objects.ModeFile, Name: entry.BodyName, ID: id}}
		id, err = entry.Write(c.Batch, entry.Meta{Kind: entry.Put, Key: key, Created: time.Unix(int64(1e9+i), 0)}, payload, objects.ID{})
		if err != nil {
			t.Fatal(err)
		}
		c.Set(entry.Put, key, id)
		if _, _, err := c.Commit(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	collect(t, r, 0, repo.CollectOptions{Settings: gc.Settings{MaxSize: n * size / 3}})
	left := strings.Fields(keys(t, r, main, all...))
	slices.Sort(left)
	if want := slices.Sorted(slices.Values(all[n-len(left):])); len(left) < 2 || !slices.Equal(left, want) {
		t.Errorf("%v are left, want the last made: %v", left, want)
	}
}

// History goes before entries do, the oldest first.
func TestCollectCutsHistoryForSize(t *testing.T) {
	const size = 10_000
	r := newRepo(t)
	for i := range 10 {
		put(t, r, main, "a="+noise(uint64(i), size))
	}
	done := collect(t, r, 0, repo.CollectOptions{Settings: gc.Settings{MaxSize: 5 * size}})
	b := done.Branches[0]
	if got := bytesOf(t, r); got > 5*size || b.Commits < 3 || b.DroppedCommits != 10-b.Commits || b.EvictedEntries != 0 {
		t.Errorf("%d bytes are left: %+v", got, b)
	}
}

// Merges need the commit that a remote was seen at last. One between it and the branch
// has another parent that goes: it must not count as cut off from both.
func TestCollectKeepsWhatWasSeen(t *testing.T) {
	const size = 10_000
	r := newRepo(t)
	last := put(t, r, "refs/heads/theirs", "b="+noise(1, size))
	for i := range 5 {
		put(t, r, main, "a="+noise(uint64(2+i), size))
	}
	merged, err := r.Merge(t.Context(), main, last, repo.Theirs, "Merge main of origin")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Config.Set(t.Context(), "remote.origin.url", filepath.Join(t.TempDir(), "other")); err != nil {
		t.Fatal(err)
	}
	if err := r.Refs.Apply(t.Context(), refs.Update{Name: refs.Remote("origin", "main"), New: last}); err != nil {
		t.Fatal(err)
	}
	done, err := r.Collect(t.Context(), repo.CollectOptions{Settings: gc.Settings{MaxSize: size}})
	if err != nil || done.Evicted == 0 {
		t.Errorf("%d entries were evicted, %v", done.Evicted, err)
	}
	if base, err := r.MergeBase(t.Context(), merged.Tip, last); err != nil || base != last {
		t.Errorf("main comes from %s, %v, want %s: %+v", base.Short(), err, last.Short(), done.Branches)
	}
}

func TestCollectSaysWhatItCannot(t *testing.T) {
	const size = 10_000
	r := newRepo(t)
	put(t, r, refs.Branch("release/1"), "a="+noise(1, size))
	put(t, r, main, "b="+noise(2, size))
	stagePut(t, r, main, "c="+noise(3, size))
	done := collect(t, r, 0, repo.CollectOptions{Settings: gc.Settings{MaxSize: size, Protected: []string{"release/**"}}})
	if done.Short < size || done.SizeAfter <= size || len(done.Holds) != 2 {
		t.Errorf("short of %d bytes, %v", done.Short, done.Holds)
	}
	if got := keys(t, r, refs.Branch("release/1"), "a") + keys(t, r, main, "b", "c"); got != "ac" {
		t.Errorf("%q are left", got)
	}
}

func TestCollectRefusesDamage(t *testing.T) {
	r := newRepo(t)
	tip := put(t, r, main, "a=1")
	lost := objects.ID{1}
	c := change(t, r, main)
	defer c.Close()
	c.Set(entry.Put, "lost", lost)
	if _, _, err := c.Commit(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	_ = tip
	_, err := r.Collect(t.Context(), repo.CollectOptions{})
	var broken *gc.BrokenError
	if !errors.As(err, &broken) || broken.Missing.ID != lost {
		t.Errorf("got %v", err)
	}
}

// With a remote that has them, entries stay and only their payload goes.
func TestCollectLeavesPayloadToTheRemote(t *testing.T) {
	const size = 10_000
	r := newRepo(t)
	tip := put(t, r, main, "a="+noise(1, size), "b="+noise(2, size))
	for name, value := range map[string]string{"remote.origin.url": filepath.Join(t.TempDir(), "other")} {
		if err := r.Config.Set(t.Context(), name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Refs.Apply(t.Context(), refs.Update{Name: refs.Remote("origin", "main"), New: tip}); err != nil {
		t.Fatal(err)
	}
	put(t, r, main, "own="+noise(3, size))
	used(t, r, map[string]int{"a": -9, "b": -5, "own": -20})
	done, err := r.Collect(t.Context(), repo.CollectOptions{Settings: gc.Settings{MaxSize: 5 * size / 2}})
	if err != nil {
		t.Fatal(err)
	}
	if now, _, err := r.Tip(t.Context(), main); err != nil || done.Evicted != 1 || !done.Shed {
		t.Errorf("at %s, %v: %d were evicted, shed: %v", now, err, done.Evicted, done.Shed)
	}
	if lazy, err := r.Config.Get("remote.origin.lazy"); err != nil || lazy != "true" {
		t.Errorf("lazy is %q, %v", lazy, err)
	}
	have := map[string]bool{}
	for found, err := range r.Entries(t.Context(), main, entry.Put) {
		if err != nil {
			t.Fatal(err)
		}
		missing, err := r.DB.Missing(odb.Local(t.Context()), []objects.ID{found.ID})
		if err != nil {
			t.Fatal(err)
		}
		have[found.Key] = len(missing) == 0
	}
	if want := map[string]bool{"a": false, "b": true, "own": true}; !maps.Equal(have, want) {
		t.Errorf("here are %v, want %v", have, want)
	}
}
