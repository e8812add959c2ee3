package commands

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func diffCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Category:  categoryHistory,
		Usage:     "show what differs between two versions",
		ArgsUsage: "[REV [REV]] [--] [KEY]",
		Description: text(`
Shows which entries were added (A), replaced (M) and deleted (D) between two
versions; with KEY, which files within that entry. With one REV it is compared with
the tip of the current branch, without any the tip is compared with the stage.
OLD..NEW is the same as OLD NEW.`, `
cache-tool diff main~1 main deps`),
		Action: func(c *cli.Context) error {
			ctx := c.Context
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			d, err := s.parseDiff(ctx, r, c.Args().Slice())
			if err != nil {
				return err
			}
			switch {
			case d.key != "":
				return s.diffKey(ctx, r, d)
			case d.stage:
				return s.showEntries(d, func(fn func(entryChange) error) error {
					return stagedChanges(ctx, r, d.branch, fn)
				})
			}
			a, err := treeAt(ctx, r, d.old)
			if err != nil {
				return err
			}
			b, err := treeAt(ctx, r, d.new)
			if err != nil {
				return err
			}
			return s.showEntries(d, func(fn func(entryChange) error) error {
				return diffEntries(ctx, r, a, b, fn)
			})
		},
	}
}

// treeAt returns the tree of a commit, the empty one where there is none yet.
func treeAt(ctx context.Context, r *repo.Repo, commit objects.ID) (objects.ID, error) {
	if commit.IsZero() {
		return objects.EmptyTree, nil
	}
	c, err := objects.ReadCommit(ctx, r.DB, commit)
	return c.Tree, err
}

// A diffing is what diff was asked to compare.
type diffing struct {
	old, new objects.ID // commits; zero: there is none yet
	stage    bool       // the tip with the stage, and not old with new
	branch   refs.Name
	key      string
}

func (s *session) parseDiff(ctx context.Context, r *repo.Repo, args []string) (diffing, error) {
	var d diffing
	var err error
	if d.branch, err = s.branch(ctx, r); err != nil {
		return d, err
	}
	var ends []objects.ID
	before := s.beforeDashes(args)
	for len(before) > 0 && len(ends) < 2 {
		more, err := s.resolveRange(ctx, r, before[0])
		if errors.Is(err, refs.ErrNotFound) {
			break // it must be the key
		} else if err != nil {
			return d, err
		}
		ends = append(ends, more...)
		before, args = before[1:], args[1:]
	}
	if len(ends) > 2 || len(args) > 1 {
		return d, usagef("want at most two revisions and one key")
	}
	if len(args) == 1 {
		d.key = args[0]
	}
	d.stage = len(ends) == 0
	if len(ends) < 2 {
		tip, _, err := r.Tip(ctx, d.branch)
		if err != nil {
			return d, err
		}
		ends = append(ends, tip, tip)[:2]
	}
	d.old, d.new = ends[0], ends[1]
	return d, nil
}

func (s *session) showEntries(d diffing, each func(func(entryChange) error) error) error {
	if !s.json {
		return each(func(e entryChange) error {
			s.printEntryChange(e)
			return nil
		})
	}
	list, err := s.list(nil, "changes")
	if err != nil {
		return err
	}
	return list.end(each(func(e entryChange) error { return list.add(e) }))
}

// stagedChanges calls fn for each staged record that differs from the branch.
func stagedChanges(ctx context.Context, r *repo.Repo, branch refs.Name, fn func(entryChange) error) error {
	records, err := r.Staged(ctx, branch)
	if err != nil {
		return err
	}
	_, root, err := r.Tip(ctx, branch)
	if err != nil {
		return err
	}
	for _, record := range records {
		kind, key, err := entry.ParsePath(record.Path)
		if err != nil {
			continue
		}
		old, err := idAt(ctx, r, root, record.Path)
		if err != nil {
			return err
		}
		if old == record.ID {
			continue
		}
		e := entryChange{Status: "M", Kind: kind, Key: key}
		if !old.IsZero() {
			e.Old = &old
		} else {
			e.Status = "A"
		}
		at := record.ID
		if !record.ID.IsZero() {
			e.New = &record.ID
		} else {
			e.Status, at = "D", old
		}
		if whole, err := entry.Key(ctx, r.DB, record.Path, at); err == nil {
			e.Key = whole
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// diffKey shows the files that differ within one entry.
func (s *session) diffKey(ctx context.Context, r *repo.Repo, d diffing) error {
	find := func(v view) (repo.Found, error) {
		found, err := findEntry(ctx, r, v, d.key)
		if errors.Is(err, objects.ErrNotFound) && !errors.As(err, new(*objects.DamagedError)) {
			return repo.Found{}, nil
		}
		return found, err
	}
	at := func(commit objects.ID) view { return view{rev: commit.Short(), commit: commit} }
	var a, b repo.Found
	var err error
	if !d.old.IsZero() {
		if a, err = find(at(d.old)); err != nil {
			return err
		}
	}
	after := at(d.new)
	if d.stage {
		after = view{scope: []refs.Name{d.branch}}
	}
	if b, err = find(after); err != nil {
		return err
	}
	if a.ID.IsZero() && b.ID.IsZero() {
		return withHint(errors.New(shown(d.key)+": neither a revision nor a key that either side has"),
			`"cache-tool branch --list" and "cache-tool tag" show revisions, "cache-tool ls -R" keys`)
	}
	if !s.json {
		return diffFiles(ctx, r, a.ID, b.ID, func(f fileChange) error {
			s.printFileChange(f)
			return nil
		})
	}
	list, err := s.list(struct {
		Key string `json:"key"`
	}{d.key}, "files")
	if err != nil {
		return err
	}
	return list.end(diffFiles(ctx, r, a.ID, b.ID, func(f fileChange) error { return list.add(f) }))
}
