package uses

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestNewestUseCounts(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []struct {
		day  int32
		path string
	}{{5, "put/aa/bb/x"}, {9, "put/aa/bb/x"}, {7, "put/aa/bb/x"}, {3, "put/aa/bb/y"}} {
		if err := Note(dir, n.day, n.path); err != nil {
			t.Fatal(err)
		}
	}
	table, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int32{"put/aa/bb/x": 9, "put/aa/bb/y": 3} {
		if day, ok := table.Day(path); !ok || day != want {
			t.Errorf("%s: %d, %v, want %d", path, day, ok, want)
		}
	}
	if _, ok := table.Day("put/aa/bb/z"); ok {
		t.Error("z was never used")
	}
}

func TestDamagedLinesArePassedOver(t *testing.T) {
	dir := t.TempDir()
	if err := Note(dir, 4, "a"); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, fileName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "0123 5\nxyz\n\n0123456789abcdef -4\n0123456789abcdef\n01234567")
	f.Close()
	// The next line is appended to one that was cut short: both are lost, and no other.
	if err := Note(dir, 5, "b"); err != nil {
		t.Fatal(err)
	}
	if err := Note(dir, 6, "c"); err != nil {
		t.Fatal(err)
	}
	table, err := Load(dir)
	if err != nil || len(table) != 2 {
		t.Errorf("%v, %v, want a and c", table, err)
	}
}

func TestCompact(t *testing.T) {
	dir := t.TempDir()
	const many = 20000
	for day := range int32(2) {
		table := Table{}
		for i := range many {
			table.Note(day, fmt.Sprint(i))
		}
		table.Note(day*10, "late")
		if err := Append(dir, table); err != nil {
			t.Fatal(err)
		}
	}
	if err := Compact(context.Background(), dir, 5); err != nil {
		t.Fatal(err)
	}
	table, err := Load(dir)
	if day, ok := table.Day("late"); err != nil || len(table) != 1 || !ok || day != 10 {
		t.Errorf("%d uses, %v, late on %d; want that alone, on day 10", len(table), err, day)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("0123456789abcdef 20000\n"))
	f.Add([]byte("0123456789abcdef 20000\n0123456789abcdef 19999\nfedcba98"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName), data, 0o666); err != nil {
			t.Fatal(err)
		}
		table, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fileName), table.text(), 0o666); err != nil {
			t.Fatal(err)
		}
		if again, err := Load(dir); err != nil || !maps.Equal(again, table) {
			t.Errorf("%v, written and read again %v, %v", table, again, err)
		}
	})
}
