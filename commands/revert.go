package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func revertCommand(s *session) *cli.Command {
	var p policyFlags
	var key, message string
	return &cli.Command{
		Name:      "revert",
		Category:  categoryHistory,
		Usage:     "take a bad commit or a bad entry out again",
		ArgsUsage: "COMMIT | --entry KEY",
		Description: text(`
Takes what COMMIT brought in out of the current branch, by a new commit. Entries
that were changed again since are conflicts (exit code 4): --ours keeps them as they
are, --theirs puts back what was there before COMMIT. With --entry KEY that one
entry goes back to the version before its last one, or out if there was none. What
is staged is committed first. Where history was cut off there is no version before.`, `
cache-tool revert --entry deps-linux`),
		Flags: append(p.flags(),
			&cli.StringFlag{Name: "entry", Usage: "take back the last change of the entry `KEY`", Destination: &key},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "the commit's `MESSAGE`", Destination: &message},
		),
		Action: func(c *cli.Context) error {
			policy, err := p.policy()
			if err != nil {
				return err
			}
			want := 1
			if key != "" {
				want = 0
			}
			if err := arguments(c, want, want); err != nil {
				return err
			}
			ctx := c.Context
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			branch, err := s.branch(ctx, r)
			if err != nil {
				return err
			}
			if key != "" {
				return s.revertEntry(ctx, r, branch, key, message)
			}
			commit, err := s.commitOf(ctx, r, c.Args().First())
			if err != nil {
				return err
			}
			merged, err := r.Revert(ctx, branch, commit, policy, message)
			if err != nil {
				return cutError(err)
			}
			return s.showMerged(ctx, r, merging{branch: branch, verb: "revert " + commit.Short(), policies: true}, merged)
		},
	}
}

// cutError says what can be done without the history that was cut off.
func cutError(err error) error {
	if !errors.Is(err, repo.ErrCut) {
		return err
	}
	return withHint(err, `"cache-tool rm KEY" takes an entry out, whenever it came in`, `"cache-tool log --oneline" shows how far back history goes`)
}

// revertEntry puts one entry back to what it was before its last change.
func (s *session) revertEntry(ctx context.Context, r *repo.Repo, branch refs.Name, key, message string) error {
	if _, _, err := r.FoldStage(ctx, branch, ""); err != nil {
		return err
	}
	tip, root, err := r.Tip(ctx, branch)
	if err != nil {
		return err
	}
	if tip.IsZero() {
		return fmt.Errorf("branch %s has no commit yet", branch.Short())
	}
	last, path, err := s.lastChange(ctx, r, tip, key)
	if err != nil {
		return err
	}
	before, err := treeBefore(ctx, r, last)
	if err != nil {
		return cutError(err)
	}
	old, err := idAt(ctx, r, before, path)
	if err != nil {
		return err
	}
	now, err := idAt(ctx, r, root, path)
	if err != nil {
		return err
	}
	id := old
	if id.IsZero() {
		id = now
	}
	kind, _, err := entry.ParsePath(path)
	if err != nil {
		return err
	}
	whole, err := entry.Key(ctx, r.DB, path, id)
	if err != nil {
		return err
	}
	ch, err := r.Change(ctx, branch, odb.BatchOptions{})
	if err != nil {
		return err
	}
	defer ch.Close()
	if old.IsZero() {
		ch.Delete(kind, whole)
	} else {
		ch.Set(kind, whole, old)
	}
	if message == "" {
		message = fmt.Sprintf("Revert %s %s\n\nThis puts it back to what it was before commit %s.", kind, whole, last.ID)
	}
	tip, changed, err := ch.Commit(ctx, message)
	if err != nil {
		return err
	}
	return s.showMerged(ctx, r, merging{branch: branch, verb: "revert " + shownPath(kind, whole)}, repo.Merged{Tip: tip, Changed: changed})
}

// lastChange returns the newest commit that changed the entry of key, and where
// the entry stands.
func (s *session) lastChange(ctx context.Context, r *repo.Repo, tip objects.ID, key string) (repo.Commit, string, error) {
	for c, err := range r.Log(ctx, tip) {
		if err != nil {
			return repo.Commit{}, "", err
		}
		for _, path := range keyPaths([]string{key}) {
			touched, err := touches(ctx, r, c, []string{path})
			if err != nil || touched {
				return c, path, err
			}
		}
	}
	return repo.Commit{}, "", withHint(fmt.Errorf("%s: no commit of this branch has changed it: %w", shown(key), trees.ErrNoPath),
		`"cache-tool ls -R" shows the keys`)
}

func resetCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "reset",
		Category:  categoryHistory,
		Usage:     "move the current branch to another commit, or empty its stage",
		ArgsUsage: "[REV]",
		Description: text(`
Moves the current branch to REV and leaves what is staged as it is. The reflog keeps
what the branch was: "cache-tool reset main@{1}" undoes a reset. Without REV it drops
what is staged for the branch.`, `
cache-tool reset main~1`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 1); err != nil {
				return err
			}
			ctx := c.Context
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			branch, err := s.branch(ctx, r)
			if err != nil {
				return err
			}
			if c.NArg() == 0 {
				return s.emptyStage(ctx, r, branch)
			}
			commit, err := s.commitOf(ctx, r, c.Args().First())
			if err != nil {
				return err
			}
			merged, err := r.Reset(ctx, branch, commit)
			if err != nil {
				return err
			}
			return s.showMerged(ctx, r, merging{branch: branch, verb: "reset"}, merged)
		},
	}
}

// emptyStage drops what is staged.
func (s *session) emptyStage(ctx context.Context, r *repo.Repo, branch refs.Name) error {
	staged, err := r.Staged(ctx, branch)
	if err != nil {
		return err
	}
	n := len(staged)
	if err := r.Stage(branch).Drop(ctx); err != nil {
		return err
	}
	if s.json {
		return s.answer(struct {
			Branch  string `json:"branch"`
			Dropped int    `json:"dropped"`
		}{branch.Short(), n})
	}
	if n == 0 {
		s.say("nothing was staged for %s", shown(branch.Short()))
	} else {
		s.say("dropped %s staged for %s", counted(n, "entry"), shown(branch.Short()))
	}
	return nil
}
