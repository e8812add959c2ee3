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
	text, err := r.readShallow()
	if err != nil || text == "" {
		return nil, err
	}
	shallow, bad := parseShallow(text)
	if len(bad) > 0 {
		return nil, fmt.Errorf("%s: %.80q is no id", r.path("shallow"), bad[0])
	}
	return shallow, nil
}

// readShallow returns the text of the file; empty if there is none.
func (r *Repo) readShallow() (string, error) {
	text, err := os.ReadFile(r.path("shallow"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return string(text), err
}

// parseShallow returns the commits that the text names, and the lines that name none.
func parseShallow(text string) (shallow map[objects.ID]bool, bad []string) {
	shallow = map[objects.ID]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if id, err := objects.ParseID(line); err == nil {
			shallow[id] = true
		} else {
			bad = append(bad, line)
		}
	}
	return shallow, bad
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
	return r.writeShallow(after)
}

// writeShallow replaces the file. The caller has the lock.
func (r *Repo) writeShallow(shallow map[objects.ID]bool) error {
	var text strings.Builder
	for _, id := range slices.SortedFunc(maps.Keys(shallow), objects.ID.Compare) {
		fmt.Fprintf(&text, "%s\n", id)
	}
	return durable.WriteFile(r.path("shallow"), []byte(text.String()), durable.Synced)
}

// replaceShallow replaces a file that is damaged, if it is still what was read.
func (r *Repo) replaceShallow(ctx context.Context, was string, shallow map[objects.ID]bool) error {
	lock, err := durable.LockExclusive(ctx, r.path("shallow.lock"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if text, err := r.readShallow(); err != nil || text != was {
		return err
	}
	return r.writeShallow(shallow)
}
