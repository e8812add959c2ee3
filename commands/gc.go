package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/gc"
)

func gcCommand(s *session) *cli.Command {
	var g collecting
	return &cli.Command{
		Name:     "gc",
		Category: categoryRepo,
		Usage:    "drop what is not needed any more, and give its space back",
		Description: text(`
Drops what no branch, tag or staged entry leads to, and before that, as far as asked
for: branches that nobody moves, history that is old, entries that nobody uses. What
was not used for longest goes first, then what was made first. What tags and protected
branches hold stays. In a repository with a remote, what goes because of its size or
age is fetched from there when it is needed again; in one without, a commit takes it
out. Others may read and write meanwhile.

With --remote all that is done to a bucket: a directory on a share or WebDAV. What is
not needed any more there is deleted by the first gc after the grace.

An AGE is a number and s, m, h, d or w, or "never"; a SIZE is a number of bytes such as
500MB, 10GB or 2GiB. Without an option the setting of that name holds: see "config list".`, `
cache-tool gc --max-size 10GB --dry-run`),
		Flags: []cli.Flag{
			boolFlag(&g.dryRun, "only say what would be dropped", "dry-run", "n"),
			g.flag("max-size", "gc.maxSize", "SIZE", "how much may stay; with less room than protected entries need, all others go and the exit code is 1"),
			g.flag("max-age", "gc.maxAge", "AGE", "drop entries that nobody used for AGE"),
			g.flag("keep-history", "gc.keepHistory", "AGE", "drop versions that were replaced or removed before AGE"),
			g.flag("branch-ttl", "gc.branchTTL", "AGE", "drop branches that nobody moved for AGE; the default branch stays"),
			g.flag("protected", "gc.protected", "GLOBS", "drop nothing of the branches that GLOBS match, parted by commas"),
			g.flag("grace", "gc.grace", "AGE", "keep what nobody needs for AGE: a push may be about to name it"),
			&cli.StringFlag{Name: "remote", Usage: "collect the bucket that is the remote `NAME`, not this repository", Destination: &g.remote},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			r, err := s.open(c.Context)
			if err != nil {
				return err
			}
			o, err := g.options(r)
			if err != nil {
				return err
			}
			if g.remote != "" {
				return s.collectThere(c.Context, r, g.remote, o)
			}
			return s.collect(c.Context, r, o)
		},
	}
}

// collecting is what was asked for, in place of settings.
type collecting struct {
	dryRun bool
	remote string
	given  map[string]string // values of settings
}

// flag makes an option that stands for a setting.
func (g *collecting) flag(name, setting, value, usage string) cli.Flag {
	return &cli.StringFlag{
		Name:  name,
		Usage: fmt.Sprintf("%s `%s`", usage, value),
		Action: func(_ *cli.Context, text string) error {
			if g.given == nil {
				g.given = map[string]string{}
			}
			g.given[setting] = text
			return nil
		},
	}
}

// options are the settings, and what was given in place of them.
func (g *collecting) options(r *repo.Repo) (repo.CollectOptions, error) {
	for name, value := range g.given {
		if err := r.Config.Override(name, value); err != nil {
			return repo.CollectOptions{}, usagef("%v", err)
		}
	}
	o := r.CollectSettings()
	o.DryRun = g.dryRun
	return o, nil
}

func (s *session) collect(ctx context.Context, r *repo.Repo, o repo.CollectOptions) error {
	bar := s.progress("gc", "pack")
	o.Done = func(n int64) { bar.Done(1, n) }
	began := time.Now()
	sum, err := r.Collect(ctx, o)
	bar.stop()
	if broken := (*gc.BrokenError)(nil); errors.As(err, &broken) {
		return withHint(fmt.Errorf("nothing was dropped: %w", err), `what is missing may lead to more that is needed: "cache-tool fsck --repair" first`)
	}
	if err != nil {
		return err
	}
	if s.json {
		if err := s.answer(collectedOf(sum, o.DryRun)); err != nil {
			return err
		}
	} else {
		s.tellCollected(sum, o, time.Since(began))
	}
	return tooBig(sum, o)
}

