package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

func TestMain(m *testing.M) {
	os.Setenv("NETRC", "/nonexistent")
	os.Unsetenv(httpremote.TokenVariable)
	os.Exit(m.Run())
}

// once is for clients whose requests are to fail.
var once = httpremote.Options{Tries: 1}

// entry is a commit with a tree and a blob of its own.
type entry struct{ blob, tree, commit remotetest.Item }

func newEntry(text string) entry {
	blob := remotetest.Blob(text)
	tree := remotetest.Tree("file", blob)
	return entry{blob, tree, remotetest.Commit(1, tree)}
}

func (e entry) ids() []objects.ID { return []objects.ID{e.blob.ID(), e.tree.ID(), e.commit.ID()} }

// fill makes a branch, or what else the ref is, in the server's store.
func fill(t *testing.T, s *servertest.Server, name refs.Name, e entry) {
	t.Helper()
	remotetest.Upload(t, s.Store, e.blob, e.tree, e.commit)
	if err := s.Store.Update(t.Context(), refs.Update{Name: name, New: e.commit.ID()}); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, r remote.Remote) []string {
	t.Helper()
	var all []string
	for ref, err := range r.Refs(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimPrefix(string(ref.Name), "refs/"))
	}
	return all
}

// TestRights: what each of these may read and write, of every kind of ref.
func TestRights(t *testing.T) { eachStore(t, testRights) }

func testRights(t *testing.T, open func() server.Store) {
	s := servertest.Start(t, server.Options{Open: open, Anonymous: auth.Rules{Read: []string{"public"}}})
	entries := map[refs.Name]entry{}
	for _, name := range []refs.Name{"refs/heads/main", "refs/heads/public", "refs/heads/pr/1", "refs/heads/secret", "refs/tags/v1", "refs/notes/x"} {
		entries[name] = newEntry(string(name))
		fill(t, s, name, entries[name])
	}
	for _, tt := range []struct {
		who         string
		rules       auth.Rules
		read, write []string
	}{
		{"nobody", auth.Rules{}, []string{"heads/public"}, nil},
		{"without rules", auth.Rules{}, []string{"heads/public"}, nil},
		{"reader", auth.Rules{Read: []string{"main"}}, []string{"heads/main", "heads/public"}, nil},
		{"pull requests", auth.Rules{Read: []string{"main"}, Write: []string{"pr/*"}}, []string{"heads/main", "heads/pr/1", "heads/public"}, []string{"heads/pr/1"}},
		{"tagger", auth.Rules{Write: []string{"tag:v*"}}, []string{"heads/public", "tags/v1"}, []string{"tags/v1"}},
		{"all branches", auth.Rules{Write: []string{"**"}}, []string{"heads/main", "heads/pr/1", "heads/public", "heads/secret"}, []string{"heads/main", "heads/pr/1", "heads/public", "heads/secret"}},
		{"auditor", auth.Rules{Read: []string{"*"}}, []string{"heads/main", "heads/pr/1", "heads/public", "heads/secret", "notes/x", "tags/v1"}, nil},
		{"admin", auth.Rules{Write: []string{"*"}}, []string{"heads/main", "heads/pr/1", "heads/public", "heads/secret", "notes/x", "tags/v1"}, []string{"heads/main", "heads/pr/1", "heads/public", "heads/secret", "notes/x", "tags/v1"}},
	} {
		t.Run(tt.who, func(t *testing.T) {
			token := ""
			if tt.who != "nobody" {
				token = s.Token(auth.Token{Name: tt.who, Rules: tt.rules})
			}
			r := s.Client(token, once)
			if diff := cmp.Diff(tt.read, names(t, r)); diff != "" {
				t.Errorf("Refs:\n%s", diff)
			}
			for name, e := range entries {
				mayRead := slices.Contains(tt.read, strings.TrimPrefix(string(name), "refs/"))
				mayWrite := slices.Contains(tt.write, strings.TrimPrefix(string(name), "refs/"))
				for _, id := range e.ids() {
					wantReadable(t, r, id, mayRead)
				}
				wantPath(t, r, e, mayRead)
				wantMovable(t, r, name, e.commit.ID(), mayWrite)
			}
		})
	}
}

