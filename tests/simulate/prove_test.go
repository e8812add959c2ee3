package simulate

import (
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// TestProofFindsLosses: a machine that says it has pushed, and has not, is found out, and
// so is a bucket that has forgotten a pack.
func TestProofFindsLosses(t *testing.T) {
	w := &work{team: Team{Shared: true, Entries: 1}, dir: test.Dir(t), bucket: new(remotetest.Memory)}
	if err := w.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pushed = []int{-1}
	if err := w.prove(t.Context()); err != nil {
		t.Errorf("what was pushed is lost: %v", err)
	}
	w.pushed, w.dir = []int{-1, 7}, test.Dir(t)
	if err := w.prove(t.Context()); err == nil || !strings.Contains(err.Error(), "LOST") {
		t.Errorf("what was never pushed is found: %v", err)
	}
	w.dir = test.Dir(t)
	for info, err := range w.bucket.List(t.Context(), "packs") {
		if err != nil {
			t.Fatal(err)
		}
		if err := w.bucket.Delete(t.Context(), info.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.prove(t.Context()); err == nil || !strings.Contains(err.Error(), "clone all") {
		t.Errorf("what is gone is found: %v", err)
	}
}
