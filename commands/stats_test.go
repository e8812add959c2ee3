package commands

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/action"
)

func TestKeepLargest(t *testing.T) {
	var largest []entryStats
	for i, size := range []int64{3, 9, 1, 9, 4, 2} {
		path := entry.Path(entry.Put, strings.Repeat("k", i+1))
		largest = keepLargest(largest, 3, fan{path: path}, size, nil)
	}
	var sizes []int64
	for _, e := range largest {
		sizes = append(sizes, e.Size)
	}
	if want := []int64{9, 9, 4}; !slices.Equal(sizes, want) {
		t.Errorf("kept %v, want %v", sizes, want)
	}
	if largest := keepLargest(nil, 0, fan{}, 1, nil); largest != nil {
		t.Errorf("of none it kept %v", largest)
	}
}

func TestByDay(t *testing.T) {
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.Local)
	runs := []action.Ran{
		{Time: noon, Outcome: action.Miss},
		{Time: noon.Add(time.Hour), Outcome: action.Hit, Command: 3 * time.Second, Took: time.Second},
		{Time: noon.AddDate(0, 0, 2), Outcome: action.Uncached},
	}
	days := byDay(runs)
	if len(days) != 2 || days[0].Day != "2026-02-02" || days[1].Day != "2026-01-31" {
		t.Fatalf("days are %+v", days)
	}
	if d := days[1]; d.Hits != 1 || d.Misses != 1 || d.HitRate != 0.5 || d.Saved != 2 {
		t.Errorf("the first day is %+v", d)
	}
	if d := days[0]; d.Uncached != 1 || d.HitRate != 0 {
		t.Errorf("the last day is %+v", d)
	}
}

func TestVersionGroups(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	g := newVersionGroups(now)
	st := &stats{o: statsOptions{by: map[string]bool{"client": true, "age": true}}}
	var sums []int64
	for _, f := range []struct {
		kind entry.Kind
		ago  time.Duration
		size int64
	}{
		{entry.Put, time.Hour, 1}, {entry.Run, time.Hour, 2}, {entry.Put, 100 * 24 * time.Hour, 4}, {entry.Put, -time.Hour, 8},
	} {
		n := g.of(fan{kind: f.kind, when: now.Add(-f.ago).Unix()})
		if n == len(sums) {
			sums = append(sums, 0)
		}
		sums[n] += f.size
	}
	versions, size := g.show(st, sums)
	if versions != 4 || size != 15 {
		t.Errorf("%d versions of %d bytes, want 4 of 15", versions, size)
	}
	wantClients := []versionStats{{Client: entry.Put, Versions: 3, Size: 13}, {Client: entry.Run, Versions: 1, Size: 2}}
	wantAges := []versionStats{{Age: "a day", Versions: 3, Size: 11}, {Age: "a year", Versions: 1, Size: 4}}
	if !slices.Equal(st.ByClient, wantClients) || !slices.Equal(st.ByAge, wantAges) {
		t.Errorf("by client %+v, by age %+v", st.ByClient, st.ByAge)
	}
}
