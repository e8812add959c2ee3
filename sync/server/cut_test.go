package server_test

import (
	"errors"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

// TestRightsToCut: who may not write cuts nothing off, nobody hides what is there, and
// nobody comes to read what he may not.
func TestRightsToCut(t *testing.T) { eachStore(t, testRightsToCut) }

func testRightsToCut(t *testing.T, open func() server.Store) {
	s := servertest.Start(t, server.Options{Open: open})
	blob := remotetest.Blob("a")
	tree := remotetest.Tree("a", blob)
	secret := remotetest.Commit(1, tree)
	next := remotetest.Commit(2, tree, secret)
	remotetest.Upload(t, s.Store, blob, tree, secret)
	if err := s.Store.Update(t.Context(), refs.Update{Name: "refs/heads/secret", New: secret.ID()}); err != nil {
		t.Fatal(err)
	}
	move := func(r remote.Cutter, name refs.Name, to remotetest.Item) error {
		return r.UpdateCut(t.Context(), []objects.ID{to.ID()}, refs.Update{Name: name, New: to.ID()})
	}
	reader := s.Client(s.Token(auth.Token{Rules: auth.Rules{Read: []string{"*"}}}), once)
	if err := move(reader, "refs/heads/x", secret); !errors.Is(err, remote.ErrDenied) {
		t.Errorf("a reader: %v", err)
	}
	guest := s.Client(s.Token(auth.Token{Rules: auth.Rules{Write: []string{"guest/*"}}}), once)
	remotetest.Upload(t, guest, blob, tree, next)
	if err := move(guest, "refs/heads/main", next); !errors.Is(err, remote.ErrDenied) {
		t.Errorf("another's branch: %v", err)
	}
	if err := move(guest, "refs/heads/guest/x", next); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("history that leads to what he may not read: %v", err)
	}
	wantReadable(t, guest, secret.ID(), false)
	remotetest.WantShallow(t, s.Store)

	// What lacks its beginning everywhere is cut off, and others see that only if they see
	// the commit.
	lost := remotetest.Commit(4, tree, remotetest.Commit(3, tree))
	remotetest.Upload(t, guest, lost)
	if err := move(guest, "refs/heads/guest/x", lost); err != nil {
		t.Error(err)
	}
	remotetest.WantShallow(t, guest, lost)
	remotetest.WantShallow(t, s.Store, lost)
	other := s.Client(s.Token(auth.Token{Rules: auth.Rules{Read: []string{"secret"}}}), once)
	remotetest.WantShallow(t, other)

	admin := s.Client(s.Admin(), once)
	remotetest.Upload(t, admin, next)
	if err := move(admin, "refs/heads/main", next); err != nil {
		t.Error(err)
	}
	remotetest.WantShallow(t, admin, lost)
}
