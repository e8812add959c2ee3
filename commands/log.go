package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func logCommand(s *session) *cli.Command {
	var count int
	var oneline bool
	return &cli.Command{
		Name:      "log",
		Category:  categoryHistory,
		Usage:     "show the commits, newest first",
		ArgsUsage: "[REV] [--] [KEY…]",
		Description: text(`
Shows who added what, when and from where: the commits that REV reaches, or the
current branch. REV may be a range, OLD..NEW. With KEYs it shows those commits
only that changed one of these entries. Where history was cut off, the commit is marked
"history cut", and counts as the one that added all that it has.`, `
cache-tool log --oneline -5 main -- deps`),
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "n", Aliases: []string{"max-count"}, Usage: "stop after `COUNT` commits", Destination: &count, Value: -1, DefaultText: "all"},
			boolFlag(&oneline, "show each commit on one line", "oneline"),
		},
		Action: func(c *cli.Context) error {
			ctx := c.Context
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			rev, keys, err := s.revAndKeys(ctx, r, c.Args().Slice())
			if err != nil {
				return err
			}
			names, err := decorations(ctx, r)
			if err != nil {
				return err
			}
			commits, err := s.commits(ctx, r, rev)
			if err != nil {
				return err
			}
			show := func(c repo.Commit) error {
				if oneline {
					s.printf("%s%s %s\n", c.ID.Short(), decoration(c, names[c.ID]), printable(c.Subject()))
				} else {
					s.printCommit(c, names[c.ID])
				}
				return nil
			}
			if s.json {
				list, err := s.list(nil, "commits")
				if err != nil {
					return err
				}
				show = func(c repo.Commit) error { return list.add(describeCommit(c, names[c.ID])) }
				return list.end(eachCommit(ctx, r, commits, keys, count, show))
			}
			first := true
			return eachCommit(ctx, r, commits, keys, count, func(c repo.Commit) error {
				if !first && !oneline {
					s.printf("\n")
				}
				first = false
				return show(c)
			})
		},
	}
}

// revAndKeys parts "[REV] [--] [KEY…]". Without the dashes a first word that
// names no revision is a key.
func (s *session) revAndKeys(ctx context.Context, r *repo.Repo, args []string) (rev string, keys []string, err error) {
	before := s.beforeDashes(args)
	if len(before) > 0 {
		_, err := s.resolveRange(ctx, r, before[0])
		switch {
		case err == nil:
			rev, args, before = before[0], args[1:], before[1:]
		case !errors.Is(err, refs.ErrNotFound):
			return "", nil, err
		case len(args) > len(before) || !s.isKey(ctx, r, before[0]):
			return "", nil, withHint(fmt.Errorf("%s: neither a revision nor a key", shown(before[0])),
				`"cache-tool branch --list" and "cache-tool tag" show revisions, "cache-tool ls -R" keys`)
		}
	}
	if len(before) > 0 && len(args) > len(before) {
		return "", nil, usagef("%s: keys stand after --", shown(before[0]))
	}
	return rev, args, nil
}

// beforeDashes returns those of args that stood before "--".
func (s *session) beforeDashes(args []string) []string {
	if s.dashes >= 0 && s.dashes < len(args) {
		return args[:s.dashes]
	}
	return args
}

// isKey reports whether name was ever said to be a key: an entry of that key is
// in the current scope. One that was removed stands after "--".
func (s *session) isKey(ctx context.Context, r *repo.Repo, name string) bool {
	v, rest, err := s.viewOf(ctx, r, ":"+name)
	if err != nil {
		return false
	}
	_, err = findEntry(ctx, r, v, rest)
	return err == nil
}

// resolveRange returns the ends of "OLD..NEW", or of one revision.
func (s *session) resolveRange(ctx context.Context, r *repo.Repo, rev string) (ends []objects.ID, err error) {
	oldRev, newRev, isRange := strings.Cut(rev, "..")
	if !isRange {
		id, err := r.Resolve(ctx, rev)
		return []objects.ID{id}, err
	}
	for _, rev := range []string{oldRev, newRev} {
		id, err := s.commitOf(ctx, r, rev)
		if err != nil {
			return nil, err
		}
		ends = append(ends, id)
	}
	return ends, nil
}

// commits returns the commits of a revision, a range or the current branch.
func (s *session) commits(ctx context.Context, r *repo.Repo, rev string) (iter.Seq2[repo.Commit, error], error) {
	if rev == "" {
		tip, err := s.commitOf(ctx, r, "")
		if err != nil {
			return nil, err
		}
		return r.Log(ctx, tip), nil
	}
	ends, err := s.resolveRange(ctx, r, rev)
	if err != nil {
		return nil, err
	}
	if len(ends) == 1 {
		return r.Log(ctx, ends[0]), nil
	}
	old := map[objects.ID]bool{}
	for c, err := range r.Log(ctx, ends[0]) {
		if err != nil {
			return nil, err
		}
		old[c.ID] = true
	}
	return func(yield func(repo.Commit, error) bool) {
		for c, err := range r.Log(ctx, ends[1]) {
			if err == nil && old[c.ID] {
				continue
			}
			if !yield(c, err) {
				return
			}
		}
	}, nil
}

// eachCommit calls fn with those of commits that changed one of keys, at most
// count of them unless that is negative.
func eachCommit(ctx context.Context, r *repo.Repo, commits iter.Seq2[repo.Commit, error], keys []string, count int, fn func(repo.Commit) error) error {
	paths := keyPaths(keys)
	for c, err := range commits {
		if count == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if len(paths) > 0 {
			touched, err := touches(ctx, r, c, paths)
			if err != nil {
				return err
			}
			if !touched {
				continue
			}
		}
		if err := fn(c); err != nil {
			return err
		}
		count--
	}
	return nil
}

// keyPaths returns where the entries that keys can mean stand.
func keyPaths(keys []string) []string {
	var paths []string
	for _, key := range keys {
		for _, kind := range personal {
			paths = append(paths, entry.Path(kind, key))
		}
		if kind, rest, ok := strings.Cut(key, "/"); ok && rest != "" && entry.Kind(kind).Valid() {
			paths = append(paths, entry.Path(entry.Kind(kind), rest))
		}
	}
	return paths
}

// touches reports whether c has at one of paths what none of its parents has. Where
// history was cut off all that is there counts as new, as it does for Git.
func touches(ctx context.Context, r *repo.Repo, c repo.Commit, paths []string) (bool, error) {
	parents := []objects.ID{objects.EmptyTree}
	if len(c.Parents) > 0 && !c.Cut {
		parents = parents[:0]
		for _, p := range c.Parents {
			body, err := objects.ReadCommit(ctx, r.DB, p)
			if err != nil {
				return false, err
			}
			parents = append(parents, body.Tree)
		}
	}
	for _, path := range paths {
		is, err := idAt(ctx, r, c.Tree, path)
		if err != nil {
			return false, err
		}
		everywhere := len(parents) > 0
		for _, parent := range parents {
			was, err := idAt(ctx, r, parent, path)
			if err != nil {
				return false, err
			}
			everywhere = everywhere && was != is
		}
		if everywhere {
			return true, nil
		}
	}
	return false, nil
}

// idAt returns what stands at path, or zero.
func idAt(ctx context.Context, r *repo.Repo, root objects.ID, path string) (objects.ID, error) {
	e, err := trees.Lookup(ctx, r.DB, root, path)
	if errors.Is(err, trees.ErrNoPath) {
		return objects.ID{}, nil
	}
	return e.ID, err
}
