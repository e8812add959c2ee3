package remotetest

import (
	"context"
	"errors"
	"testing"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// testUses tells a remote of uses. What it makes of that is for its gc.
func testUses(t *testing.T, open func() remote.Remote) {
	r, ok := open().(remote.UseNoter)
	if !ok {
		t.Skip("it notes no uses")
	}
	many := uses.Table{}
	for i := range uint64(remote.MaxUses) {
		many[i<<40] = 20000
	}
	for _, table := range []uses.Table{{}, {1: 20000, 2: 20001}, {1: 20000, 2: 20001}, many} {
		if err := r.NoteUses(t.Context(), table); err != nil {
			t.Errorf("%d uses: %v", len(table), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.NoteUses(ctx, many); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if all := allRefs(t, open(), ""); len(all) > 0 {
		t.Errorf("there are refs: %v", all)
	}
}
