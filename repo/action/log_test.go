package action

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

var sampleRan = Ran{
	Time: time.UnixMilli(1767225600123), Outcome: Uncached, Key: objects.EmptyTree, Base: objects.ID{1}, Family: 0xfeed,
	Took: 1500 * time.Microsecond, Command: time.Millisecond, Exit: 2, Reason: "a\ttab and \xff", Label: "gcc 'a b'.c\n",
}

func TestLog(t *testing.T) {
	dir := t.TempDir()
	if runs, err := Log(dir); err != nil || len(runs) != 0 {
		t.Errorf("without a log: %v, %v", runs, err)
	}
	name := filepath.Join(dir, logFile)
	if err := os.WriteFile(name, []byte("run1\tcut sh\nrun9\tof another version\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := record(dir, sampleRan); err != nil {
			t.Fatal(err)
		}
	}
	runs, err := Log(dir)
	if err != nil || !reflect.DeepEqual(runs, []Ran{sampleRan, sampleRan}) {
		t.Errorf("came back as %+v, %v", runs, err)
	}
}

func TestLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	line := string(sampleRan.append(nil))
	full := strings.Repeat(line, maxLog/len(line)+1)
	for range 3 {
		if err := os.WriteFile(filepath.Join(dir, logFile), []byte(full), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := record(dir, sampleRan); err != nil {
			t.Fatal(err)
		}
	}
	var size int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += fi.Size()
	}
	if size > maxLog+1000 {
		t.Errorf("%d bytes in %d files", size, len(entries))
	}
	if runs, err := Log(dir); err != nil || len(runs) < maxLog/len(line) {
		t.Errorf("%d runs left, %v", len(runs), err)
	}
}

func TestLabel(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"gcc -c a.c", "gcc -c a.c"},
		{"", "''"},
		{"it's", `'it'\''s'`},
		{strings.Repeat("long ", 50), strings.Repeat("long ", 24) + "…"},
	} {
		if got := label(strings.Split(strings.TrimSpace(tt.args), " ")); got != tt.want {
			t.Errorf("label(%q) = %q, want %q", tt.args, got, tt.want)
		}
	}
}

func FuzzParseRan(f *testing.F) {
	f.Add(strings.TrimSuffix(string(sampleRan.append(nil)), "\n"))
	f.Add("run1\t1\thit")
	f.Fuzz(func(t *testing.T, line string) {
		r, err := parseRan(line)
		if err != nil {
			return
		}
		again, err := parseRan(strings.TrimSuffix(string(r.append(nil)), "\n"))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%q came back as %+v, %v, want %+v", line, again, err, r)
		}
	})
}

// What was logged since a mark is told without clocks, also when the log began anew.
func TestLogSince(t *testing.T) {
	dir := t.TempDir()
	add := func(label string) {
		t.Helper()
		if err := record(dir, Ran{Time: time.Now().Add(-time.Hour), Outcome: Miss, Label: label}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(m Mark, want ...string) {
		t.Helper()
		runs, err := LogSince(dir, m)
		var got []string
		for _, r := range runs {
			got = append(got, r.Label)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	empty := MarkLog(dir)
	check(empty)
	add("a")
	check(empty, "a")
	first := MarkLog(dir)
	check(first)
	add("b")
	check(first, "b")
	if err := os.Rename(filepath.Join(dir, logFile), filepath.Join(dir, oldLogFile)); err != nil {
		t.Fatal(err)
	}
	check(first, "b")
	add("c")
	check(first, "b", "c")
}
