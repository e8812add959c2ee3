package repo_test

import (
	"maps"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/uses"
)

// What others know is noted once, and not of days that nobody can know of.
func TestNoteUses(t *testing.T) {
	r := newRepo(t)
	today := uses.Today(time.Now())
	for _, tt := range []struct{ told, want uses.Table }{
		{uses.Table{1: today, 2: today - 5}, uses.Table{1: today, 2: today - 5}},
		{uses.Table{1: today - 1, 2: today}, uses.Table{1: today, 2: today}},
		{uses.Table{3: today + 1, 4: today + 2}, uses.Table{1: today, 2: today, 3: today + 1}},
	} {
		if err := r.NoteUses(t.Context(), tt.told); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Uses(); err != nil || !maps.Equal(got, tt.want) {
			t.Errorf("told %v: %v, %v, want %v", tt.told, got, err, tt.want)
		}
	}
}