func wantReadable(t *testing.T, r remote.Remote, id objects.ID, may bool) {
	t.Helper()
	for _, extent := range []remote.Extent{remote.Only, remote.History, remote.Closure} {
		body, err := r.Fetch(t.Context(), remote.Request{Want: []objects.ID{id}, Extent: extent})
		var got map[objects.ID]remotetest.Item
		if err == nil {
			got, err = remotetest.Unpack(body)
			body.Close()
		}
		if _, came := got[id]; came != may || !may && !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("fetch %s, extent %d: came %v, want %v: %v", id.Short(), extent, came, may, err)
		}
	}
}

// wantNothingOf wants that nothing of what is hidden comes with what root leads to.
func wantNothingOf(t *testing.T, r interface {
	remote.Remote
	remote.PathFetcher
}, root objects.ID, hidden []objects.ID) {
	t.Helper()
	fetches := []func() (io.ReadCloser, error){func() (io.ReadCloser, error) {
		return r.FetchPaths(t.Context(), []remote.Path{{Root: root, Path: "x"}, {Root: root, Path: "file/x"}, {Root: root}}, 1<<20)
	}}
	for _, extent := range []remote.Extent{remote.Only, remote.History, remote.Closure} {
		fetches = append(fetches, func() (io.ReadCloser, error) {
			return r.Fetch(t.Context(), remote.Request{Want: []objects.ID{root}, Extent: extent})
		})
	}
	for i, fetch := range fetches {
		body, err := fetch()
		if err != nil {
			continue
		}
		got, _ := remotetest.Unpack(body)
		body.Close()
		for _, id := range hidden {
			if _, came := got[id]; came {
				t.Errorf("fetch %d of %s brings %s", i, root.Short(), id.Short())
			}
		}
	}
}

func wantPath(t *testing.T, r remote.PathFetcher, e entry, may bool) {
	t.Helper()
	for _, root := range []objects.ID{e.commit.ID(), e.tree.ID()} {
		body, err := r.FetchPaths(t.Context(), []remote.Path{{Root: root, Path: "file"}}, 1<<20)
		var got map[objects.ID]remotetest.Item
		if err == nil {
			got, err = remotetest.Unpack(body)
			body.Close()
		}
		if _, came := got[e.blob.ID()]; came != may || !may && !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("path in %s: came %v, want %v: %v", root.Short(), came, may, err)
		}
	}
}

// wantMovable moves a ref to where it is, and tries to remove it only if that must
// fail.
func wantMovable(t *testing.T, r remote.Remote, name refs.Name, is objects.ID, may bool) {
	t.Helper()
	err := r.Update(t.Context(), refs.Update{Name: name, Old: is, New: is})
	if (err == nil) != may || !may && !errors.Is(err, remote.ErrDenied) {
		t.Errorf("%s: moved %v, want %v: %v", name, err == nil, may, err)
	}
	if may {
		return
	}
	for _, u := range []refs.Update{{Name: name, Old: is}, {Name: name + "/x", New: is}} {
		if err := r.Update(t.Context(), u); !errors.Is(err, remote.ErrDenied) {
			t.Errorf("%+v: %v", u, err)
		}
	}
}

// TestWritersOnly: who may write nothing uploads nothing, and what is denied in
// part is denied.
func TestWritersOnly(t *testing.T) { eachStore(t, testWritersOnly) }

func testWritersOnly(t *testing.T, open func() server.Store) {
	s := servertest.Start(t, server.Options{Open: open, Anonymous: auth.Rules{Read: []string{"*"}}})
	a := newEntry("a")
	p := remotetest.Pack(t, []remotetest.Item{a.blob, a.tree, a.commit})
	for token, known := range map[string]bool{"": false, s.Token(auth.Token{Name: "reader", Rules: auth.Rules{Read: []string{"*"}}}): true} {
		r := s.Client(token, once)
		err := r.Upload(t.Context(), bytes.NewReader(p), int64(len(p)))
		if !errors.Is(err, remote.ErrDenied) || strings.Contains(err.Error(), "reader may write nothing") != known {
			t.Errorf("Upload: %v", err)
		}
		if missing, err := r.Missing(t.Context(), a.ids()); err != nil || len(missing) != 3 {
			t.Errorf("%d missing, %v", len(missing), err)
		}
	}
	pr := s.Client(s.Token(auth.Token{Rules: auth.Rules{Write: []string{"pr/*"}}}), once)
	if err := pr.Upload(t.Context(), bytes.NewReader(p), int64(len(p))); err != nil {
		t.Fatal(err)
	}
	both := []refs.Update{{Name: "refs/heads/pr/1", New: a.commit.ID()}, {Name: "refs/heads/main", New: a.commit.ID()}}
	if err := pr.Update(t.Context(), both...); !errors.Is(err, remote.ErrDenied) || !strings.Contains(err.Error(), "refs/heads/main") {
		t.Errorf("Update: %v", err)
	}
	if got := names(t, pr); len(got) > 0 {
		t.Errorf("refs: %v", got)
	}
	if err := pr.Update(t.Context(), both[0]); err != nil {
		t.Error(err)
	}
}

