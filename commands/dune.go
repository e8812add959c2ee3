package commands

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/commands/run"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/frontend/dune"
)

func duneCommand(s *session) *cli.Command {
	var message string
	return &cli.Command{
		Name:      "dune",
		Category:  categoryCache,
		Usage:     "carry the shared cache of the build system Dune",
		ArgsUsage: "push [REMOTE] | pull [REMOTE] | status | wrap [REMOTE] -- COMMAND [ARGUMENT…]",
		Description: text(`
Dune (OCaml) has a cache of what its rules made, in a directory of the user. "push"
commits what is new there to the current branch, and sends that to REMOTE; "pull"
brings the branch from REMOTE, and writes into the directory what it lacks. Without
REMOTE both work with the local repository. "status" counts what each side lacks.

"wrap" does a pull, runs COMMAND with Dune's cache turned on, and does a push. The exit
code is that of COMMAND; 127 or 126 if it could not be started. Whatever is wrong with
the cache is a warning, and COMMAND runs all the same. DUNE_CACHE and
DUNE_CACHE_TRANSPORT stay as they are, if they are set.

Every file is proven to be what its name says before it is stored, and again before
Dune can see it. What is in the directory is never replaced, and what Dune removed
from it to make room stays in the branch.`, `
cache-tool dune wrap -- dune build @all`),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "say why in the commit's `MESSAGE`", Destination: &message},
		},
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			verb := c.Args().First()
			if verb == "wrap" {
				return s.wrapDune(c.Context, args, message)
			}
			if err := arguments(c, 1, 2); err != nil {
				return err
			}
			run := map[string]func(context.Context, *duneWork, string) error{
				"push": func(ctx context.Context, w *duneWork, remote string) error {
					return s.pushDune(ctx, w, remote, message)
				},
				"pull": s.pullDune, "status": s.duneStatus,
			}[verb]
			if run == nil || verb == "status" && len(args) > 1 {
				return usagef("%q: want push, pull, status or wrap", strings.Join(args, " "))
			}
			open := s.openToWrite
			if verb == "status" {
				open = s.open
			}
			w, err := s.openDune(c.Context, open)
			if err != nil {
				return err
			}
			return run(c.Context, w, c.Args().Get(1))
		},
	}
}

func duneWords(_ context.Context, _ *session, args []string, _ string) []string {
	if len(args) > 0 {
		return nil
	}
	return []string{
		"push\tcommit what is new in Dune's cache", "pull\twrite into Dune's cache what it lacks",
		"status\tcount what each side lacks", "wrap\tpull, run a command, push",
	}
}

// A duneWork is one branch, and Dune's cache on this machine.
type duneWork struct {
	repo   *repo.Repo
	branch refs.Name
	cache  *dune.Cache
}

func (s *session) openDune(ctx context.Context, open func(context.Context) (*repo.Repo, error)) (*duneWork, error) {
	cache, err := findDune(ctx)
	if err != nil {
		return nil, err
	}
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	branch, err := s.branch(ctx, r)
	return &duneWork{r, branch, cache}, err
}

func findDune(ctx context.Context) (*dune.Cache, error) {
	return dune.Find(os.Getenv, func() string { return duneVersion(ctx) })
}

// duneVersion asks Dune, if there is one.
func duneVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "dune", "--version").Output()
	return string(out)
}

// duneEntries returns those of the branches that the branch is read through. One that
// several have comes from the first.
func (s *session) duneEntries(ctx context.Context, w *duneWork) (map[dune.Key]dune.Found, error) {
	scope, err := w.repo.Scope(ctx, w.branch)
	if err != nil {
		return nil, err
	}
	entries := map[dune.Key]dune.Found{}
	for _, branch := range scope {
		for found, err := range w.repo.Entries(ctx, branch, dune.Kind) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				s.warn("look through %s: %v", branch.Short(), err)
				break
			}
			key, ok := dune.ParseKey(found.Key)
			if _, twice := entries[key]; ok && !twice {
				entries[key] = dune.Found{Key: key, ID: found.ID}
			}
		}
	}
	return entries, nil
}

// A carriedJSON is what --json says of a push or a pull.
type carriedJSON struct {
	Branch  string `json:"branch"`
	Remote  string `json:"remote,omitempty"`
	Commit  string `json:"commit,omitempty"` // the branch's tip
	Entries int    `json:"entries"`          // carried now
	Files   int    `json:"files"`            // of them, that were not there already
	Bytes   int64  `json:"bytes"`
	Skipped int    `json:"skipped"` // entries that are damaged or incomplete
	Stored  int    `json:"stored"`  // entries in the branch and those that it is read through, afterwards
}

func carried(w *duneWork, report dune.Report) carriedJSON {
	return carriedJSON{
		Branch:  w.branch.Short(),
		Entries: report.Entries, Files: report.Files, Bytes: report.Bytes, Skipped: report.Skipped,
	}
}

// String is the line that says what was carried.
func (c carriedJSON) String() string {
	line := fmt.Sprintf("%s, %s, %s", counted(c.Entries, "entry"), counted(c.Files, "file"), size(c.Bytes))
	if c.Skipped > 0 {
		line += fmt.Sprintf(", %d skipped", c.Skipped)
	}
	return line
}

func (s *session) duneOptions(bar *meter) dune.Options {
	return dune.Options{Meter: bar.meter(), Warn: func(err error) { s.warn("%v", err) }}
}

func (s *session) pushDune(ctx context.Context, w *duneWork, remote, message string) error {
	done, err := s.collectDune(ctx, w, message)
	if err != nil {
		return err
	}
	if err := s.pushTo(ctx, w.repo, remote, w.branch); err != nil {
		return err
	}
	done.Remote = remote
	if s.json {
		return s.answer(done)
	}
	s.say("%s", pushedLine(done))
	return nil
}

