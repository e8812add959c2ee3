package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// A goal holds one figure of cache-tool against the best that some peers have in
// the same repetition.
type goal struct {
	what    string
	figure  figure
	against []string
	limits  [3]float64 // the most that the ratio may be on W1, W2, W3
	enough  float64    // a figure that is good whatever the peers have
}

// A figure is one number of one tool in one repetition, or NaN.
type figure struct {
	unit string
	of   func(d data, workload, tool string, rep int) float64
}

// ours is the tool whose goals they are.
const ours = "cachetool"

// deduplicating peers store a piece of content once and compress it. (The
// others are archives, or keep files as they are.)
var deduplicating = []string{"git", "restic", "borg", "casync", "desync", "bup", "kopia"}

var goals = []goal{
	{what: "first save, to tar\\|zstdmt", figure: seconds("save"), against: []string{"tarzstd"}, limits: [3]float64{0.65, 0.65, 0.8}},
	{what: "first save, to the fastest deduplicating peer", figure: seconds("save"), against: deduplicating, limits: [3]float64{0.4, 0.5, 0.5}},
	{what: "save unchanged, to git (or under 30 ms)", figure: seconds("again"), against: []string{"git"}, limits: [3]float64{1, 1, 1}, enough: 0.03},
	{what: "save 1 % changed, to git", figure: seconds("v2"), against: []string{"git"}, limits: [3]float64{1, 1, 0.5}},
	{what: "restore, to tar\\|zstd", figure: seconds("restore"), against: []string{"tarzstd"}, limits: [3]float64{0.5, 0.6, 0.5}},
	{what: "restore over the same, to git", figure: seconds("same"), against: []string{"git"}, limits: [3]float64{1, 1, 0.3}},
	{what: "back to v1, to git", figure: seconds("back"), against: []string{"git"}, limits: [3]float64{1, 1, 0.3}},
	{what: "copy to a second store, to kopia", figure: seconds("copy"), against: []string{"kopia"}, limits: [3]float64{1, 1, 0.5}},
	{what: "copy of 1 %, to git push", figure: seconds("copy2"), against: []string{"git"}, limits: [3]float64{0.5, 1, 0.05}},
	{what: "gc, to restic", figure: seconds("gc"), against: []string{"restic"}, limits: [3]float64{0.1, 0.3, 0.3}},
	{what: "store size, to tar\\|zstdmt --long=30", figure: figure{"MB", stored}, against: []string{"tarzstd"}, limits: [3]float64{1.1, 1.15, 1.15}},
	{what: "growth by v2, to the smallest peer's", figure: figure{"MB", growth}, against: append([]string{"ostree", "ostreearch"}, deduplicating...), limits: [3]float64{1, 1, 1}},
	{what: "peak memory", figure: figure{"MB", peak}, limits: [3]float64{200, 200, 200}},
}

func seconds(step string) figure {
	return figure{"s", func(d data, w, tool string, rep int) float64 {
		if r, ok := d.find(w, tool, step, rep); ok && r.Code == 0 {
			return r.Wall.Seconds()
		}
		return math.NaN()
	}}
}

func megabytes(d data, w, tool, step string, rep int) float64 {
	if r, ok := d.find(w, tool, step, rep); ok {
		return float64(r.Size) / 1e6
	}
	return math.NaN()
}

func stored(d data, w, tool string, rep int) float64 { return megabytes(d, w, tool, "size1", rep) }

func growth(d data, w, tool string, rep int) float64 {
	return megabytes(d, w, tool, "size2", rep) - megabytes(d, w, tool, "size1", rep)
}

func peak(d data, w, tool string, rep int) float64 {
	most := math.NaN()
	for _, step := range steps {
		if r, ok := d.find(w, tool, step.name, rep); ok {
			most = math.Max(float64(r.Peak)/1e6, zeroIfNaN(most))
		}
	}
	return most
}

func zeroIfNaN(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return f
}

// best returns the tool whose figure is the smallest.
func (g goal) best(d data, w string, rep int) (tool string, value float64) {
	value = math.NaN()
	for _, t := range g.against {
		if v := g.figure.of(d, w, t, rep); v < value || math.IsNaN(value) && !math.IsNaN(v) {
			tool, value = t, v
		}
	}
	return tool, value
}

