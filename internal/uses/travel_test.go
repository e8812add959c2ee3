package uses

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"
)

func TestNewest(t *testing.T) {
	table := Table{1: 10, 2: 30, 3: 20, 4: 30}
	for most, want := range map[int]Table{0: {}, 1: {2: 30}, 2: {2: 30, 4: 30}, 3: {2: 30, 3: 20, 4: 30}, 4: table, 9: table} {
		if got := table.Newest(most); !maps.Equal(got, want) {
			t.Errorf("Newest(%d) = %v, want %v", most, got, want)
		}
	}
	if got := table.Until(20); !maps.Equal(got, Table{1: 10, 3: 20}) {
		t.Errorf("Until(20) = %v", got)
	}
}

// Each use is told once to each remote, though more are noted on the same day.
func TestUnsent(t *testing.T) {
	dir := t.TempDir()
	table := Table{}
	if day := SentOn(dir, "a"); day != -1 {
		t.Errorf("told on %d, before it was", day)
	}
	for i, step := range []struct {
		day  int32
		path string
		want []string // days and paths that are sent then
	}{
		{5, "x", []string{"5 x"}},
		{5, "y", []string{"5 y"}},
		{5, "x", nil},
		{6, "x", []string{"6 x"}},
		{6, "z", []string{"6 z"}},
		{5, "late", nil}, // of a day that was told
		{7, "late", []string{"7 late"}},
	} {
		table.Note(step.day, step.path)
		want := Table{}
		for _, text := range step.want {
			var day int32
			var path string
			fmt.Sscan(text, &day, &path)
			want.Note(day, path)
		}
		got, err := Unsent(dir, "a", table, 20)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("step %d: %v, %v, want %v", i, got, err, want)
		}
		if err := NoteSent(dir, "a", got, 20); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Unsent(dir, "b", table, 20); err != nil || !maps.Equal(got, table) {
		t.Errorf("another remote is told %v, %v", got, err)
	}
	// A clock that was wrong once is wrong no longer than that.
	if err := NoteSent(dir, "b", Table{1: 3, 2: 99}, 100); err != nil {
		t.Fatal(err)
	}
	if got, err := Unsent(dir, "b", Table{1: 4, 2: 99, 3: 5}, 20); err != nil || !maps.Equal(got, Table{1: 4, 3: 5}) {
		t.Errorf("after a day too late: %v, %v", got, err)
	}
	if day := SentOn(dir, "a"); day != Today(time.Now()) {
		t.Errorf("told on %d", day)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Table{1: 2, 3: 4}.Encode())
	f.Add(Table{}.Encode())
	f.Add([]byte{0, 0, 0, 1})
	f.Add([]byte{255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		table, err := Parse(p, 1000)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
		if err == nil && !bytes.Equal(table.Encode(), p) {
			t.Errorf("%x became %v", p, table)
		}
	})
}
