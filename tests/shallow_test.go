package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

// A cuttable is a remote whose history can be cut off, as a gc there would.
type cuttable struct {
	url string
	set func(from string) // makes the remote one to which the repository was pushed first
}

// cuttables are remotes of each kind.
var cuttables = map[string]func(t *testing.T) cuttable{
	"path": func(t *testing.T) cuttable {
		dir := filepath.Join(test.Dir(t), "there")
		return cuttable{dir, func(from string) {
			os.RemoveAll(dir)
			must(t, from, "push", "-q", "--all", dir)
		}}
	},
	"bucket": func(t *testing.T) cuttable {
		dir := filepath.Join(test.Dir(t), "share")
		return cuttable{"bucket+file://" + dir, func(from string) {
			os.RemoveAll(dir)
			must(t, from, "push", "-q", "--all", "bucket+file://"+dir)
		}}
	},
	"server": func(t *testing.T) cuttable {
		dir := filepath.Join(test.Dir(t), "central")
		var now *repo.Repo
		s := servertest.Start(t, server.Options{Open: func() server.Store {
			if now == nil {
				now = mustInit(t, dir)
			}
			return peer.New(now.DB, now.Refs, now)
		}})
		t.Setenv(httpremote.TokenVariable, s.Token(auth.Token{Rules: auth.Rules{Write: []string{"*"}}}))
		return cuttable{s.URL, func(from string) {
			now.Close()
			os.RemoveAll(dir)
			now = mustInit(t, dir)
			must(t, from, "push", "-q", "--all", s.URL)
		}}
	},
}

