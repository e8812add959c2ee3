package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// A goal holds one figure of cache-tool against the best that some peers have in
// the same repetition.
type goal struct {
	what    string
	tool    string // whose figure it is; empty for ours
	figure  figure
	theirs  figure // the peers' figure; without one, the same
	against []string
	limits  [3]float64 // the most that the ratio may be on W1, W2, W3; zero leaves one out
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

var storeGoals = []goal{
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

// byPath, onBucket, onApache, onServer and onS3 are what sync.sh calls cache-tool with
// each of its destinations.
const (
	byPath   = "cachetool-path"
	onBucket = "cachetool-bucket"
	onApache = "cachetool-apache"
	onServer = "cachetool-serve"
	onS3     = "cachetool-s3"
)

// changed is no tool: it is what changed in v2, compressed.
const changed = "changed"

var syncGoals = slices.Concat(
	[]goal{
		{what: "first push by path, to copies by rsync, restic, kopia", tool: byPath, figure: seconds("push1"), against: []string{"rsync", "restic", "kopia"}, limits: [3]float64{1, 1, 0.5}},
		{what: "push of 1 % by path, to git push", tool: byPath, figure: seconds("push2"), against: []string{"git"}, limits: [3]float64{0.5, 1, 0.05}},
	},
	everywhere(goal{what: "clone, to git clone", figure: seconds("clone"), against: []string{"git"}, limits: told}),
	everywhere(goal{what: "clone, to a copy of a borg repository", figure: seconds("clone"), against: []string{"borg"}, limits: told}),
	everywhere(goal{what: "pull of 1 %, to git fetch", figure: seconds("pull"), against: []string{"git"}, limits: told}),
	remotely(goal{what: "save and first push, to tar\\|zstd\\|curl", figure: withSave("save1", "push1"), theirs: seconds("push1"), against: []string{"tarcurl"}, limits: told}),
	remotely(goal{what: "save and push of 1 %, to tar\\|zstd\\|curl", figure: withSave("save2", "push2"), theirs: seconds("push2"), against: []string{"tarcurl"}, limits: told}),
	remotely(goal{what: "clone and restore, to curl\\|unzstd\\|tar", figure: seconds("clone", "unpack"), theirs: seconds("clone"), against: []string{"tarcurl"}, limits: told}),
	remotely(goal{what: "pull of 1 % and restore, to curl\\|unzstd\\|tar", figure: seconds("pull", "unpack"), theirs: seconds("clone"), against: []string{"tarcurl"}, limits: told}),
	everywhere(goal{what: "bytes of v2 pushed, to what changed (tar\\|zstd -3)", figure: moved("push2"), against: []string{changed}, limits: [3]float64{1.2, 1.2}}),
	everywhere(goal{what: "bytes of v2 pulled, to what changed (tar\\|zstd -3)", figure: moved("pull"), theirs: moved("push2"), against: []string{changed}, limits: [3]float64{1.2, 1.2}}),
	everywhere(goal{what: "bytes of v2 pushed, to bup's growth", figure: moved("push2"), against: []string{"bup"}, limits: [3]float64{2: 1}}),
	everywhere(goal{what: "bytes of v2 pulled, to bup's growth", figure: moved("pull"), theirs: moved("push2"), against: []string{"bup"}, limits: [3]float64{2: 1}}),
	[]goal{
		{what: "s3: first push, to restic copy", tool: onS3, figure: seconds("push1"), against: []string{"restic-s3"}, limits: faster},
		{what: "s3: push of 1 %, to restic copy", tool: onS3, figure: seconds("push2"), against: []string{"restic-s3"}, limits: faster},
		{what: "s3: save and first push, to rclone, tar\\|zstd\\|curl", tool: onS3, figure: withSave("save1", "push1"), theirs: seconds("push1"), against: []string{"rclone-s3", "tarcurl-s3"}, limits: faster},
		{what: "s3: save and push of 1 %, to rclone, tar\\|zstd\\|curl", tool: onS3, figure: withSave("save2", "push2"), theirs: seconds("push2"), against: []string{"rclone-s3", "tarcurl-s3"}, limits: faster},
		{what: "s3: clone and restore, to rclone, curl\\|unzstd\\|tar", tool: onS3, figure: seconds("clone", "unpack"), theirs: seconds("clone"), against: []string{"rclone-s3", "tarcurl-s3"}, limits: told},
	},
	everywhere(goal{what: "peak memory", figure: figure{"MB", peak}, limits: [3]float64{200, 200, 200}}),
	[]goal{{what: "peak memory of the server", tool: onServer, figure: counted("server.peak"), limits: [3]float64{200, 200, 200}}},
)

// told are the limits of ratios that are told, and held to nothing.
var told = [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}

// faster are the limits of who is to be no slower than another.
var faster = [3]float64{1, 1, 1}

// everywhere makes a goal one for each destination.
func everywhere(g goal) []goal { return forEach(g, byPath, onBucket, onApache, onServer, onS3) }

// remotely leaves out those that need no network.
func remotely(g goal) []goal { return forEach(g, onApache, onServer) }

func forEach(g goal, tools ...string) []goal {
	all := make([]goal, len(tools))
	for i, t := range tools {
		_, where, _ := strings.Cut(t, "-")
		all[i] = g
		all[i].tool, all[i].what = t, where+": "+g.what
	}
	return all
}

// seconds is how long steps take together.
func seconds(steps ...string) figure {
	return figure{"s", func(d data, w, tool string, rep int) float64 {
		sum := 0.0
		for _, step := range steps {
			r, ok := d.find(w, tool, step, rep)
			if !ok || r.Code != 0 {
				return math.NaN()
			}
			sum += r.Wall.Seconds()
		}
		return sum
	}}
}

// withSave is how long a step takes after a save, which is the same for all
// destinations.
func withSave(save, step string) figure {
	return figure{"s", func(d data, w, tool string, rep int) float64 {
		return seconds(save).of(d, w, ours, rep) + seconds(step).of(d, w, tool, rep)
	}}
}

// counted is a number of bytes.
func counted(step string) figure {
	return figure{"MB", func(d data, w, tool string, rep int) float64 { return megabytes(d, w, tool, step, rep) }}
}

// moved is how many bytes a step took over the wire, and requests in how many
// pieces.
func moved(step string) figure { return counted(step + ".bytes") }

func requests(step string) figure {
	return figure{"", func(d data, w, tool string, rep int) float64 {
		if r, ok := d.find(w, tool, step+".requests", rep); ok {
			return float64(r.Size)
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
	most := int64(0)
	for _, rows := range d.rows[w][tool] {
		for _, r := range rows {
			if r.Rep == rep {
				most = max(most, r.Peak)
			}
		}
	}
	if most == 0 {
		return math.NaN()
	}
	return float64(most) / 1e6
}

// best returns the tool whose figure is the smallest.
func (g goal) best(d data, w string, rep int) (tool string, value float64) {
	value = math.NaN()
	theirs := g.figure
	if g.theirs.of != nil {
		theirs = g.theirs
	}
	for _, t := range g.against {
		if v := theirs.of(d, w, t, rep); v < value || math.IsNaN(value) && !math.IsNaN(v) {
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
		m := g.figure.of(d, w, cmp.Or(g.tool, ours), rep)
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
	from := fmt.Sprintf("(%.2f to %s's %.2f %s)", median(mine), peer, median(theirs), g.figure.unit)
	if math.IsInf(limit, 1) {
		return fmt.Sprintf("%.2f %s", median(ratios), from)
	}
	return fmt.Sprintf("≤ %g / %.2f, %s %s", limit, median(ratios), verdict, from)
}

func writeGoals(w io.Writer, d data, goals []goal) {
	fmt.Fprintf(w, "\n### Goals: limit / measured ratio (cache-tool's figure to the peer's)\n\n| goal | W1 | W2 | W3 |\n|---|---|---|---|\n")
	for _, g := range goals {
		var row [3]string
		for i, limit := range g.limits {
			if limit > 0 {
				row[i] = g.standing(d, fmt.Sprintf("W%d", i+1), limit)
			}
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
