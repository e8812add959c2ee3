package commands

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func mergeCommand(s *session) *cli.Command {
	var p policyFlags
	var message string
	return &cli.Command{
		Name:      "merge",
		Category:  categoryHistory,
		Usage:     "bring another version into the current branch",
		ArgsUsage: "REV",
		Description: text(`
Brings the entries of REV into the current branch, compared with what both come
from. Entries are taken whole: added on either side is kept, deleted on one side
and untouched on the other is deleted. The same key with other bytes on both sides
is a conflict: nothing changes, the keys are named, and the exit code is 4; --ours,
--theirs or --newest settle it. What is staged is committed first.`, `
cache-tool merge pr-17 --newest`),
		Flags: append(p.flags(), &cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "the commit's `MESSAGE`", Destination: &message}),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 1); err != nil {
				return err
			}
			policy, err := p.policy()
			if err != nil {
				return err
			}
			ctx, rev := c.Context, c.Args().First()
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			branch, err := s.branch(ctx, r)
			if err != nil {
				return err
			}
			theirs, err := s.commitOf(ctx, r, rev)
			if err != nil {
				return err
			}
			if message == "" {
				message = fmt.Sprintf("Merge %s into %s", rev, branch.Short())
			}
			merged, err := r.Merge(ctx, branch, theirs, policy, message)
			if err != nil {
				return err
			}
			return s.showMerged(ctx, r, merging{branch: branch, verb: "merge " + rev, policies: true}, merged)
		},
	}
}

// policyFlags are the ways to settle a conflict.
type policyFlags struct{ ours, theirs, newest bool }

func (p *policyFlags) flags() []cli.Flag {
	return []cli.Flag{
		boolFlag(&p.ours, "in a conflict keep the current branch's entry", "ours"),
		boolFlag(&p.theirs, "in a conflict take the other entry", "theirs"),
		boolFlag(&p.newest, "in a conflict take the entry that was made last", "newest"),
	}
}

func (p *policyFlags) policy() (repo.Policy, error) {
	policy, n := repo.Report, 0
	for _, choice := range []struct {
		set    bool
		policy repo.Policy
	}{{p.ours, repo.Ours}, {p.theirs, repo.Theirs}, {p.newest, repo.Newest}} {
		if choice.set {
			policy = choice.policy
			n++
		}
	}
	if n > 1 {
		return policy, usagef("only one of --ours, --theirs and --newest")
	}
	return policy, nil
}

// A merging says what showMerged shows the result of.
type merging struct {
	branch   refs.Name
	verb     string
	policies bool // whether --ours and so on would settle a conflict
}

// A mergedJSON is what --json says of a merge, a revert or a reset.
type mergedJSON struct {
	Branch      string         `json:"branch"`
	Commit      *objects.ID    `json:"commit,omitempty"`
	Changed     bool           `json:"changed"`
	FastForward bool           `json:"fastForward,omitempty"`
	Conflicts   []conflictJSON `json:"conflicts,omitempty"`
}

type conflictJSON struct {
	Kind   entry.Kind  `json:"kind"`
	Key    string      `json:"key"`
	Base   *objects.ID `json:"base,omitempty"` // none: it was not there
	Ours   *objects.ID `json:"ours,omitempty"`
	Theirs *objects.ID `json:"theirs,omitempty"`
}

// showMerged says what a merge came to; conflicts become an error.
func (s *session) showMerged(ctx context.Context, r *repo.Repo, m merging, merged repo.Merged) error {
	document := mergedJSON{Branch: m.branch.Short(), Changed: merged.Changed, FastForward: merged.FastForward}
	if !merged.Tip.IsZero() {
		document.Commit = &merged.Tip
	}
	for _, c := range merged.Conflicts {
		document.Conflicts = append(document.Conflicts, describeConflict(ctx, r, c.Path, c.Base, c.Ours, c.Theirs))
	}
	if s.json {
		if err := s.answer(document); err != nil {
			return err
		}
	}
	if len(merged.Conflicts) > 0 {
		return conflictsError(m, document.Conflicts)
	}
	switch {
	case !merged.Changed:
		s.say("nothing to do: %s is at %s", shown(m.branch.Short()), merged.Tip.Short())
	case merged.FastForward:
		s.say("fast-forward: %s is at %s", shown(m.branch.Short()), merged.Tip.Short())
	default:
		s.say("%s: %s is at %s", m.verb, shown(m.branch.Short()), merged.Tip.Short())
	}
	return nil
}

func describeConflict(ctx context.Context, r *repo.Repo, path string, base, ours, theirs objects.Entry) conflictJSON {
	kind, key, err := entry.ParsePath(path)
	if err != nil {
		key = path
	}
	c := conflictJSON{Kind: kind, Key: key}
	for _, side := range []struct {
		e  objects.Entry
		to **objects.ID
	}{{base, &c.Base}, {ours, &c.Ours}, {theirs, &c.Theirs}} {
		if side.e.Mode == 0 {
			continue
		}
		*side.to = &side.e.ID
		if whole, err := entry.Key(ctx, r.DB, path, side.e.ID); err == nil {
			c.Key = whole
		}
	}
	return c
}

// conflictsError names the entries in conflict, a line each.
func conflictsError(m merging, conflicts []conflictJSON) error {
	const most = 20
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s changed on both sides; nothing was changed", m.verb, counted(len(conflicts), "entry"))
	for i, c := range conflicts {
		if i == most {
			fmt.Fprintf(&b, "\n  and %d more", len(conflicts)-most)
			break
		}
		how := "other bytes on both sides"
		switch {
		case c.Ours == nil:
			how = "deleted here, changed there"
		case c.Theirs == nil:
			how = "changed here, deleted there"
		}
		fmt.Fprintf(&b, "\n  %s: %s", shown(shownPath(c.Kind, c.Key)), how)
	}
	err := &conflictError{text: b.String()}
	if m.policies {
		err.hints = []string{"--ours, --theirs or --newest settles them"}
	}
	return err
}