func pushedLine(done carriedJSON) string {
	to := ""
	if done.Remote != "" {
		to = " to " + shown(done.Remote)
	}
	if done.Entries == 0 {
		line := fmt.Sprintf("pushed nothing new%s: %s has %s", to, done.Branch, counted(done.Stored, "entry"))
		if done.Skipped > 0 {
			line += fmt.Sprintf(", %d skipped", done.Skipped)
		}
		return line
	}
	return fmt.Sprintf("pushed%s: %s %s, %s", to, done.Branch, done.Commit[:12], done)
}

// collectDune commits what is new in Dune's cache. Of what the branch has it reads
// the names only.
func (s *session) collectDune(ctx context.Context, w *duneWork, message string) (carriedJSON, error) {
	done := carried(w, dune.Report{})
	known, err := s.duneEntries(ctx, w)
	if err != nil {
		return done, err
	}
	done.Stored = len(known)
	keys, err := s.freshKeys(ctx, w, known)
	if err != nil || len(keys) == 0 {
		return done, err
	}
	ch, err := w.repo.Change(ctx, w.branch, odb.BatchOptions{BlockSize: odb.BigBlock})
	if err != nil {
		return done, err
	}
	defer ch.Close()
	bar := s.progress("dune push", "file")
	found, report, err := w.cache.Collect(ctx, ch.Batch, keys, run.NewMeta(), s.duneOptions(bar))
	bar.stop()
	if err != nil {
		return done, err
	}
	done = carried(w, report)
	done.Stored = len(known)
	if len(found) == 0 {
		return done, nil
	}
	for _, f := range found {
		ch.Set(dune.Kind, f.Key.String(), f.ID)
		if _, again := known[f.Key]; !again {
			done.Stored++
		}
	}
	if message == "" {
		message = "dune: " + counted(len(found), "entry")
	}
	tip, _, err := ch.Commit(ctx, message)
	done.Commit = tip.String()
	return done, err
}

// freshKeys returns what is in Dune's cache and not known, or may be incomplete in
// the store.
func (s *session) freshKeys(ctx context.Context, w *duneWork, known map[dune.Key]dune.Found) ([]dune.Key, error) {
	keys, err := w.cache.Keys()
	if err != nil {
		return nil, err
	}
	var fresh []dune.Key
	var stored []dune.Found
	for key := range keys {
		if found, ok := known[key]; ok {
			stored = append(stored, found)
		} else {
			fresh = append(fresh, key)
		}
	}
	lost := w.repo.DB.LastLoss()
	if lost.IsZero() {
		return fresh, nil
	}
	doubtful, err := dune.Doubtful(ctx, w.repo.DB, stored, lost)
	for key := range doubtful {
		fresh = append(fresh, key)
	}
	return fresh, err
}

func (s *session) pullDune(ctx context.Context, w *duneWork, remote string) error {
	if err := s.pullFrom(ctx, w.repo, remote, w.branch); err != nil {
		return err
	}
	done, err := s.deliverDune(ctx, w)
	if err != nil {
		return err
	}
	done.Remote = remote
	if s.json {
		return s.answer(done)
	}
	s.say("%s", pulledLine(done))
	return nil
}

func pulledLine(done carriedJSON) string {
	from := ""
	if done.Remote != "" {
		from = " from " + shown(done.Remote)
	}
	if done.Entries == 0 && done.Skipped == 0 {
		return fmt.Sprintf("pulled nothing new%s: Dune's cache has all of the %s of %s", from, counted(done.Stored, "entry"), done.Branch)
	}
	return fmt.Sprintf("pulled%s: %s", from, done)
}

// deliverDune writes into Dune's cache what the branch has and it lacks.
func (s *session) deliverDune(ctx context.Context, w *duneWork) (carriedJSON, error) {
	stored, err := s.duneEntries(ctx, w)
	if err != nil {
		return carriedJSON{}, err
	}
	keys, err := w.cache.Keys()
	if err != nil {
		return carriedJSON{}, err
	}
	var lacking []dune.Found
	for key, found := range stored {
		if !keys[key] {
			lacking = append(lacking, found)
		}
	}
	bar := s.progress("dune pull", "file")
	report, err := w.cache.Deliver(ctx, w.repo.DB, lacking, s.duneOptions(bar))
	bar.stop()
	done := carried(w, report)
	done.Stored = len(stored)
	return done, err
}

func (s *session) duneStatus(ctx context.Context, w *duneWork, _ string) error {
	known, err := s.duneEntries(ctx, w)
	if err != nil {
		return err
	}
	keys, err := w.cache.Keys()
	if err != nil {
		return err
	}
	both := 0
	for key := range keys {
		if _, ok := known[key]; ok {
			both++
		}
	}
	if s.json {
		return s.answer(struct {
			Cache  []string `json:"cache"` // its directories
			Branch string   `json:"branch"`
			Local  int      `json:"local"`  // entries in the cache
			Stored int      `json:"stored"` // in the branch and those that it is read through
			Both   int      `json:"both"`
		}{w.cache.Roots(), w.branch.Short(), len(keys), len(known), both})
	}
	s.printf("%s: %s, %d of them not on %s\n", strings.Join(shownAll(w.cache.Roots()), ", "), counted(len(keys), "entry"), len(keys)-both, w.branch.Short())
	s.printf("%s: %s, %d of them not in Dune's cache\n", w.branch.Short(), counted(len(known), "entry"), len(known)-both)
	return nil
}

func shownAll(names []string) []string {
	all := slices.Clone(names)
	for i := range all {
		all[i] = shown(all[i])
	}
	return all
}
