package repo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

// RestoreOptions say where and how an entry is put back. The zero value works.
type RestoreOptions struct {
	Base   string // where base/… goes; the working directory if empty
	To     string // if set, everything goes below it: base/… itself, home/… to home, abs/… to abs
	Delete bool   // remove what the entry lacks from the directories that it restores
	DryRun bool   // change nothing
	Note   func(worktree.Change)
	Meter  worktree.Meter
}

// Restore puts the save entry id back where it came from. What is right already
// is left alone. If an object is missing or damaged, which is an
// objects.ErrNotFound, nothing on disk is changed.
func (r *Repo) Restore(ctx context.Context, id objects.ID, o RestoreOptions) (worktree.Report, error) {
	layout, err := newPlaces(o.Base)
	if err != nil {
		return worktree.Report{}, err
	}
	if err := r.bring(ctx, id); err != nil {
		return worktree.Report{}, err
	}
	payload, meta, err := entry.Read(ctx, r.DB, id)
	if err != nil {
		return worktree.Report{}, err
	}
	if meta.Kind != entry.Save {
		return worktree.Report{}, fmt.Errorf("entry %s is of kind %s: only what was saved can be restored", id.Short(), meta.Kind)
	}
	var targets []worktree.Target
	for _, files := range meta.Files {
		t, err := layout.target(files.Path, o.To)
		if err != nil {
			return worktree.Report{}, err
		}
		e, err := r.lookupPayload(ctx, payload, files.Path)
		if err != nil {
			return worktree.Report{}, err
		}
		t.Mode, t.ID, t.Modes, t.Times = e.Mode, e.ID, files.Modes, files.Times
		if t.WithGit, err = r.holdsGit(ctx, e, t); err != nil {
			return worktree.Report{}, err
		}
		targets = append(targets, t)
	}
	report, err := worktree.Restore(ctx, r.DB, targets, worktree.RestoreOptions{
		Delete: o.Delete, DryRun: o.DryRun, Keep: []string{r.Dir}, Note: o.Note, Cache: r.Stat(), Meter: o.Meter,
	})
	if err != nil {
		r.noteLoss(err)
		return report, err
	}
	r.flushStat(ctx)
	return report, nil
}

// lookupPayload returns what stands at path in the payload of an entry.
func (r *Repo) lookupPayload(ctx context.Context, payload objects.Entries, path string) (objects.Entry, error) {
	first, rest, _ := strings.Cut(path, "/")
	e, ok := payload.Find(first)
	if !ok {
		return e, fmt.Errorf("malformed entry: its meta speaks of %q, which it lacks", path)
	}
	if rest == "" {
		return e, nil
	}
	return trees.Lookup(ctx, r.DB, e.ID, rest)
}

// target returns where the part of an entry at path goes: path is one of those
// that places.name makes, escaped.
func (p places) target(path, to string) (worktree.Target, error) {
	first, rest, _ := strings.Cut(path, "/")
	names := strings.Split(rest, "/")
	for i := range names {
		names[i] = entry.UnescapeName(names[i])
	}
	dir := map[string]string{entry.BaseName: p.base, entry.HomeName: p.home, entry.AbsName: "/"}[first]
	if to != "" {
		dir = map[string]string{entry.BaseName: to, entry.HomeName: filepath.Join(to, "home"), entry.AbsName: filepath.Join(to, "abs")}[first]
	}
	if dir == "" && first == entry.HomeName {
		return worktree.Target{}, errors.New("the entry holds files of a home directory, and there is none: set HOME, or use --to")
	}
	if dir == "" {
		return worktree.Target{}, fmt.Errorf("malformed entry: part %q", path)
	}
	return worktree.Target{Dir: dir, Name: strings.Join(names, "/")}, nil
}

// holdsGit reports whether the .git right in a target is part of the entry. The
// one of the work tree around us never is.
func (r *Repo) holdsGit(ctx context.Context, e objects.Entry, t worktree.Target) (bool, error) {
	if !e.Mode.IsDir() || isWorkTree(filepath.Join(t.Dir, t.Name)) {
		return false, nil
	}
	tree, err := objects.ReadTree(ctx, r.DB, e.ID)
	if err != nil {
		return false, err
	}
	_, holds := tree.Find(entry.EscapeName(".git", objects.ModeDir))
	return holds, nil
}

// isWorkTree reports whether dir is the top of the Git work tree that the
// process works in.
func isWorkTree(dir string) bool {
	root, _ := findGit(".")
	return root != "" && root == dir
}