// TestSightFollowsRefs: what a ref does not lead to any more is out of sight, and
// what it has come to lead to is in it.
func TestSightFollowsRefs(t *testing.T) { eachStore(t, testSightFollowsRefs) }

func testSightFollowsRefs(t *testing.T, open func() server.Store) {
	s := servertest.Start(t, server.Options{Open: open})
	first, second := newEntry("first"), newEntry("second")
	fill(t, s, "refs/heads/main", first)
	fill(t, s, "refs/heads/secret", second)
	r := s.Client(s.Token(auth.Token{Rules: auth.Rules{Read: []string{"main"}}}), once)
	for range 2 {
		wantReadable(t, r, first.blob.ID(), true)
		wantReadable(t, r, second.blob.ID(), false)
	}
	move := func(from, to entry) {
		t.Helper()
		if err := s.Store.Update(t.Context(), refs.Update{Name: "refs/heads/main", Old: from.commit.ID(), New: to.commit.ID()}); err != nil {
			t.Fatal(err)
		}
	}
	move(first, second)
	wantReadable(t, r, first.blob.ID(), false)
	wantReadable(t, r, second.blob.ID(), true)
	move(second, first)
	wantReadable(t, r, first.blob.ID(), true)
	wantReadable(t, r, second.blob.ID(), false)
}

// TestNoNeighbours: objects lie in one block with others that a reader may not
// have, and trees are kept as differences to such.
func TestNoNeighbours(t *testing.T) { eachStore(t, testNoNeighbours) }

func testNoNeighbours(t *testing.T, open func() server.Store) {
	s := servertest.Start(t, server.Options{Open: open})
	var hidden, shown objects.Entries
	for i := range 200 {
		e := objects.Entry{Mode: objects.ModeFile, Name: fmt.Sprintf("%03d", i), ID: remotetest.Blob(fmt.Sprint(i)).ID()}
		hidden = append(hidden, e)
		if i != 100 {
			shown = append(shown, e)
		}
	}
	items := []remotetest.Item{}
	for i := range 200 {
		items = append(items, remotetest.Blob(fmt.Sprint(i)))
	}
	tree := func(e objects.Entries) remotetest.Item { return remotetest.Item{Type: pack.Tree, Body: e.Encode()} }
	a, b := remotetest.Commit(1, tree(hidden)), remotetest.Commit(2, tree(shown))
	remotetest.Upload(t, s.Store, append(items, tree(hidden), tree(shown), a, b)...)
	if err := s.Store.Update(t.Context(), refs.Update{Name: "refs/heads/secret", New: a.ID()}, refs.Update{Name: "refs/heads/main", New: b.ID()}); err != nil {
		t.Fatal(err)
	}
	r := s.Client(s.Token(auth.Token{Rules: auth.Rules{Read: []string{"main"}}}), once)
	body, err := r.Fetch(t.Context(), remote.Request{Want: []objects.ID{b.ID()}, Have: []objects.ID{tree(hidden).ID()}, Extent: remote.Closure})
	if err != nil {
		t.Fatal(err)
	}
	got, err := remotetest.Unpack(body)
	body.Close()
	if err != nil || len(got) != 201 {
		t.Errorf("%d objects, %v", len(got), err)
	}
	for _, id := range []objects.ID{items[100].ID(), tree(hidden).ID(), a.ID()} {
		if _, came := got[id]; came {
			t.Errorf("%s came along", id.Short())
		}
	}
}

// TestNoSmuggling: who may write a branch that he may read cannot get at what he
// knows only the id of, nor find out whether it is there, by pointing to it.
func TestNoSmuggling(t *testing.T) { eachStore(t, testNoSmuggling) }

