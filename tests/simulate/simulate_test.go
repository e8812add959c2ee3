package simulate

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
)

// The flags are small by default, so that all of this is run by every test of all; "make
// simulate" gives those that docs/scale.md quotes.
var (
	entries   = flag.String("entries", "300,1000,3000", "sizes of a branch, separated by commas")
	teams     = flag.String("teams", "own/5,own/10/2,one/5,one/10/0.5/5s", "BRANCHES/MACHINES[/BUILDS A SECOND[/TIME FROM GC TO GC]], separated by commas")
	pushes    = flag.String("pushes", "1,10,60", "which pushes without a gc to look at")
	latency   = flag.Duration("latency", 30*time.Millisecond, "what a request takes, on average")
	bandwidth = flag.Int64("bandwidth", 50e6, "bytes a second, of each machine")
	fail      = flag.Float64("fail", 0.01, "the share of requests that fail, where teams work")
	csvFile   = flag.String("csv", "", "a file for the tables, too")
)

// TestSimulate runs all scenarios, on a clock of their own, and shows what they took. It
// fails if anything is lost that was acknowledged.
func TestSimulate(t *testing.T) {
	if old := debug.SetMemoryLimit(-1); old == math.MaxInt64 {
		debug.SetMemoryLimit(1500 << 20)
	}
	var tables []*Table
	inBubble(t, func(t *testing.T) {
		for _, run := range []func(context.Context, string) ([]*Table, error){runSizes, runTeams, runGrowth} {
			shown, err := run(t.Context(), test.Dir(t))
			for _, table := range shown {
				table.Print(os.Stdout)
			}
			if err != nil {
				t.Fatal(err)
			}
			tables = append(tables, shown...)
		}
	})
	if *csvFile == "" || t.Failed() {
		return
	}
	f, err := os.Create(*csvFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, table := range tables {
		if err := table.CSV(f); err != nil {
			t.Fatal(err)
		}
	}
}

// inBubble runs fn on a clock that goes on when all wait, and no sooner. It is ahead of the
// real one, by which files are stamped: what was written is in the past.
func inBubble(t *testing.T, fn func(*testing.T)) {
	now := time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(now.Add(24 * time.Hour)))
		fn(t)
	})
	// Encoders that were made in there wait in a sync.Pool, and may not be used outside:
	// two collections drop them.
	runtime.GC()
	runtime.GC()
}

func runSizes(ctx context.Context, dir string) ([]*Table, error) {
	sizes, err := numbers(*entries)
	if err != nil {
		return nil, err
	}
	var all []Step
	for _, n := range sizes {
		at := filepath.Join(dir, fmt.Sprint(n))
		steps, err := Sizes(ctx, at, n, Network{Latency: *latency, Bandwidth: *bandwidth})
		if all = append(all, steps...); err != nil {
			return []*Table{showSizes(all)}, err
		}
		if err := os.RemoveAll(at); err != nil {
			return nil, err
		}
	}
	return []*Table{showSizes(all), showFits(all)}, nil
}

func runTeams(ctx context.Context, dir string) ([]*Table, error) {
	var all []Worked
	for i, words := range strings.Split(*teams, ",") {
		team, err := parseTeam(words)
		if err != nil {
			return nil, err
		}
		at := filepath.Join(dir, fmt.Sprint(i))
		w, err := team.Work(ctx, at, Network{Latency: *latency, Bandwidth: *bandwidth, Fail: *fail})
		if all = append(all, w); err != nil {
			return []*Table{showTeams(all)}, fmt.Errorf("%s: %w", words, err)
		}
		if err := os.RemoveAll(at); err != nil {
			return nil, err
		}
	}
	return []*Table{showTeams(all)}, nil
}

// parseTeam parses "one/100/0.5/10m".
func parseTeam(s string) (t Team, err error) {
	words := strings.Split(s, "/")
	if len(words) < 2 || len(words) > 4 || words[0] != "own" && words[0] != "one" {
		return t, fmt.Errorf("%q is no team", s)
	}
	t = Team{Shared: words[0] == "one", Entries: 10}
	if t.Machines, err = strconv.Atoi(words[1]); err == nil && len(words) > 2 {
		t.PerSecond, err = strconv.ParseFloat(words[2], 64)
	}
	if err == nil && len(words) > 3 {
		t.Collect, err = time.ParseDuration(words[3])
	}
	return t, err
}

func runGrowth(ctx context.Context, dir string) ([]*Table, error) {
	at, err := numbers(*pushes)
	if err != nil {
		return nil, err
	}
	var all []Grown
	for _, shared := range []bool{false, true} {
		grown, err := Growth(ctx, filepath.Join(dir, branches(shared)), shared, at)
		if all = append(all, grown...); err != nil {
			return []*Table{showGrowth(all)}, err
		}
	}
	return []*Table{showGrowth(all)}, nil
}

func numbers(s string) ([]int, error) {
	var all []int
	for word := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}
