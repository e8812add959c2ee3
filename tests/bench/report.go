package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// A suite is what one script measures.
type suite struct {
	steps   []step // that are timed, in the script's order
	columns []column
	goals   []goal
	moves   bool // bytes and requests were counted for each step
}

type step struct{ name, title string }

// A column is a figure that stands beside the times.
type column struct {
	title string
	of    func(d data, workload, tool string, rep int) float64
}

// What measure.sh and sync.sh do.
var suites = []suite{
	{
		steps: []step{
			{"save", "save"}, {"again", "again"}, {"v2", "v2"}, {"restore", "restore"}, {"same", "over same"},
			{"back", "to v1"}, {"copy", "copy"}, {"copy2", "copy v2"}, {"gc", "gc"},
		},
		columns: []column{{"MB", stored}, {"+v2 MB", growth}, {"peak MB", peak}},
		goals:   storeGoals,
	},
	{
		steps: []step{
			{"save1", "save v1"}, {"save2", "save v2"}, {"push1", "push v1"}, {"push0", "again"}, {"clone1", "clone v1"}, {"push2", "push v2"},
			{"pull", "pull v2"}, {"clone", "clone v2"}, {"unpack", "restore"}, {"lazy", "clone --lazy"}, {"unlazy", "restore from it"}, {"hit", "hit in it"},
		},
		columns: []column{{"peak MB", peak}, {"server MB", counted("server.peak").of}},
		goals:   syncGoals,
		moves:   true,
	},
}

// has reports whether a row is one of the suite's. What was counted for a step is
// called STEP.WHAT.
func (s suite) has(r result) bool {
	name, _, isCount := strings.Cut(r.Step, ".")
	if isCount || strings.HasPrefix(name, "size") {
		return isCount == s.moves
	}
	return slices.ContainsFunc(s.steps, func(st step) bool { return st.name == name })
}

// data is the results, by workload, tool and step.
type data struct {
	rows map[string]map[string]map[string][]result
	// tools of each workload in the order in which they ran
	tools map[string][]string
	reps  int
}

func index(results []result) data {
	d := data{rows: map[string]map[string]map[string][]result{}, tools: map[string][]string{}}
	for _, r := range results {
		tools := d.rows[r.Workload]
		if tools == nil {
			tools = map[string]map[string][]result{}
			d.rows[r.Workload] = tools
		}
		if tools[r.Tool] == nil {
			tools[r.Tool] = map[string][]result{}
			d.tools[r.Workload] = append(d.tools[r.Workload], r.Tool)
		}
		tools[r.Tool][r.Step] = append(tools[r.Tool][r.Step], r)
		d.reps = max(d.reps, r.Rep)
	}
	return d
}

func (d data) find(workload, tool, step string, rep int) (result, bool) {
	rows := d.rows[workload][tool][step]
	i := slices.IndexFunc(rows, func(r result) bool { return r.Rep == rep })
	if i < 0 {
		return result{}, false
	}
	return rows[i], true
}

func report(w io.Writer, file string) error {
	results, err := read(file)
	if err != nil {
		return err
	}
	of := func(is func(result) bool) data {
		return index(slices.DeleteFunc(slices.Clone(results), func(r result) bool { return !is(r) }))
	}
	isCompile := func(r result) bool { return r.Workload == "compile" }
	for _, s := range suites {
		d := of(func(r result) bool { return !isCompile(r) && s.has(r) })
		for _, workload := range []string{"W1", "W2", "W3", "lazy"} {
			if len(d.tools[workload]) == 0 {
				continue
			}
			writeTimes(w, d, s, workload)
			if s.moves {
				writeMoves(w, d, s, workload)
			}
		}
		if len(d.rows) > 0 {
			writeGoals(w, d, s.goals)
		}
	}
	if d := of(isCompile); len(d.rows) > 0 {
		writeCompile(w, d)
	}
	return nil
}

// shown returns those of the steps that somebody has a row for, called as the step
// is with suffix behind it.
func (s suite) shown(d data, workload string, suffixes ...string) []step {
	return slices.DeleteFunc(slices.Clone(s.steps), func(st step) bool {
		return !slices.ContainsFunc(d.tools[workload], func(t string) bool {
			return slices.ContainsFunc(suffixes, func(suffix string) bool { return d.rows[workload][t][st.name+suffix] != nil })
		})
	})
}

func writeTimes(w io.Writer, d data, s suite, workload string) {
	fmt.Fprintf(w, "\n### %s: seconds of wall time, medians of %d; ! failed, ~ disturbed by others\n\n| |", workload, d.reps)
	shown := s.shown(d, workload, "")
	for _, st := range shown {
		fmt.Fprintf(w, " %s |", st.title)
	}
	for _, c := range s.columns {
		fmt.Fprintf(w, " %s |", c.title)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(shown)+len(s.columns)))
	for _, tool := range d.tools[workload] {
		row := ""
		for _, st := range shown {
			row += " " + cell(d.rows[workload][tool][st.name]) + " |"
		}
		for _, c := range s.columns {
			row += " " + d.median("%.1f", c.of, workload, tool) + " |"
		}
		if strings.Trim(row, " |") != "" {
			fmt.Fprintf(w, "| %s |%s\n", tool, row)
		}
	}
}

// writeMoves tells the bytes and requests of each step.
func writeMoves(w io.Writer, d data, s suite, workload string) {
	shown := s.shown(d, workload, ".bytes", ".requests")
	fmt.Fprintf(w, "\n%s: MB on the wire; requests, where there are some\n\n| |", workload)
	for _, st := range shown {
		fmt.Fprintf(w, " %s |", st.title)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(shown)))
	for _, tool := range d.tools[workload] {
		row := ""
		for _, st := range shown {
			row += " " + d.median("%.3f", moved(st.name).of, workload, tool)
			if n := d.median("%.0f", requests(st.name).of, workload, tool); n != "" {
				row += "; " + n
			}
			row += " |"
		}
		if strings.Trim(row, " |") != "" {
			fmt.Fprintf(w, "| %s |%s\n", tool, row)
		}
	}
}

// median formats the median of a figure over all repetitions; nothing if there is
// none.
func (d data) median(format string, of func(data, string, string, int) float64, workload, tool string) string {
	var values []float64
	for rep := 1; rep <= d.reps; rep++ {
		if v := of(d, workload, tool, rep); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return ""
	}
	return fmt.Sprintf(format, median(values))
}

func cell(rows []result) string {
	if len(rows) == 0 {
		return ""
	}
	var walls []float64
	var others time.Duration
	mark := ""
	for _, r := range rows {
		walls = append(walls, r.Wall.Seconds())
		others += r.Others
		if r.Code != 0 {
			mark = "!"
		}
	}
	if m := median(walls); mark == "" && others.Seconds()/float64(len(rows)) > 0.25*m+0.1 {
		mark = "~"
	}
	return fmt.Sprintf("%.2f%s", median(walls), mark)
}

// median sorts v.
func median(v []float64) float64 {
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