// standing says how the goal stands on one workload: the limit, what was
// measured, and from which two figures; nothing if it was not measured.
func (g goal) standing(d data, w string, limit float64) string {
	var ratios, mine, theirs []float64
	peer := ""
	for rep := 1; rep <= d.reps; rep++ {
		m := g.figure.of(d, w, ours, rep)
		if math.IsNaN(m) {
			continue
		}
		if g.against == nil {
			ratios, mine = append(ratios, m), append(mine, m)
			continue
		}
		t, v := g.best(d, w, rep)
		if math.IsNaN(v) {
			continue
		}
		peer = t
		ratios, mine, theirs = append(ratios, m/v), append(mine, m), append(theirs, v)
	}
	if len(ratios) == 0 {
		return ""
	}
	verdict := "met"
	if ratio := median(ratios); ratio > limit && !(median(mine) < g.enough) {
		verdict = "**missed**"
	}
	if g.against == nil {
		return fmt.Sprintf("≤ %g %s / %.0f %s, %s", limit, g.figure.unit, median(mine), g.figure.unit, verdict)
	}
	return fmt.Sprintf("≤ %g / %.2f, %s (%.2f to %s's %.2f %s)", limit, median(ratios), verdict, median(mine), peer, median(theirs), g.figure.unit)
}

func writeGoals(w io.Writer, d data) {
	fmt.Fprintf(w, "\n### Goals: limit / measured ratio (cache-tool's figure to the peer's)\n\n| goal | W1 | W2 | W3 |\n|---|---|---|---|\n")
	for _, g := range goals {
		var row [3]string
		for i, limit := range g.limits {
			row[i] = g.standing(d, fmt.Sprintf("W%d", i+1), limit)
		}
		if row != [3]string{} {
			fmt.Fprintf(w, "| %s | %s |\n", g.what, strings.Join(row[:], " | "))
		}
	}
}

// compileGoals are ratios of two contenders' medians.
var compileGoals = []struct {
	what, ours, theirs string
	limit              float64
}{
	{"hit, headers discovered as ccache does, to ccache's hit", "cache-tool hit, --depfile", "ccache hit", 1},
	{"hit, inputs named, to ccache's hit", "cache-tool hit, --in", "ccache hit", 1},
	{"miss, headers discovered, to ccache's miss", "cache-tool miss, --depfile", "ccache miss", 0},
	{"miss, inputs named, to ccache's miss", "cache-tool miss, --in", "ccache miss", 0},
	{"miss, headers discovered, to the bare compile", "cache-tool miss, --depfile", "gcc", 0},
}

func writeCompile(w io.Writer, d data) {
	wall, cpu := map[string]float64{}, map[string]float64{}
	fmt.Fprintf(w, "\n### One compile (ms, medians of %d interleaved runs)\n\n| | wall | CPU |\n|---|---|---|\n", d.reps)
	for _, c := range contenders {
		var walls, cpus []float64
		for _, r := range d.rows["compile"][c.name]["run"] {
			walls, cpus = append(walls, ms(r.Wall)), append(cpus, ms(r.CPU))
		}
		if len(walls) == 0 {
			continue
		}
		wall[c.name], cpu[c.name] = median(walls), median(cpus)
		fmt.Fprintf(w, "| %s | %.2f | %.2f |\n", c.name, wall[c.name], cpu[c.name])
	}
	fmt.Fprintf(w, "\n| ratio | goal | wall | CPU |\n|---|---|---|---|\n")
	for _, g := range compileGoals {
		if wall[g.ours] == 0 || wall[g.theirs] == 0 {
			continue
		}
		limit, verdict := "", ""
		if g.limit > 0 {
			limit, verdict = fmt.Sprintf("≤ %g", g.limit), ", met"
			if wall[g.ours] > g.limit*wall[g.theirs] || cpu[g.ours] > g.limit*cpu[g.theirs] {
				verdict = ", **missed**"
			}
		}
		fmt.Fprintf(w, "| %s | %s | %.2f%s | %.2f |\n", g.what, limit, wall[g.ours]/wall[g.theirs], verdict, cpu[g.ours]/cpu[g.theirs])
	}
	if v := wall["cache-tool version"]; v > 0 {
		fmt.Fprintf(w, "\nStart-up to `cache-tool version`: %.1f ms (goal: under 10, aim 4).\n", v)
	}
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
