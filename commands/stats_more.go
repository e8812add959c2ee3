package commands

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/action"
)

// What stats shows only if it is asked to.

// A branchStats is what a branch with its history takes of the packs, about.
type branchStats struct {
	Branch string `json:"branch"`
	Only   int64  `json:"onlyBytes"` // that no other branch uses
	All    int64  `json:"allBytes"`
}

// A versionStats is about some of the versions that history has.
type versionStats struct {
	Client   entry.Kind `json:"client,omitempty"`
	Age      string     `json:"age,omitempty"`
	Versions int        `json:"versions"`
	Size     int64      `json:"originalSize"` // of their files
}

type dayStats struct {
	Day string `json:"day"`
	runStats
}

type entryStats struct {
	Kind     entry.Kind `json:"kind"`
	Key      string     `json:"key"`
	Size     int64      `json:"size"` // of its files
	LastUsed string     `json:"lastUsed,omitempty"`
}

// An unusedStats is about the entries of which it is known that nobody used them.
type unusedStats struct {
	Known   int          `json:"known"` // entries of which it would be known
	Entries int          `json:"entries"`
	Size    int64        `json:"size"`
	Largest []entryStats `json:"largest"`
}

// branches adds up what each branch takes. What several have is walked for each of
// them, twice.
func (st *stats) branches(ctx context.Context) error {
	if !st.o.by["branch"] {
		return nil
	}
	var names []refs.Name
	for _, name := range slices.Sorted(maps.Keys(st.tips)) {
		if name.IsBranch() {
			names = append(names, name)
		}
	}
	once, twice := new(reach.Set), new(reach.Set)
	for _, name := range names {
		b := branchStats{Branch: name.Short()}
		err := st.stored(ctx, st.tips[name], func(id objects.ID, bytes int64) {
			b.All += bytes
			if len(names) > 1 && !once.Add(id) {
				twice.Add(id)
			}
		})
		if err != nil {
			return err
		}
		st.ByBranch = append(st.ByBranch, b)
	}
	for i, name := range names {
		b := &st.ByBranch[i]
		if len(names) == 1 {
			b.Only = b.All
			continue
		}
		err := st.stored(ctx, st.tips[name], func(id objects.ID, bytes int64) {
			if !twice.Has(id) {
				b.Only += bytes
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stored calls fn once for each object and chunk that a commit leads to.
func (st *stats) stored(ctx context.Context, tip objects.ID, fn func(id objects.ID, bytes int64)) error {
	shallow, err := st.r.Shallow()
	if err != nil {
		return err
	}
	var batch []objects.ID
	chunks := new(reach.Set)
	tell := func() error {
		slices.SortFunc(batch, objects.ID.Compare)
		met := 0 // objects come in the order of batch, chunks after them
		err := st.r.DB.Stored(ctx, batch, func(id objects.ID, bytes int64) {
			for met < len(batch) && batch[met].Compare(id) < 0 {
				met++
			}
			if met < len(batch) && batch[met] == id || chunks.Add(id) {
				fn(id, bytes)
			}
		})
		batch = batch[:0]
		return err
	}
	err = reach.Walk(ctx, st.r.DB, []objects.ID{tip}, reach.Options{
		Unplaced: true,
		Shallow:  func(id objects.ID) bool { return shallow[id] },
		Missing: func(m reach.Missing) error {
			st.warn("%v", m)
			return nil
		},
		Visit: func(id objects.ID, _ objects.Kind) error {
			if batch = append(batch, id); len(batch) < weighBatch {
				return nil
			}
			return tell()
		},
	})
	if err != nil {
		return err
	}
	return tell()
}

// ages are how old a version is at most.
var ages = []struct {
	name string
	most time.Duration
}{
	{"a day", 24 * time.Hour},
	{"a week", 7 * 24 * time.Hour},
	{"a month", 30 * 24 * time.Hour},
	{"a quarter", 91 * 24 * time.Hour},
	{"a year", 365 * 24 * time.Hour},
	{"more", 1<<63 - 1},
}

// versionGroups are versions by client and by age.
type versionGroups struct {
	now    int64
	known  map[versionGroup]int
	all    []versionGroup
	counts []int
}

type versionGroup struct {
	kind entry.Kind
	age  int // in ages
}

func newVersionGroups(now time.Time) *versionGroups {
	return &versionGroups{now: now.Unix(), known: map[versionGroup]int{}}
}

// of returns the number of the group of a version, and counts it.
func (g *versionGroups) of(f fan) int {
	age := time.Duration(max(0, g.now-f.when)) * time.Second
	group := versionGroup{f.kind, slices.IndexFunc(ages, func(a struct {
		name string
		most time.Duration
	}) bool {
		return age <= a.most
	})}
	n, ok := g.known[group]
	if !ok {
		n = len(g.all)
		g.known[group] = n
		g.all, g.counts = append(g.all, group), append(g.counts, 0)
	}
	g.counts[n]++
	return n
}

// show puts what is asked for into st, and returns the number and the size of all.
func (g *versionGroups) show(st *stats, sums []int64) (versions int, size int64) {
	clients, byAge := map[entry.Kind]versionStats{}, make([]versionStats, len(ages))
	for i, group := range g.all {
		versions += g.counts[i]
		size += sums[i]
		c := clients[group.kind]
		clients[group.kind] = versionStats{Client: group.kind, Versions: c.Versions + g.counts[i], Size: c.Size + sums[i]}
		a := &byAge[group.age]
		*a = versionStats{Age: ages[group.age].name, Versions: a.Versions + g.counts[i], Size: a.Size + sums[i]}
	}
	if st.o.by["client"] {
		for _, kind := range slices.Sorted(maps.Keys(clients)) {
			st.ByClient = append(st.ByClient, clients[kind])
		}
	}
	if st.o.by["age"] {
		st.ByAge = slices.DeleteFunc(byAge, func(a versionStats) bool { return a.Versions == 0 })
	}
	return versions, size
}

// byDay counts runs by the day, the last one first.
func byDay(runs []action.Ran) []dayStats {
	var days []dayStats
	for _, run := range slices.Backward(runs) {
		day := run.Time.Local().Format(time.DateOnly)
		if n := len(days); n == 0 || days[n-1].Day != day {
			days = append(days, dayStats{Day: day})
		}
		d := &days[len(days)-1]
		d.Since = run.Time
		d.add(run)
	}
	return days
}

// used knows when entries were used last, of those kinds that are looked up by the
// command line.
type used struct{ uses.Table }

// last returns when the entry at path was used last, if it ever was.
func (u *used) last(path string) (day time.Time, ok bool) {
	n, ok := u.Day(path)
	return time.Unix(int64(n)*24*60*60, 0), ok
}

// knows reports whether it would be known if an entry of this kind was used.
func (u *used) knows(kind entry.Kind) bool {
	return kind == entry.Run || slices.Contains(personal, kind)
}

// uses reads what is known of uses. It is nil if nobody wants to know.
func (st *stats) uses() (*used, error) {
	if !st.o.unused {
		return nil, nil
	}
	st.Unused = &unusedStats{Largest: []entryStats{}}
	table, err := st.r.Uses()
	return &used{table}, err
}

// shownUnused is how many of the entries that were never used are named.
const shownUnused = 20

// weighEach weighs entries one by one, and keeps those that are to be shown.
func (st *stats) weighEach(ctx context.Context, all []fan, u *used) error {
	w := &weigher{db: st.r.DB, warn: st.warn, sums: make([]int64, len(all))}
	for i, f := range all {
		if err := w.add(ctx, i, f.id); err != nil {
			return err
		}
	}
	if err := w.weigh(ctx); err != nil {
		return err
	}
	for i, f := range all {
		st.Largest = keepLargest(st.Largest, st.o.largest, f, w.sums[i], u)
		if u == nil || !u.knows(f.kind) {
			continue
		}
		st.Unused.Known++
		if _, ok := u.last(f.path); ok {
			continue
		}
		st.Unused.Entries++
		st.Unused.Size += w.sums[i]
		st.Unused.Largest = keepLargest(st.Unused.Largest, cmp.Or(st.o.largest, shownUnused), f, w.sums[i], nil)
	}
	return nil
}

// keepLargest adds an entry to those that are the largest so far, the largest first,
// if it is one of them.
func keepLargest(largest []entryStats, most int, f fan, size int64, u *used) []entryStats {
	if most == 0 || len(largest) == most && largest[most-1].Size >= size {
		return largest
	}
	kind, key, err := entry.ParsePath(f.path)
	if err != nil {
		kind, key = f.kind, f.path
	}
	e := entryStats{Kind: kind, Key: key, Size: size}
	if u != nil {
		if day, ok := u.last(f.path); ok {
			e.LastUsed = day.Local().Format(time.DateOnly)
		}
	}
	at, _ := slices.BinarySearchFunc(largest, e, func(a, b entryStats) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), strings.Compare(a.Key, b.Key))
	})
	largest = slices.Insert(largest, at, e)
	return largest[:min(len(largest), most)]
}

func (st *stats) printMore() error {
	t := tabwriter.NewWriter(st.s.out, 0, 8, 2, ' ', 0)
	if st.o.by["branch"] {
		fmt.Fprint(t, "\nBRANCH\tONLY IT\tIN ALL\n")
		for _, b := range st.ByBranch {
			fmt.Fprintf(t, "%s\t%s\t%s\n", shown(b.Branch), size(b.Only), size(b.All))
		}
	}
	if st.o.by["client"] {
		fmt.Fprint(t, "\nCLIENT\tVERSIONS\tAS FILES\n")
		for _, c := range st.ByClient {
			fmt.Fprintf(t, "%s\t%d\t%s\n", shown(string(c.Client)), c.Versions, size(c.Size))
		}
	}
	if st.o.by["age"] {
		fmt.Fprint(t, "\nAGE UP TO\tVERSIONS\tAS FILES\n")
		for _, a := range st.ByAge {
			fmt.Fprintf(t, "%s\t%d\t%s\n", a.Age, a.Versions, size(a.Size))
		}
	}
	if st.o.by["day"] {
		fmt.Fprint(t, "\nDAY\tHITS\tMISSES\tNOT CACHED\tHIT RATE\tSAVED\n")
		for _, d := range st.ByDay {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.1f %%\t%s\n", d.Day, d.Hits, d.Misses, d.Uncached, 100*d.HitRate, d.saved())
		}
	}
	if st.o.largest > 0 {
		printEntries(t, "LARGEST", st.Largest)
	}
	if u := st.Unused; u != nil {
		fmt.Fprintf(t, "\nnever used, as far as is known: %d of %s, %s\n", u.Entries, counted(u.Known, "entry"), size(u.Size))
		if len(u.Largest) > 0 {
			printEntries(t, "NEVER USED", u.Largest)
		}
	}
	return t.Flush()
}

func printEntries(t *tabwriter.Writer, title string, all []entryStats) {
	fmt.Fprintf(t, "\n%s\tSIZE\n", title)
	for _, e := range all {
		fmt.Fprintf(t, "%s\t%s\n", shown(shownPath(e.Kind, e.Key)), size(e.Size))
	}
}
