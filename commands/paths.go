package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/repo"
)

// What people type and read is KIND/KEY and KIND/KEY/NAME…; the fan-out between
// kind and key, and the escapes of names that Git refuses, stay out of sight.

// shownPath is how an entry is called: "save/deps".
func shownPath(kind entry.Kind, key string) string { return string(kind) + "/" + key }

// errNotThere is a path that leads to nothing: to `cat` a miss.
var errNotThere = fmt.Errorf("not there: %w", objects.ErrNotFound)

// A target is what a path leads to: an entry, or something inside one.
type target struct {
	repo.Found
	inside string        // the path within the entry, as its trees have it; empty for the entry itself
	entry  objects.Entry // what stands there
}

// String returns the path as a person would type it.
func (t target) String() string {
	if t.inside == "" {
		return shownPath(t.Kind, t.Key)
	}
	return shownPath(t.Kind, t.Key) + "/" + unescapePath(t.inside)
}

// find follows "KIND/KEY" or "KIND/KEY/NAME…" in the view. A key may hold slashes:
// the longest one that is an entry counts.
func find(ctx context.Context, r *repo.Repo, v view, path string) (target, error) {
	kindName, rest, _ := strings.Cut(path, "/")
	kind := entry.Kind(kindName)
	if !kind.Valid() || rest == "" {
		return target{}, fmt.Errorf("%s: %w", shown(path), errNotThere)
	}
	for end := len(rest); end > 0; end = strings.LastIndexByte(rest[:end], '/') {
		key, inside := rest[:end], strings.Trim(rest[end:], "/")
		if key == "" {
			break
		}
		found, err := lookup(ctx, r, v, kind, key)
		if errors.Is(err, objects.ErrNotFound) {
			continue
		} else if err != nil {
			return target{}, err
		}
		t := target{Found: found, entry: objects.Entry{Mode: objects.ModeDir, ID: found.ID}}
		if inside == "" {
			return t, nil
		}
		if t.inside, t.entry, err = descend(ctx, r.DB, found.ID, inside); err == nil {
			return t, nil
		} else if !errors.Is(err, objects.ErrNotFound) {
			return target{}, err
		}
	}
	return target{}, fmt.Errorf("%s: %w", shown(path), errNotThere)
}

// descend looks up what people call path below the tree root.
func descend(ctx context.Context, r objects.Reader, root objects.ID, path string) (string, objects.Entry, error) {
	at := objects.Entry{Mode: objects.ModeDir, ID: root}
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if !at.Mode.IsDir() {
			return "", at, trees.ErrNoPath
		}
		tree, err := objects.ReadTree(ctx, r, at.ID)
		if err != nil {
			return "", at, err
		}
		e, ok := tree.Find(entry.EscapeName(name, 0))
		if !ok { // Git refuses some names only as those of symlinks
			e, ok = tree.Find(entry.EscapeName(name, objects.ModeSymlink))
		}
		if !ok {
			return "", at, trees.ErrNoPath
		}
		names, at = append(names, e.Name), e
	}
	return strings.Join(names, "/"), at, nil
}

// unescapePath returns the path that people see.
func unescapePath(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	names := strings.Split(path, "/")
	for i, name := range names {
		names[i] = entry.UnescapeName(name)
	}
	return strings.Join(names, "/")
}

// personal are the kinds that people name by their key alone.
var personal = []entry.Kind{entry.Save, entry.Put}

// findEntry finds the entry that a person means by "KEY" or "KIND/KEY".
func findEntry(ctx context.Context, r *repo.Repo, v view, name string) (repo.Found, error) {
	var all []repo.Found
	for _, kind := range personal {
		switch found, err := lookup(ctx, r, v, kind, name); {
		case err == nil:
			all = append(all, found)
		case !errors.Is(err, objects.ErrNotFound):
			return repo.Found{}, err
		}
	}
	if kind, key, ok := strings.Cut(name, "/"); ok && entry.Kind(kind).Valid() && key != "" && len(all) == 0 {
		switch found, err := lookup(ctx, r, v, entry.Kind(kind), key); {
		case err == nil:
			all = append(all, found)
		case !errors.Is(err, objects.ErrNotFound):
			return repo.Found{}, err
		}
	}
	switch len(all) {
	case 0:
		return repo.Found{}, fmt.Errorf("%s: not in %s: %w", shown(name), v, objects.ErrNotFound)
	case 1:
		return all[0], nil
	}
	return repo.Found{}, usagef("%s is a saved entry and a value: name save/%s or put/%s", shown(name), shown(name), shown(name))
}
