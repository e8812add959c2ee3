package commands

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/action"
)

func statsCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:     "stats",
		Category: categoryLook,
		Usage:    "show how much is stored, what it saves, and how often it hit",
		Description: text(`
Shows the entries of the current branch by kind; what all versions of all entries
that history has would take as plain files, what is left of that when everything is
stored once, and when it is compressed; and how often the last runs hit.`, `
cache-tool stats`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			r, err := s.open(c.Context)
			if err != nil {
				return err
			}
			st := &stats{Repository: r.Dir, Entries: []kindStats{}}
			for _, gather := range []func(context.Context, *session, *repo.Repo) error{st.entries, st.objects, st.versions, st.runs} {
				if err := gather(c.Context, s, r); err != nil {
					return err
				}
			}
			if s.json {
				return s.answer(st)
			}
			return st.print(s)
		},
	}
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

	Versions     int     `json:"versions"`     // of entries, in all of history
	OriginalSize int64   `json:"originalSize"` // of their files, each counted wherever it stands
	UniqueSize   int64   `json:"uniqueSize"`   // of the blobs and chunks that are stored, before compression
	StoredSize   int64   `json:"storedSize"`   // of the packs and their indexes
	Dedup        float64 `json:"dedup,omitempty"`
	Compression  float64 `json:"compression,omitempty"`

	Runs *runStats `json:"runs,omitempty"`
}

type kindStats struct {
	Kind    entry.Kind `json:"kind"`
	Entries int        `json:"entries"`
}

type runStats struct {
	Since    time.Time `json:"since"`
	Hits     int       `json:"hits"`
	Misses   int       `json:"misses"`
	Uncached int       `json:"uncached"`
	HitRate  float64   `json:"hitRate"`
	Saved    float64   `json:"savedSeconds"` // what the commands took that did not have to run
}

func (st *stats) entries(ctx context.Context, s *session, r *repo.Repo) error {
	branch, err := s.branch(ctx, r)
	if err != nil {
		return err
	}
	st.Branch = branch.Short()
	counts := map[entry.Kind]int{}
	for found, err := range r.Entries(ctx, branch, "") {
		if err != nil {
			return err
		}
		counts[found.Kind]++
	}
	for kind, n := range counts {
		st.Entries = append(st.Entries, kindStats{kind, n})
	}
	slices.SortFunc(st.Entries, func(a, b kindStats) int { return cmp.Compare(a.Kind, b.Kind) })
	return nil
}

func (st *stats) objects(ctx context.Context, s *session, r *repo.Repo) error {
	st.Objects = map[string]int{}
	for info, err := range r.DB.All(ctx) {
		if err != nil {
			s.warn("%v", err)
			continue
		}
		kind := "chunk"
		if info.Kind != 0 {
			kind = info.Kind.String()
		}
		st.Objects[kind]++
		if (info.Kind == objects.Blob || info.Kind == 0) && !info.Chunked {
			st.UniqueSize += info.Size
		}
	}
	usage, err := r.DB.Usage()
	st.Packs, st.StoredSize = usage.Packs, usage.Bytes
	return err
}

// versions adds up the files of every entry that any commit of any branch or tag
// brought in, and of those that are staged.
func (st *stats) versions(ctx context.Context, s *session, r *repo.Repo) error {
	var tips []objects.ID
	for ref, err := range r.Refs.All(ctx, "refs/") {
		if err != nil {
			s.warn("%v", err)
			continue
		}
		id := ref.ID
		if ref.Name.IsTag() {
			st.Tags++
			if tag, err := objects.ReadTag(ctx, r.DB, id); err == nil {
				id = tag.Object
			}
		} else if ref.Name.IsBranch() {
			st.Branches++
		}
		tips = append(tips, id)
	}
	w := &weigher{s: s, r: r}
	seen := new(reach.Set)
	add := func(id objects.ID) error {
		if id.IsZero() || !seen.Add(id) {
			return nil
		}
		st.Versions++
		return w.add(ctx, id)
	}
	for c, err := range r.Log(ctx, tips...) {
		if err != nil {
			return err
		}
		before, err := treeBefore(ctx, r, c)
		if err != nil {
			return err
		}
		err = trees.Diff(ctx, r.DB, before, c.Tree, func(d trees.Change) error { return add(d.New.ID) }, trees.DiffOptions{Whole: entry.IsPath})
		if err != nil {
			return err
		}
	}
	branch, err := s.branch(ctx, r)
	if err != nil {
		return err
	}
	staged, err := r.Staged(ctx, branch)
	if err != nil {
		return err
	}
	for _, record := range staged {
		if err := add(record.ID); err != nil {
			return err
		}
	}
	if err := w.weigh(ctx); err != nil {
		return err
	}
	st.OriginalSize = w.sum
	if st.UniqueSize > 0 && st.StoredSize > 0 {
		st.Dedup = float64(st.OriginalSize) / float64(st.UniqueSize)
		st.Compression = float64(st.UniqueSize) / float64(st.StoredSize)
	}
	return nil
}

