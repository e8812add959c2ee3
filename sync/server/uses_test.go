package server_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

// A notingStore remembers uses.
type notingStore struct {
	server.Store
	mu    sync.Mutex
	noted uses.Table // guarded by mu
}

func (s *notingStore) NoteUses(_ context.Context, t uses.Table) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noted.Merge(t)
	return nil
}

// TestUsesTakeTheRightToWrite: some branch, whichever.
func TestUsesTakeTheRightToWrite(t *testing.T) {
	store := &notingStore{Store: servertest.NewStore(t), noted: uses.Table{}}
	s := servertest.Start(t, server.Options{Open: func() server.Store { return store }})
	for i, tt := range []struct {
		rules auth.Rules
		may   bool
	}{
		{auth.Rules{Write: []string{"*"}}, true},
		{auth.Rules{Read: []string{"main"}, Write: []string{"pr/*"}}, true},
		{auth.Rules{Read: []string{"*"}}, false},
	} {
		table := uses.Table{uint64(i): 20000}
		err := s.Client(s.Token(auth.Token{Rules: tt.rules}), once).NoteUses(t.Context(), table)
		if (err == nil) != tt.may || err != nil && !errors.Is(err, remote.ErrDenied) {
			t.Errorf("%v: %v", tt.rules, err)
		}
		if _, noted := store.noted[uint64(i)]; noted != tt.may {
			t.Errorf("%v: noted is %v", tt.rules, noted)
		}
	}
	if err := s.Client("", once).NoteUses(t.Context(), uses.Table{9: 20000}); !errors.Is(err, remote.ErrDenied) {
		t.Errorf("nobody: %v", err)
	}
	if want := (uses.Table{0: 20000, 1: 20000}); !maps.Equal(store.noted, want) {
		t.Errorf("noted %v", store.noted)
	}
	// More than may be are cut to the newest by the client.
	many := uses.Table{}
	for i := range uint64(remote.MaxUses + 10) {
		many[i] = 20001 + int32(i%2)
	}
	if err := s.Client(s.Admin(), once).NoteUses(t.Context(), many); err != nil {
		t.Error(err)
	}
	if len(store.noted) != remote.MaxUses {
		t.Errorf("%d are noted, want %d", len(store.noted), remote.MaxUses)
	}
}