func testNoSmuggling(t *testing.T, open func() server.Store) {
	s := servertest.Start(t, server.Options{Open: open})
	chunk := remotetest.Item{Type: pack.Chunk, Body: noise(1, 70_000)}
	big := objects.Sum(objects.Blob, chunk.Body)
	recipe := func(blob objects.ID, of remotetest.Item) remotetest.Item {
		return remotetest.Item{Type: pack.Recipe, Body: pack.AppendRecipe(nil, blob, 70_000, []pack.Piece{{ID: of.ID(), Size: 70_000}})}
	}
	secret := newEntry("secret")
	secretTree := remotetest.Item{Type: pack.Tree, Body: objects.Entries{{Mode: objects.ModeFile, Name: "big", ID: big}, {Mode: objects.ModeFile, Name: "small", ID: secret.blob.ID()}}.Encode()}
	secretCommit := remotetest.Commit(7, secretTree)
	remotetest.Upload(t, s.Store, chunk, recipe(big, chunk), secret.blob, secretTree, secretCommit)
	fill(t, s, "refs/heads/main", newEntry("main"))
	if err := s.Store.Update(t.Context(), refs.Update{Name: "refs/heads/secret", New: secretCommit.ID()}); err != nil {
		t.Fatal(err)
	}
	hidden := []objects.ID{big, chunk.ID(), secret.blob.ID(), secretTree.ID(), secretCommit.ID()}

	rules := auth.Rules{Read: []string{"main"}, Write: []string{"pr/*"}}
	thief, other := s.Client(s.Token(auth.Token{Rules: rules}), once), s.Client(s.Token(auth.Token{Rules: rules}), once)
	if missing, err := thief.Missing(t.Context(), hidden); err != nil || !slices.Equal(missing, hidden) {
		t.Errorf("Missing tells what is there: %d, %v", len(missing), err)
	}
	if missing, err := thief.MissingBases(t.Context(), hidden); err != nil || !slices.Equal(missing, hidden) {
		t.Errorf("MissingBases tells what is there: %d, %v", len(missing), err)
	}
	upload := func(r remote.Remote, items ...remotetest.Item) error {
		p := remotetest.Pack(t, items)
		return r.Upload(t.Context(), bytes.NewReader(p), int64(len(p)))
	}
	n := 0
	point := func(r remote.Remote, to objects.ID) error {
		n++
		return r.Update(t.Context(), refs.Update{Name: refs.Branch(fmt.Sprint("pr/", n)), New: to})
	}
	leadTo := func(mode objects.Mode, id objects.ID) error {
		tree := remotetest.Item{Type: pack.Tree, Body: objects.Entries{{Mode: mode, Name: "x", ID: id}}.Encode()}
		if err := upload(thief, tree, remotetest.Commit(1, tree)); err != nil {
			return err
		}
		return point(thief, remotetest.Commit(1, tree).ID())
	}
	// What is there is refused as what is not, word for word.
	same := func(what string, there, absent error) {
		t.Helper()
		if !errors.Is(there, objects.ErrNotFound) || fmt.Sprint(there) != fmt.Sprint(absent) {
			t.Errorf("%s: %v; of what is not there: %v", what, there, absent)
		}
	}
	same("commit", point(thief, secretCommit.ID()), point(thief, objects.ID{1}))
	same("tree", leadTo(objects.ModeDir, secretTree.ID()), leadTo(objects.ModeDir, objects.ID{1}))
	same("blob", leadTo(objects.ModeFile, secret.blob.ID()), leadTo(objects.ModeFile, objects.ID{1}))
	same("big blob", leadTo(objects.ModeFile, big), leadTo(objects.ModeFile, objects.ID{1}))
	same("blob as tree", leadTo(objects.ModeDir, secret.blob.ID()), leadTo(objects.ModeDir, objects.ID{1}))
	same("tree as blob", leadTo(objects.ModeFile, secretTree.ID()), leadTo(objects.ModeFile, objects.ID{1}))
	// Nor does he get it by way of what he has brought.
	for _, e := range []objects.Entry{{Mode: objects.ModeFile, ID: secret.blob.ID()}, {Mode: objects.ModeFile, ID: big}, {Mode: objects.ModeDir, ID: secretTree.ID()}} {
		e.Name = "x"
		inner := remotetest.Item{Type: pack.Tree, Body: objects.Entries{e}.Encode()}
		tree := remotetest.Item{Type: pack.Tree, Body: objects.Entries{{Mode: objects.ModeFile, Name: "file", ID: inner.ID()}}.Encode()}
		bait := remotetest.Commit(3, inner)
		child := remotetest.Commit(3, remotetest.Tree("file", remotetest.Blob("x")), secretCommit)
		if err := upload(thief, inner, tree, remotetest.Commit(3, tree), bait, remotetest.Blob("x"), remotetest.Tree("file", remotetest.Blob("x")), child); err != nil {
			t.Fatal(err)
		}
		if err := point(thief, remotetest.Commit(3, tree).ID()); err == nil {
			t.Errorf("a tree that is called a blob leads to %s", e.ID.Short())
		}
		for _, root := range []objects.ID{inner.ID(), tree.ID(), bait.ID(), remotetest.Commit(3, tree).ID(), child.ID()} {
			wantNothingOf(t, thief, root, hidden)
		}
	}
	if err := upload(thief, recipe(big, chunk)); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("recipe of a chunk that he has not: %v", err)
	}
	// Nor are lies believed about what the store has already.
	mine := remotetest.Item{Type: pack.Chunk, Body: noise(2, 70_000)}
	base := remotetest.Tree("a", remotetest.Blob("a"))
	lie := slices.Concat(idBytes(secretTree.ID()), idBytes(base.ID()))
	for what, items := range map[string][]remotetest.Item{
		"recipe": {mine, recipe(big, mine)},
		"delta":  {remotetest.Blob("a"), base, {Type: pack.Delta, Body: lie}},
	} {
		if err := upload(thief, items...); !errors.Is(err, pack.ErrBadPack) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, id := range hidden {
		wantReadable(t, thief, id, false)
	}

	// Who has it may bring it, and another who has the same rights has not.
	for what, r := range map[string]remote.Remote{"who brought it": thief, "somebody else": other} {
		if what == "who brought it" {
			if err := upload(r, chunk, recipe(big, chunk), secret.blob, secretTree, secretCommit); err != nil {
				t.Fatal(err)
			}
		}
		missing, err := r.Missing(t.Context(), hidden)
		if want := map[string]int{"who brought it": 0, "somebody else": 5}[what]; err != nil || len(missing) != want {
			t.Errorf("%s: %d missing, %v", what, len(missing), err)
		}
	}
	if err := point(other, secretCommit.ID()); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("somebody else: %v", err)
	}
	if err := point(thief, secretCommit.ID()); err != nil {
		t.Error(err)
	}
	wantReadable(t, other, big, true)
}

