package commands

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/action"
)

func statsCommand(s *session) *cli.Command {
	var by cli.StringSlice
	var o statsOptions
	return &cli.Command{
		Name:     "stats",
		Category: categoryLook,
		Usage:    "show how much is stored, what it saves, and how often it hit",
		Description: text(`
Shows the entries of the current branch by kind; what all versions of all entries
that history has would take as plain files, what is left of that when everything is
stored once, cut into chunks and compressed; and how often the last runs hit.

--by branch shows what each branch takes, and what of it no other has; --by client
and --by age the versions of each client's entries, and those that were made at about
the same time; --by day the runs of each day. --largest and --unused look at the
entries of the current branch: those that no run, restore or get took since.`, `
cache-tool stats
cache-tool stats --by client --by day --largest 10`),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "by", Usage: "show more: branch, client, age or day", Destination: &by},
			&cli.IntFlag{Name: "largest", Usage: "show the `N` largest entries", Destination: &o.largest, DefaultText: "none"},
			boolFlag(&o.unused, "show entries that were never used", "unused"),
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			o.by = map[string]bool{}
			for _, word := range by.Value() {
				if !slices.Contains([]string{"branch", "client", "age", "day"}, word) {
					return usagef("--by %s: want branch, client, age or day", shown(word))
				}
				o.by[word] = true
			}
			if o.largest < 0 {
				return usagef("--largest %d: want a number of entries", o.largest)
			}
			r, err := s.open(c.Context)
			if err != nil {
				return err
			}
			st := &stats{Repository: r.Dir, Entries: []kindStats{}, s: s, r: r, o: o, now: time.Now()}
			ctx := odb.Local(c.Context) // nothing is fetched to be counted
			for _, gather := range []func(context.Context) error{st.refs, st.entries, st.objects, st.versions, st.runs, st.branches} {
				if err := gather(ctx); err != nil {
					return err
				}
			}
			if s.json {
				return s.answer(st)
			}
			return st.print()
		},
	}
}

// statsOptions say what is shown besides what is always shown.
type statsOptions struct {
	by      map[string]bool
	largest int
	unused  bool
}

// stats are what the command shows.
type stats struct {
	Repository string      `json:"repository"`
	Branches   int         `json:"branches"`
	Tags       int         `json:"tags"`
	Branch     string      `json:"branch"`
	Entries    []kindStats `json:"entries"` // of the branch, with its stage

	Objects map[string]int `json:"objects"` // how many of each kind
	Packs   int            `json:"packs"`

	Versions     int     `json:"versions"`         // of entries, in all of history
	OriginalSize int64   `json:"originalSize"`     // of their files, each counted wherever it stands
	DistinctSize int64   `json:"distinctSize"`     // of the files that are stored, each content once
	UniqueSize   int64   `json:"uniqueSize"`       // of the blobs and chunks that are stored, before compression
	StoredSize   int64   `json:"storedSize"`       // of the packs and their indexes
	Compressed   int64   `json:"compressionSaves"` // bytes, of all that is in packs
	Dedup        float64 `json:"dedup,omitempty"`
	Compression  float64 `json:"compression,omitempty"`

	Runs *runStats `json:"runs,omitempty"`

	ByBranch []branchStats  `json:"byBranch,omitempty"`
	ByClient []versionStats `json:"byClient,omitempty"`
	ByAge    []versionStats `json:"byAge,omitempty"`
	ByDay    []dayStats     `json:"byDay,omitempty"`
	Largest  []entryStats   `json:"largest,omitempty"`
	Unused   *unusedStats   `json:"unused,omitempty"`

	s    *session
	r    *repo.Repo
	o    statsOptions
	now  time.Time
	tips map[refs.Name]objects.ID // commits of branches and tags
}

type kindStats struct {
	Kind    entry.Kind `json:"kind"`
	Entries int        `json:"entries"`
}

// warn tells of what could not be counted; what a lazy repository lacks is no matter.
func (st *stats) warn(format string, args ...any) {
	if !st.r.IsLazy() {
		st.s.warn(format, args...)
	}
}