// A weigher adds up the files of entries, each counted wherever it stands. Trees
// are read many at once, and those that several entries share once for each
// batch: how often each stands there is passed down.
type weigher struct {
	s     *session
	r     *repo.Repo
	batch []objects.ID
	sum   int64
}

func (w *weigher) add(ctx context.Context, id objects.ID) error {
	if w.batch = append(w.batch, id); len(w.batch) < readBatch {
		return nil
	}
	return w.weigh(ctx)
}

// weigh adds up what was added since the last time.
func (w *weigher) weigh(ctx context.Context) error {
	level := make(map[objects.ID]int64, len(w.batch))
	for _, id := range w.batch {
		level[id]++
	}
	w.batch = w.batch[:0]
	for len(level) > 0 {
		var err error
		if level, err = w.descend(ctx, level); err != nil {
			return err
		}
	}
	return nil
}

// descend adds up the files that stand right in trees, and returns the trees below
// with how often each stands there.
func (w *weigher) descend(ctx context.Context, level map[objects.ID]int64) (map[objects.ID]int64, error) {
	ids := slices.Collect(maps.Keys(level))
	below := map[objects.ID]int64{}
	var mu sync.Mutex // guards below and w.sum
	lost := func(_ int, id objects.ID, err error) error {
		w.s.warn("tree %s: %v", id.Short(), err)
		return nil
	}
	err := w.r.DB.ReadMany(ctx, ids, odb.ManyOptions{Lost: lost}, func(i int, _ objects.Kind, body []byte) error {
		tree, err := objects.ParseTree(body)
		if err != nil {
			return lost(i, ids[i], err)
		}
		var own int64
		for _, e := range tree {
			if e.Mode.IsDir() {
				continue
			}
			if _, n, err := w.r.DB.Stat(ctx, e.ID); err == nil {
				own += n
			}
		}
		mu.Lock()
		defer mu.Unlock()
		times := level[ids[i]]
		w.sum += own * times
		for _, e := range tree {
			if e.Mode.IsDir() && e.ID != objects.EmptyTree {
				below[e.ID] += times
			}
		}
		return nil
	})
	return below, err
}

func (st *stats) runs(_ context.Context, s *session, r *repo.Repo) error {
	runs, err := action.Log(r.Dir)
	if err != nil {
		s.warn("%v", err)
	}
	if len(runs) == 0 {
		return nil
	}
	st.Runs = &runStats{Since: runs[0].Time}
	var saved time.Duration
	for _, run := range runs {
		switch run.Outcome {
		case action.Hit:
			st.Runs.Hits++
			saved += max(0, run.Command-run.Took)
		case action.Miss:
			st.Runs.Misses++
		default:
			st.Runs.Uncached++
		}
	}
	st.Runs.HitRate = float64(st.Runs.Hits) / float64(len(runs))
	st.Runs.Saved = saved.Seconds()
	return nil
}

func (st *stats) print(s *session) error {
	t := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
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
	if r := st.Runs; r != nil {
		fmt.Fprintf(t, "runs since %s\t%d: %s, %s, %d not cached\n", r.Since.Local().Format("2006-01-02 15:04"),
			r.Hits+r.Misses+r.Uncached, counted(r.Hits, "hit"), plural(r.Misses, "miss", "misses"), r.Uncached)
		fmt.Fprintf(t, "hit rate\t%.1f %%, %s saved\n", 100*r.HitRate, time.Duration(r.Saved*float64(time.Second)).Round(time.Millisecond))
	}
	return t.Flush()
}

func ratio(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.2f to 1)", x)
}