func mustInit(t *testing.T, dir string) *repo.Repo {
	t.Helper()
	r, err := repo.Init(ctx, dir, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// A yard is a remote, a repository that is kept in order as one with gc would be, and
// a place for others.
type yard struct {
	cuttable
	t      *testing.T
	dir    string
	keeper string
}

func eachYard(t *testing.T, test func(y yard)) {
	for name, kind := range cuttables {
		t.Run(name, func(t *testing.T) {
			alone(t)
			y := yard{t: t, dir: t.TempDir()}
			y.keeper = y.path("keeper")
			y.cuttable = kind(t)
			for _, key := range []string{"bad", "old", "kept"} {
				y.put(y.keeper, key, key+" 1")
			}
			must(t, y.keeper, "remote", "add", "origin", y.url)
			must(t, y.keeper, "push")
			test(y)
		})
	}
}

func (y yard) path(name string) string { return filepath.Join(y.dir, name) }

func (y yard) put(dir, key, text string) {
	y.t.Helper()
	if r := runWith([]byte(text), dir, "put", key); r.code != done {
		y.t.Fatal(r)
	}
}

func (y yard) clone(name string, flags ...string) string {
	y.t.Helper()
	dir := y.path(name)
	must(y.t, dir, append(append([]string{"clone", "-q"}, flags...), y.url, dir)...)
	return dir
}

// evict reverts a bad entry, adds another, removes an old one, cuts history off there,
// and makes that the remote.
func (y yard) evict() {
	y.t.Helper()
	must(y.t, y.keeper, "rm", "bad")
	y.put(y.keeper, "new", "new 1")
	must(y.t, y.keeper, "rm", "old")
	if err := cutHistory(ctx, y.keeper, "main"); err != nil {
		y.t.Fatal(err)
	}
	y.set(y.keeper)
}

// wants fails the test unless these and no others of the keys are there, and history
// is as many commits long.
func (y yard) wants(dir string, commits int, keys ...string) {
	y.t.Helper()
	for _, key := range []string{"bad", "old", "kept", "new", "mine", "later"} {
		want := missed
		for _, k := range keys {
			if k == key {
				want = done
			}
		}
		if r := run(dir, "get", key); r.code != want {
			y.t.Errorf("%v\nwant exit code %d", r, want)
		}
	}
	if n := strings.Count(must(y.t, dir, "log", "--oneline").out, "\n"); n != commits {
		y.t.Errorf("%s: %d commits, want %d", dir, n, commits)
	}
	if r := run(dir, "fsck"); r.code != done {
		y.t.Error(r)
	}
}

// whole fails the test unless a clone of the remote has these.
func (y yard) whole(commits int, keys ...string) {
	y.t.Helper()
	for _, flags := range [][]string{nil, {"--lazy"}} {
		dir := y.clone("whole", flags...)
		y.wants(dir, commits, keys...)
		if err := os.RemoveAll(dir); err != nil {
			y.t.Fatal(err)
		}
	}
}

// TestPushCutHistory: what lacks its beginning can be pushed and cloned, and goes on
// from there.
func TestPushCutHistory(t *testing.T) {
	eachYard(t, func(y yard) {
		y.evict()
		y.whole(1, "kept", "new")
		y.put(y.keeper, "later", "later 1")
		must(t, y.keeper, "push")
		y.whole(2, "kept", "new", "later")
	})
}

// TestPullWithoutCommits: who only read goes on from where the history was cut off, by
// pull and by push.
func TestPullWithoutCommits(t *testing.T) {
	eachYard(t, func(y yard) {
		pulled, pushed, fetched, lazy := y.clone("pulled"), y.clone("pushed"), y.clone("fetched"), y.clone("lazy", "--lazy")
		y.evict()
		for dir, commands := range map[string][]string{
			pulled: {"pull"}, pushed: {"push"}, fetched: {"fetch", "merge origin/main"}, lazy: {"pull"},
		} {
			for _, c := range commands {
				must(t, dir, strings.Fields(c)...)
			}
			y.wants(dir, 1, "kept", "new")
			if got := must(t, dir, "pull"); !strings.Contains(got.out, "up to date") {
				t.Error(got)
			}
			if got := must(t, dir, "push"); !strings.Contains(got.out, "up to date") {
				t.Error(got)
			}
		}
		y.whole(1, "kept", "new")
	})
}

// TestMergeAcrossCut: what was taken out at the remote does not come back with what
// was added here meanwhile, and history does not either.
func TestMergeAcrossCut(t *testing.T) {
	for name, commands := range map[string][]string{
		"pull":              {"pull", "push"},
		"push":              {"push"},
		"fetch":             {"fetch", "pull", "push"},
		"merge":             {"fetch", "fetch", "merge origin/main", "push"},
		"others in between": {"fetch", "evict", "fetch", "pull", "push"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, flags := range [][]string{nil, {"--lazy"}} {
				eachYard(t, func(y yard) {
					here := y.clone("here", flags...)
					y.put(here, "mine", "mine 1")
					y.evict()
					commits := 1
					for _, c := range commands {
						if c == "evict" {
							y.put(y.keeper, "later", "later 1")
							must(t, y.keeper, "rm", "later")
							if err := cutHistory(ctx, y.keeper, "main"); err != nil {
								t.Fatal(err)
							}
							y.set(y.keeper)
							continue
						}
						must(y.t, here, strings.Fields(c)...)
					}
					commits++
					y.wants(here, commits, "kept", "new", "mine")
					if flags == nil {
						y.whole(commits, "kept", "new", "mine")
					}
					must(y.t, y.keeper, "pull")
					y.wants(y.keeper, commits, "kept", "new", "mine")
				})
			}
		})
	}
}

// TestPullConnected: who has the commits before the cut keeps them, and who has cut
// them off himself does not get them again.
func TestPullConnected(t *testing.T) {
	eachYard(t, func(y yard) {
		had := y.clone("had")
		y.put(y.keeper, "new", "new 1")
		must(t, y.keeper, "push")
		must(t, had, "pull")
		own := y.clone("own")
		if err := cutHistory(ctx, own, "main"); err != nil {
			t.Fatal(err)
		}
		y.put(y.keeper, "later", "later 1")
		must(t, y.keeper, "push")
		must(t, own, "pull")
		y.wants(own, 2, "bad", "old", "kept", "new", "later")
		if err := cutHistory(ctx, y.keeper, "main"); err != nil {
			t.Fatal(err)
		}
		y.set(y.keeper)
		must(t, had, "pull")
		y.wants(had, 5, "bad", "old", "kept", "new", "later")
		y.put(had, "mine", "mine 1")
		must(t, had, "push")
		y.whole(2, "bad", "old", "kept", "new", "later", "mine")
		// A branch from before the cut brings what it needs.
		must(t, had, "branch", "before", "main~3")
		must(t, had, "push", "origin", "before")
		y.whole(2, "bad", "old", "kept", "new", "later", "mine")
		must(t, own, "fetch")
		if got := must(t, own, "log", "--oneline", "origin/before"); strings.Count(got.out, "\n") != 3 {
			t.Error(got)
		}
		must(t, own, "fsck")
	})
}

// TestUnrelatedAcrossCut: what never came from the remote is merged with it as ever.
func TestUnrelatedAcrossCut(t *testing.T) {
	eachYard(t, func(y yard) {
		here := y.path("here")
		y.put(here, "mine", "mine 1")
		must(t, here, "remote", "add", "origin", y.url)
		must(t, here, "fetch")
		y.evict()
		got := must(t, here, "pull")
		if !strings.Contains(got.err, "the history of main at origin was cut off") {
			t.Error(got)
		}
		y.wants(here, 3, "kept", "new", "mine")
	})
}