func (st *stats) refs(ctx context.Context) error {
	st.tips = map[refs.Name]objects.ID{}
	for ref, err := range st.r.Refs.All(ctx, "refs/") {
		if err != nil {
			st.warn("%v", err)
			continue
		}
		id := ref.ID
		if ref.Name.IsTag() {
			st.Tags++
			if tag, err := objects.ReadTag(ctx, st.r.DB, id); err == nil {
				id = tag.Object
			}
		} else if ref.Name.IsBranch() {
			st.Branches++
		}
		st.tips[ref.Name] = id
	}
	return nil
}

// entries counts those of the current branch, and weighs them if that is asked for.
func (st *stats) entries(ctx context.Context) error {
	branch, err := st.s.branch(ctx, st.r)
	if err != nil {
		return err
	}
	st.Branch = branch.Short()
	uses, err := st.uses()
	if err != nil {
		return err
	}
	counts := map[entry.Kind]int{}
	err = st.eachEntry(ctx, branch, func(all []fan) error {
		for _, f := range all {
			counts[f.kind]++
		}
		if st.o.largest == 0 && uses == nil {
			return nil
		}
		return st.weighEach(ctx, all, uses)
	})
	for kind, n := range counts {
		st.Entries = append(st.Entries, kindStats{kind, n})
	}
	slices.SortFunc(st.Entries, func(a, b kindStats) int { return cmp.Compare(a.Kind, b.Kind) })
	return err
}

// eachEntry calls fn with some entries of a branch at a time, the stage over the branch.
func (st *stats) eachEntry(ctx context.Context, branch refs.Name, fn func([]fan) error) error {
	records, err := st.r.Staged(ctx, branch)
	if err != nil {
		return err
	}
	var staged []fan
	hidden := make(map[string]bool, len(records))
	for _, record := range records {
		hidden[record.Path] = true
		if kind, _, err := entry.ParsePath(record.Path); err == nil && !record.ID.IsZero() {
			staged = append(staged, fan{id: record.ID, kind: kind, path: record.Path})
		}
	}
	_, root, err := st.r.Tip(ctx, branch)
	if err != nil {
		return err
	}
	w := fanWalk{db: st.r.DB, warn: st.warn, paths: len(hidden) > 0 || st.o.largest > 0 || st.o.unused}
	w.entries = func(all []fan) error {
		return fn(slices.DeleteFunc(all, func(f fan) bool { return hidden[f.path] }))
	}
	if !root.IsZero() && root != objects.EmptyTree {
		if err := w.walk(ctx, []fan{{id: root}}); err != nil {
			return err
		}
	}
	return fn(staged)
}

func (st *stats) objects(ctx context.Context) error {
	census, err := st.r.DB.Count(ctx)
	if err != nil {
		return err
	}
	st.Objects = map[string]int{}
	for kind, n := range census.Objects {
		st.Objects[kind.String()] = n
	}
	if census.Chunks > 0 {
		st.Objects["chunk"] = census.Chunks
	}
	st.DistinctSize, st.UniqueSize, st.Compressed = census.Blobs, census.Pieces, census.Saved
	usage, err := st.r.DB.Usage()
	st.Packs, st.StoredSize = usage.Packs, usage.Bytes
	return err
}

// versions adds up the files of every entry that any commit of any branch or tag
// brought in, and of those that are staged.
func (st *stats) versions(ctx context.Context) error {
	var roots []fan
	for c, err := range st.r.Log(ctx, slices.Collect(maps.Values(st.tips))...) {
		if err != nil {
			return err
		}
		roots = append(roots, fan{id: c.Tree, when: c.Committer.When.Unix()})
	}
	slices.Reverse(roots) // the oldest first: it is when an entry came in
	groups := newVersionGroups(st.now)
	weigher := &weigher{db: st.r.DB, warn: st.warn}
	add := func(all []fan) error {
		for _, f := range all {
			group := groups.of(f)
			if group == len(weigher.sums) {
				weigher.sums = append(weigher.sums, 0)
			}
			if err := weigher.add(ctx, group, f.id); err != nil {
				return err
			}
		}
		return nil
	}
	w := fanWalk{db: st.r.DB, seen: new(reach.Set), warn: st.warn, entries: add}
	if err := w.walk(ctx, roots); err != nil {
		return err
	}
	if err := st.stagedVersions(ctx, w.seen, add); err != nil {
		return err
	}
	if err := weigher.weigh(ctx); err != nil {
		return err
	}
	st.Versions, st.OriginalSize = groups.show(st, weigher.sums)
	if st.UniqueSize > 0 && st.StoredSize > 0 {
		st.Dedup = float64(st.OriginalSize) / float64(st.UniqueSize)
		st.Compression = float64(st.UniqueSize) / float64(st.StoredSize)
	}
	return nil
}

