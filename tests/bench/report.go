package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// steps are what measure.sh times, in its order.
var steps = []struct{ name, title string }{
	{"save", "save"}, {"again", "again"}, {"v2", "v2"}, {"restore", "restore"}, {"same", "over same"},
	{"back", "to v1"}, {"copy", "copy"}, {"copy2", "copy v2"}, {"gc", "gc"},
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
	of := func(compile bool) data {
		return index(slices.DeleteFunc(slices.Clone(results), func(r result) bool { return (r.Workload == "compile") != compile }))
	}
	d := of(false)
	for _, workload := range []string{"W1", "W2", "W3"} {
		if len(d.tools[workload]) > 0 {
			writeWorkload(w, d, workload)
		}
	}
	if len(d.rows) > 0 {
		writeGoals(w, d)
	}
	if d := of(true); len(d.rows) > 0 {
		writeCompile(w, d)
	}
	return nil
}

func writeWorkload(w io.Writer, d data, workload string) {
	fmt.Fprintf(w, "\n### %s: seconds of wall time, medians of %d; ! failed, ~ disturbed by others\n\n| |", workload, d.reps)
	var shown []string // steps that somebody has
	for _, s := range steps {
		if slices.ContainsFunc(d.tools[workload], func(t string) bool { return d.rows[workload][t][s.name] != nil }) {
			shown = append(shown, s.name)
			fmt.Fprintf(w, " %s |", s.title)
		}
	}
	fmt.Fprintf(w, " MB | +v2 MB | peak MB |\n|---|%s\n", strings.Repeat("---|", len(shown)+3))
	for _, tool := range d.tools[workload] {
		fmt.Fprintf(w, "| %s |", tool)
		for _, step := range shown {
			fmt.Fprintf(w, " %s |", cell(d.rows[workload][tool][step]))
		}
		for _, f := range []func(data, string, string, int) float64{stored, growth, peak} {
			var values []float64
			for rep := 1; rep <= d.reps; rep++ {
				if v := f(d, workload, tool, rep); !math.IsNaN(v) {
					values = append(values, v)
				}
			}
			if len(values) == 0 {
				fmt.Fprint(w, " |")
				continue
			}
			fmt.Fprintf(w, " %.1f |", median(values))
		}
		fmt.Fprintln(w)
	}
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
