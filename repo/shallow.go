package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// Shallow returns the commits whose parents were cut off. They are kept as Git
// keeps them, in the file shallow, an id a line.
func (r *Repo) Shallow() (map[objects.ID]bool, error) {
	text, err := os.ReadFile(r.path("shallow"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	shallow := map[objects.ID]bool{}
	for line := range strings.Lines(string(text)) {
		id, err := objects.ParseID(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.path("shallow"), err)
		}
		shallow[id] = true
	}
	return shallow, nil
}

// EditShallow changes which commits count as those whose parents were cut off. It
// is durable on return; others who edit wait.
//
// A commit is put in before a ref leads to it. So whoever takes out those that no ref
// leads to holds packs/lock exclusively, and looks at the refs after that.
func (r *Repo) EditShallow(ctx context.Context, edit func(shallow map[objects.ID]bool)) error {
	lock, err := durable.LockExclusive(ctx, r.path("shallow.lock"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	before, err := r.Shallow()
	if err != nil {
		return err
	}
	after := maps.Clone(before)
	if after == nil {
		after = map[objects.ID]bool{}
	}
	edit(after)
	if maps.Equal(before, after) {
		return nil
	}
	var text strings.Builder
	for _, id := range slices.SortedFunc(maps.Keys(after), objects.ID.Compare) {
		fmt.Fprintf(&text, "%s\n", id)
	}
	return durable.WriteFile(r.path("shallow"), []byte(text.String()), durable.Synced)
}