// tooBig is the error that says why the store is bigger than was asked for.
func tooBig(sum repo.Collected, o repo.CollectOptions) error {
	if o.MaxSize == 0 || sum.SizeAfter <= o.MaxSize {
		return nil
	}
	text := fmt.Sprintf("%s stay, more than %s", size(sum.SizeAfter), size(o.MaxSize))
	if held := holding(sum.Holds); held != "" {
		text += ": " + held + " must stay"
	}
	if sum.Young > 0 && sum.SizeAfter-sum.Young <= o.MaxSize {
		return withHint(errors.New(text), fmt.Sprintf("what nobody needs stays for %s: --grace 0 drops it now", o.Grace))
	}
	return withHint(errors.New(text), "delete tags, change gc.protected, commit what is staged or push what only this repository has")
}

// holding says what must stay, and how much that is.
func holding(holds []gc.Hold) string {
	var parts []string
	for _, h := range holds {
		parts = append(parts, fmt.Sprintf("%s %s", h.What, size(h.Bytes)))
	}
	return strings.Join(parts, ", ")
}

// A collectedJSON is what --json says.
type collectedJSON struct {
	DryRun     bool        `json:"dryRun"`
	Branches   []gc.Branch `json:"branches"`
	Evicted    int         `json:"evictedEntries"`
	Promised   bool        `json:"promised,omitempty"` // the remote has what was evicted
	Objects    int         `json:"droppedObjects"`
	Bytes      int64       `json:"droppedBytes"`
	Dead       int64       `json:"wastedBytes"` // of what nobody needs, and is not worth a rewrite
	Packs      int         `json:"droppedPacks"`
	Rewritten  int         `json:"rewrittenPacks"`
	KeptBytes  int64       `json:"keptBytes"`
	SizeBefore int64       `json:"sizeBefore"`
	SizeAfter  int64       `json:"sizeAfter"`
	Holds      []gc.Hold   `json:"holds,omitempty"`
}

func collectedOf(sum repo.Collected, dryRun bool) collectedJSON {
	return collectedJSON{
		DryRun: dryRun, Branches: sum.Branches, Evicted: sum.Evicted, Promised: sum.Shed && sum.Evicted > 0,
		Objects: sum.Objects, Bytes: sum.Swept.Bytes, Dead: sum.Dead, Packs: sum.Removed, Rewritten: sum.Rewritten,
		KeptBytes: sum.Plan.Bytes, SizeBefore: sum.SizeBefore, SizeAfter: sum.SizeAfter, Holds: sum.Holds,
	}
}

// tellCollected says what was kept and dropped, branch by branch.
func (s *session) tellCollected(sum repo.Collected, o repo.CollectOptions, took time.Duration) {
	for _, b := range sum.Branches {
		if line := branchLine(b, sum.Shed); line != "" {
			s.say("%s", line)
		}
	}
	verb := "dropped"
	if o.DryRun {
		verb = "would drop"
	}
	text := fmt.Sprintf("%s %s in %s: %s -> %s", verb, counted(sum.Objects, "object"), counted(sum.Removed, "pack"), size(sum.SizeBefore), size(sum.SizeAfter))
	if !o.DryRun {
		text += fmt.Sprintf(", %.1f s", took.Seconds())
	}
	if sum.Dead > 0 {
		text += fmt.Sprintf("; %s of waste are not worth a rewrite", size(sum.Dead))
	}
	s.say("%s", text)
}

func branchLine(b gc.Branch, shed bool) string {
	name := shown(b.Ref.Short())
	if b.Expired {
		return fmt.Sprintf("%s: dropped, idle: %s, %s, %s", name, counted(b.EvictedEntries, "entry"), counted(b.DroppedCommits, "commit"), size(b.DroppedBytes))
	}
	line := fmt.Sprintf("%s: kept %s, %s, %s", name, counted(b.Entries, "entry"), counted(b.Commits, "commit"), size(b.Bytes))
	if b.EvictedEntries+b.DroppedCommits == 0 {
		return line
	}
	what := "dropped"
	if shed && b.EvictedEntries > 0 {
		what = "left to the remote"
	}
	return line + fmt.Sprintf("; %s %s, %s, %s", what, counted(b.EvictedEntries, "entry"), counted(b.DroppedCommits, "commit"), size(b.DroppedBytes))
}
