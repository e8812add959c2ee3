package simulate

import (
	"fmt"
	"slices"
	"time"
)

// showSizes makes a table of the steps at all sizes.
func showSizes(steps []Step) *Table {
	t := &Table{
		Title: "What a step takes, by the entries in the branch",
		Head:  []string{"step", "entries", "read", "in parts", "write", "swap", "list", "delete", "up", "down", "seconds", "files there", "bytes there", "$ for 1,000"},
	}
	for _, s := range steps {
		t.add(s.Name, number(s.Entries), s.Reads, s.Ranges, s.Writes, s.Swaps, s.Lists, s.Deletes, size(float64(s.Up)), size(float64(s.Down)), s.Time,
			s.Files, size(float64(s.Bytes)), dollars(s.Count, 1))
	}
	return t
}

// dollars shows what 1,000 times as much costs, of what so many did: requests, and what
// leaves the store.
func dollars(c Count, did int) string {
	requests, egress := ListPrices.Of(c)
	return fmt.Sprintf("%.3f + %.3f", requests*1000/float64(did), egress*1000/float64(did))
}

// far is a number of entries that is too large to measure.
const far = 10_000_000

// showFits makes a table of how the steps grow: what was measured, what they will take at
// 10 million entries, and how far the fit is off where it was measured.
func showFits(steps []Step) *Table {
	t := &Table{Title: "How a step grows with the entries E: measured, and fitted to that", Head: []string{"step", ""}}
	var names []string
	of := map[string][]Step{}
	for _, s := range steps {
		if of[s.Name] == nil {
			names = append(names, s.Name)
		}
		of[s.Name] = append(of[s.Name], s)
	}
	for _, s := range of[names[0]] {
		t.Head = append(t.Head, number(s.Entries))
	}
	t.Head = append(t.Head, number(far), "fit", "off by at most")
	for _, name := range names {
		for _, q := range quantities {
			var xs, ys []float64
			row := []any{name, q.name}
			for _, s := range of[name] {
				xs, ys = append(xs, float64(s.Entries)), append(ys, q.of(s))
				row = append(row, q.shown(q.of(s)))
			}
			if slices.Max(ys) > 0 {
				f := FitTo(xs, ys)
				t.add(append(row, q.shown(f.At(far)), f, fmt.Sprintf("%.0f %%", 100*f.Residue))...)
			}
		}
	}
	return t
}

// quantities are what is fitted.
var quantities = []struct {
	name  string
	of    func(Step) float64
	shown func(float64) string
}{
	{"requests", func(s Step) float64 { return float64(s.Requests()) }, func(n float64) string { return number(int(n + 0.5)) }},
	{"up", func(s Step) float64 { return float64(s.Up) }, size},
	{"down", func(s Step) float64 { return float64(s.Down) }, size},
}

// showTeams makes a table of teams at work.
func showTeams(all []Worked) *Table {
	t := &Table{
		Title: "Machines that build once each, and push to one bucket",
		Head: []string{"branches", "machines", "builds/s", "gcs", "pushed", "given up", "pushes/s", "s, median", "s, 95 %", "s, longest",
			"requests a push", "swaps lost", "up", "down", "requests a pull", "down", "$ for 1,000"},
	}
	for _, w := range all {
		rate := "all at once"
		if w.PerSecond > 0 {
			rate = shown(w.PerSecond)
		}
		var both Count
		both.Add(w.Pulls)
		both.Add(w.Pushes)
		each := func(n int) float64 { return float64(n) / float64(w.Machines) }
		bytes := func(n int64) string { return size(float64(n) / float64(w.Machines)) }
		t.add(branches(w.Shared), number(w.Machines), rate, w.Collects, number(w.Pushed), w.GivenUp, float64(w.Pushed)/w.Time.Seconds(), w.nth(0.5), w.nth(0.95), w.nth(1),
			each(w.Pushes.Requests()), each(w.Pushes.Lost), bytes(w.Pushes.Up), bytes(w.Pushes.Down),
			each(w.Pulls.Requests()), bytes(w.Pulls.Down), dollars(both, w.Machines))
	}
	return t
}

// nth returns what a share of the pushes took at most.
func (w Worked) nth(share float64) time.Duration {
	if len(w.Each) == 0 {
		return 0
	}
	return w.Each[min(len(w.Each)-1, int(share*float64(len(w.Each))))]
}

// showGrowth makes a table of what grows with the pushes.
func showGrowth(all []Grown) *Table {
	t := &Table{
		Title: "What grows with the pushes, one entry each: the root, and history",
		Head:  []string{"branches", "pushes", "gcs after", "root", "requests of the last", "up", "down", "requests of a lazy clone", "down"},
	}
	for _, g := range all {
		t.add(branches(g.Shared), number(g.Pushes), g.GCs, size(float64(g.Root)), g.Requests(), size(float64(g.Up)), size(float64(g.Down)),
			g.Lazy.Requests(), size(float64(g.Lazy.Down)))
	}
	return t
}

func branches(shared bool) string {
	if shared {
		return "one"
	}
	return "own"
}