// TestOtherRecipes: somebody else has cut a big blob in another way, out of sight. That
// is no hindrance to who brings it, nor to who may read it.
func TestOtherRecipes(t *testing.T) { eachStore(t, testOtherRecipes) }

func testOtherRecipes(t *testing.T, open func() server.Store) {
	s := servertest.Start(t, server.Options{Open: open})
	body := noise(1, 140_000)
	big := objects.Sum(objects.Blob, body)
	tree := remotetest.Item{Type: pack.Tree, Body: objects.Entries{{Mode: objects.ModeFile, Name: "big", ID: big}}.Encode()}
	push := func(branch string, sizes ...uint32) {
		t.Helper()
		var items []remotetest.Item
		var pieces []pack.Piece
		rest := body
		for _, n := range sizes {
			chunk := remotetest.Item{Type: pack.Chunk, Body: rest[:n]}
			items, rest = append(items, chunk), rest[n:]
			pieces = append(pieces, pack.Piece{ID: chunk.ID(), Size: n})
		}
		recipe := remotetest.Item{Type: pack.Recipe, Body: pack.AppendRecipe(nil, big, int64(len(body)), pieces)}
		r := s.Client(s.Token(auth.Token{Rules: auth.Rules{Write: []string{branch}}}), once)
		remotetest.Upload(t, r, append(items, recipe, tree, remotetest.Commit(1, tree))...)
		if err := r.Update(t.Context(), refs.Update{Name: refs.Branch(branch), New: remotetest.Commit(1, tree).ID()}); err != nil {
			t.Errorf("%s: %v", branch, err)
		}
	}
	push("a", 70_000, 70_000)
	push("b", 80_000, 60_000)
	for _, branch := range []string{"a", "b"} {
		r := s.Client(s.Token(auth.Token{Rules: auth.Rules{Read: []string{branch}}}), once)
		fetch := func(ids ...objects.ID) map[objects.ID]remotetest.Item {
			body, err := r.Fetch(t.Context(), remote.Request{Want: ids})
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			got, err := remotetest.Unpack(body)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		recipe, err := pack.ParseRecipe(fetch(big)[big].Body)
		if err != nil {
			t.Fatal(err)
		}
		for i := range recipe.Len() {
			if id := recipe.Piece(i).ID; len(fetch(id)) != 1 {
				t.Errorf("%s: %s does not come", branch, id.Short())
			}
		}
	}
}

// TestForgotten: a server that was started again has forgotten who brought what.
// A push asks once more what is missing, and brings it again.
func TestForgotten(t *testing.T) {
	store := servertest.NewStore(t)
	s, again, r := startTwo(t, func() server.Store { return store })
	here, there := r(s), r(again)
	a := newEntry("a")
	remotetest.Upload(t, here, a.blob, a.tree, a.commit)
	remotetest.Upload(t, there, a.blob)
	update := refs.Update{Name: "refs/heads/pr/1", New: a.commit.ID()}
	if err := there.Update(t.Context(), update); !errors.Is(err, remote.ErrStale) {
		t.Errorf("Update: %v", err)
	}
	if missing, err := there.Missing(t.Context(), a.ids()); err != nil || len(missing) != 2 {
		t.Errorf("%d missing, %v", len(missing), err)
	}
	remotetest.Upload(t, there, a.tree, a.commit)
	if err := there.Update(t.Context(), update); err != nil {
		t.Error(err)
	}
}

// startTwo starts two servers of one store, and returns how somebody who may write pull
// requests talks to them.
func startTwo(t *testing.T, open func() server.Store) (s, other *servertest.Server, client func(*servertest.Server) *httpremote.Remote) {
	t.Helper()
	s = servertest.Start(t, server.Options{Open: open})
	other = servertest.Start(t, server.Options{Open: open, Tokens: s.Tokens})
	secret := s.Token(auth.Token{Rules: auth.Rules{Read: []string{"main"}, Write: []string{"pr/*"}}})
	return s, other, func(s *servertest.Server) *httpremote.Remote { return s.Client(secret, once) }
}

// TestRemembered: servers of a bucket know what was brought to another of them, and by
// whom.
func TestRemembered(t *testing.T) {
	b := new(remotetest.Memory)
	s, other, r := startTwo(t, func() server.Store { return newReplica(t, b).Store() })
	a := newEntry("a")
	entries := objects.Entries{{Mode: objects.ModeDir, Name: "tree", ID: a.tree.ID()}}
	for i := range 50 {
		entries = append(entries, objects.Entry{Mode: objects.ModeFile, Name: fmt.Sprint("x", i), ID: a.blob.ID()})
	}
	entries.Sort()
	base := remotetest.Item{Type: pack.Tree, Body: entries.Encode()}
	tree := remotetest.Item{Type: pack.Tree, Body: entries[1:].Encode()}
	delta, ok := pack.AppendDelta(nil, tree.ID(), tree.Body, base.ID(), base.Body, 1<<20)
	if !ok {
		t.Fatal("no delta")
	}
	thief := s.Client(s.Token(auth.Token{Rules: auth.Rules{Write: []string{"pr/*"}}}), once)
	steal := func(what string, items ...remotetest.Item) {
		t.Helper()
		p := remotetest.Pack(t, items)
		if err := thief.Upload(t.Context(), bytes.NewReader(p), int64(len(p))); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	commit := remotetest.Commit(1, tree)
	update := refs.Update{Name: "refs/heads/pr/1", New: commit.ID()}
	remotetest.Upload(t, r(s), a.blob, base)
	steal("a delta to what somebody else has brought", remotetest.Item{Type: pack.Delta, Body: delta})
	remotetest.Upload(t, r(other), remotetest.Item{Type: pack.Delta, Body: delta}, a.tree)
	remotetest.Upload(t, r(s), commit)
	if err := thief.Update(t.Context(), update); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("a ref to what somebody else has brought: %v", err)
	}
	remotetest.Upload(t, thief, commit) // the same pack
	if err := thief.Update(t.Context(), update); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("a ref to what somebody else has brought in part: %v", err)
	}
	if err := r(other).Update(t.Context(), update); err != nil {
		t.Error(err)
	}
}