func (st *stats) stagedVersions(ctx context.Context, seen *reach.Set, add func([]fan) error) error {
	branch, err := st.s.branch(ctx, st.r)
	if err != nil {
		return err
	}
	records, err := st.r.Staged(ctx, branch)
	if err != nil {
		return err
	}
	var all []fan
	for _, record := range records {
		kind, _, err := entry.ParsePath(record.Path)
		if err == nil && !record.ID.IsZero() && seen.Add(record.ID) {
			all = append(all, fan{id: record.ID, kind: kind, when: st.now.Unix()})
		}
	}
	return add(all)
}

type runStats struct {
	Since    time.Time `json:"since"`
	Hits     int       `json:"hits"`
	Misses   int       `json:"misses"`
	Uncached int       `json:"uncached"`
	HitRate  float64   `json:"hitRate"`
	Saved    float64   `json:"savedSeconds"` // what the commands took that did not have to run
}

// add counts a run.
func (r *runStats) add(run action.Ran) {
	switch run.Outcome {
	case action.Hit:
		r.Hits++
		r.Saved += max(0, run.Command-run.Took).Seconds()
	case action.Miss:
		r.Misses++
	default:
		r.Uncached++
	}
	r.HitRate = float64(r.Hits) / float64(r.Hits+r.Misses+r.Uncached)
}

func (r *runStats) saved() time.Duration {
	return time.Duration(r.Saved * float64(time.Second)).Round(time.Millisecond)
}

func (st *stats) runs(context.Context) error {
	runs, err := action.Log(st.r.Dir)
	if err != nil {
		st.warn("%v", err)
	}
	if len(runs) == 0 {
		return nil
	}
	st.Runs = &runStats{Since: runs[0].Time}
	for _, run := range runs {
		st.Runs.add(run)
	}
	if st.o.by["day"] {
		st.ByDay = byDay(runs)
	}
	return nil
}

func (st *stats) print() error {
	t := tabwriter.NewWriter(st.s.out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "repository\t%s\n", shown(st.Repository))
	fmt.Fprintf(t, "branches\t%d\ntags\t%d\n", st.Branches, st.Tags)
	fmt.Fprintf(t, "entries on %s\t", shown(st.Branch))
	total := 0
	for _, k := range st.Entries {
		total += k.Entries
	}
	fmt.Fprintf(t, "%d", total)
	for _, k := range st.Entries {
		fmt.Fprintf(t, ", %s %d", shown(string(k.Kind)), k.Entries)
	}
	fmt.Fprintf(t, "\nversions in history\t%d\n", st.Versions)
	fmt.Fprintf(t, "objects\t%s, %s, %s, %s\n", counted(st.Objects["blob"], "blob"), counted(st.Objects["tree"], "tree"),
		counted(st.Objects["commit"], "commit"), counted(st.Objects["chunk"], "chunk"))
	fmt.Fprintf(t, "all versions as files\t%s\n", size(st.OriginalSize))
	fmt.Fprintf(t, "each content once\t%s%s\n", size(st.UniqueSize), ratio(st.Dedup))
	fmt.Fprintf(t, "stored\t%s%s in %s\n", size(st.StoredSize), ratio(st.Compression), counted(st.Packs, "pack"))
	fmt.Fprintf(t, "saved\t%s by equal files, %s by chunks, %s by compression\n", size(max(0, st.OriginalSize-st.DistinctSize)),
		size(max(0, st.DistinctSize-st.UniqueSize)), size(st.Compressed))
	if r := st.Runs; r != nil {
		fmt.Fprintf(t, "runs since %s\t%d: %s, %s, %d not cached\n", r.Since.Local().Format("2006-01-02 15:04"),
			r.Hits+r.Misses+r.Uncached, counted(r.Hits, "hit"), plural(r.Misses, "miss", "misses"), r.Uncached)
		fmt.Fprintf(t, "hit rate\t%.1f %%, %s saved\n", 100*r.HitRate, r.saved())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return st.printMore()
}

func ratio(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.2f to 1)", x)
}
