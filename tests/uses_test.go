package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// TestPushTellsUses: what one machine used stays at the remote, though another one made
// other things since.
func TestPushTellsUses(t *testing.T) {
	for _, p := range placesNamed("path", "bucket", "serve", "apache", "versitygw") {
		t.Run(p.name, func(t *testing.T) {
			s := p.start(t)
			maker, user := s.connected(t), s.connected(t)
			for i, key := range []string{"used", "old", "new"} {
				write(t, maker.work(key), noise(uint64(i), 30_000))
				maker.must("put", key, key)
				maker.must("push", "-q")
			}
			user.must("pull", "-q")
			tomorrow := uses.Today(time.Now()) + 1 // later than anything that was made
			if err := uses.Note(user.repo(), tomorrow, entry.Path(entry.Put, "used")); err != nil {
				t.Fatal(err)
			}
			write(t, user.work("mine"), "mine")
			user.must("put", "mine", "mine")
			user.must("push", "-q")

			collect := []string{"gc", "--remote", "origin", "--grace", "0", "--max-size", "50kB"}
			if s.repo != "" {
				collect = []string{"gc", "--repo", s.repo, "--grace", "0", "--max-size", "50kB"}
			}
			r := maker.must(collect...)
			late := s.connected(t)
			late.must("pull", "-q")
			if got := late.must("ls", "-R", "put").out; got != "mine\nused\n" {
				t.Errorf("there are %q: %v", got, r)
			}
		})
	}
}

// TestPushTellsUsesOnce: once a day, or when something moved, and what is new.
func TestPushTellsUsesOnce(t *testing.T) {
	s := placesNamed("bucket")[0].start(t)
	h := s.connected(t)
	told := func() int {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(strings.TrimPrefix(s.url, "bucket+file://"), "uses", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	use := func(key string) {
		t.Helper()
		if err := uses.Note(h.repo(), uses.Today(time.Now()), entry.Path(entry.Put, key)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, h.work("value"), "value")
	for i, step := range []struct {
		do   func()
		want int
	}{
		{func() { h.must("put", "one", "value") }, 0},
		{func() { use("one"); h.must("put", "two", "value") }, 1},
		{func() { h.must("put", "three", "value") }, 1}, // nothing was used since
		{func() { use("one") }, 1},
		{func() { use("two") }, 1}, // nothing moves
		{func() { h.must("put", "four", "value") }, 2},
		{func() { // a day goes by
			names, err := filepath.Glob(filepath.Join(h.repo(), "uses.sent", "*"))
			if err != nil || len(names) != 1 {
				t.Fatal(names, err)
			}
			then := time.Now().Add(-36 * time.Hour)
			if err := os.Chtimes(names[0], then, then); err != nil {
				t.Fatal(err)
			}
			use("three")
		}, 3},
	} {
		step.do()
		h.must("push", "--dry-run")
		h.must("push")
		if got := told(); got != step.want {
			t.Errorf("after step %d there are %d files, want %d", i, got, step.want)
		}
	}
}

// TestPushWithoutUses: a remote that can't note uses takes pushes all the same.
func TestPushWithoutUses(t *testing.T) {
	s := placesNamed("bucket")[0].start(t)
	h := s.connected(t)
	write(t, h.work("value"), "value")
	h.must("put", "one", "value")
	h.must("push")
	write(t, filepath.Join(strings.TrimPrefix(s.url, "bucket+file://"), "uses"), "no directory")
	if err := uses.Note(h.repo(), uses.Today(time.Now()), entry.Path(entry.Put, "one")); err != nil {
		t.Fatal(err)
	}
	h.must("put", "two", "value")
	if r := h.must("push"); r.err != "" {
		t.Errorf("%v", r)
	}
	h.must("put", "three", "value")
	if r := h.must("-v", "push"); !strings.Contains(r.err, "was not told which entries were used") {
		t.Errorf("%v", r)
	}
}

// TestUsesAreFolded: a gc makes one file of many.
func TestUsesAreFolded(t *testing.T) {
	s := placesNamed("bucket")[0].start(t)
	h := s.connected(t)
	dir := filepath.Join(strings.TrimPrefix(s.url, "bucket+file://"), "uses")
	write(t, h.work("value"), "value")
	var all []string
	for i := range 20 {
		key := string(rune('a' + i))
		all = append(all, key)
		if err := uses.Note(h.repo(), uses.Today(time.Now()), entry.Path(entry.Put, key)); err != nil {
			t.Fatal(err)
		}
		h.must("put", key, "value")
		h.must("push", "-q")
	}
	files := func() []string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	before := files()
	h.must("gc", "--remote", "origin", "--dry-run")
	if got := files(); len(before) != len(all) || !slices.Equal(got, before) {
		t.Errorf("%d files, and %d after a dry run", len(before), len(got))
	}
	h.must("gc", "--remote", "origin")
	if got := files(); len(got) != 1 {
		t.Errorf("%d files are left", len(got))
	}
	// It knows what all did: another machine has no uses of its own.
	other := s.connected(t)
	if r := other.must("gc", "--remote", "origin", "--max-age", "1d", "--json"); !strings.Contains(r.out, `"evictedEntries":0,"condemned"`) {
		t.Errorf("%v", r)
	}
}