// TestTokensChange: a running server sees what becomes of its tokens.
func TestTokensChange(t *testing.T) {
	s := servertest.Start(t, server.Options{})
	made, secret, err := s.Tokens.Create(t.Context(), auth.Token{Name: "ci", Rules: auth.Rules{Write: []string{"*"}}})
	if err != nil {
		t.Fatal(err)
	}
	r := s.Client(secret, once)
	if got := names(t, r); len(got) > 0 {
		t.Errorf("refs: %v", got)
	}
	if _, err := s.Tokens.Revoke(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	old := s.Token(auth.Token{Name: "old", Expires: time.Now().Add(-time.Hour), Rules: made.Rules})
	for _, tt := range []struct {
		token, want string
	}{
		{secret, "revoked"},
		{old, "expired: old, on "},
		{"", "no token"},
		{auth.TokenPrefix + "nonsense", "unknown token"},
	} {
		_, err := s.Client(tt.token, once).Missing(t.Context(), []objects.ID{{1}})
		if !errors.Is(err, remote.ErrDenied) || !strings.Contains(err.Error(), tt.want) || tt.token != "" && strings.Contains(err.Error(), tt.token) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	if log := s.Log(); strings.Contains(log, secret) || strings.Contains(log, old) {
		t.Error("the log tells secrets")
	}
}

// authority makes certificates for clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	a.cert, a.key = a.sign(t, "authority", time.Hour)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t *testing.T, name string, life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) client(t *testing.T, s *servertest.Server, name string, life time.Duration) *httpremote.Remote {
	t.Helper()
	cert, key := a.sign(t, name, life)
	config := s.TLS()
	config.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	return s.Client("", httpremote.Options{TLS: config, Tries: 1})
}

func TestClientCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	s := servertest.StartTLS(t, server.Options{}, ours.pool)
	main, pr := newEntry("main"), newEntry("pr")
	fill(t, s, "refs/heads/main", main)
	fill(t, s, "refs/heads/pr/1", pr)
	s.Token(auth.Token{Cert: "host7", Name: "build host", Rules: auth.Rules{Write: []string{"pr/*"}}})
	s.Token(auth.Token{Cert: "gone", Expires: time.Now().Add(-time.Hour), Rules: auth.Rules{Write: []string{"*"}}})

	host7 := ours.client(t, s, "host7", time.Hour)
	if got := names(t, host7); !slices.Equal(got, []string{"heads/pr/1"}) {
		t.Errorf("host7 sees %v", got)
	}
	wantMovable(t, host7, "refs/heads/pr/1", pr.commit.ID(), true)
	wantMovable(t, host7, "refs/heads/main", main.commit.ID(), false)
	if !strings.Contains(s.Log(), `who="build host"`) {
		t.Errorf("the log does not say who it was:\n%s", s.Log())
	}
	for what, r := range map[string]*httpremote.Remote{
		"a name without rules": ours.client(t, s, "host8", time.Hour),
		"expired rules":        ours.client(t, s, "gone", time.Hour),
		"no certificate":       s.Client("", once),
		"expired":              ours.client(t, s, "host7", -time.Minute),
		"another authority":    theirs.client(t, s, "host7", time.Hour),
	} {
		_, err := r.Missing(t.Context(), []objects.ID{{1}})
		// Some do not come through the handshake, and learn why if they are lucky.
		if broken := what == "expired" || what == "another authority"; err == nil || !broken && !errors.Is(err, remote.ErrDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestReflog: the reflog says who it was, whatever he says of himself.
func TestReflog(t *testing.T) {
	var got []refs.Update
	store := servertest.NewStore(t)
	s := servertest.Start(t, server.Options{Open: func() server.Store { return spy{store, &got} }})
	r := s.Client(s.Token(auth.Token{Name: "ci", Rules: auth.Rules{Write: []string{"*"}}}), once)
	for _, reason := range []string{"", "by hand\n\x1b[31m", strings.Repeat("long ", 1000)} {
		if err := r.Update(t.Context(), refs.Update{Name: "refs/heads/main", Reason: reason}); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range got {
		if !strings.HasPrefix(u.Reason, "push by ci:") || strings.ContainsAny(u.Reason, "\n\r") || len(u.Reason) > 1000 {
			t.Errorf("reason %q", u.Reason)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d updates", len(got))
	}
}

// A spy sees updates.
type spy struct {
	server.Store
	updates *[]refs.Update
}

func (s spy) UpdateCut(_ context.Context, _ []objects.ID, updates ...refs.Update) error {
	*s.updates = append(*s.updates, updates...)
	return nil
}

func idBytes(id objects.ID) []byte { return id[:] }
