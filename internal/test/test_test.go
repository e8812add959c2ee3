package test_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/internal/test"
)

// replace is a Case over WriteFile: "old" becomes "new", whole.
func replace(act func(name string) error) test.Case {
	return test.Case{
		Setup: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "f"), []byte("old"), 0o666)
		},
		Act: func(dir string) error { return act(filepath.Join(dir, "f")) },
		Check: func(t *testing.T, dir string, err error) {
			got, readErr := os.ReadFile(filepath.Join(dir, "f"))
			if readErr != nil {
				t.Fatal(readErr)
			}
			if string(got) != "new" && (err == nil || string(got) != "old") {
				t.Errorf("file holds %q after %v", got, err)
			}
		},
	}
}

func synced(name string) error { return durable.WriteFile(name, []byte("new"), durable.Synced) }

func TestWriteFileSurvives(t *testing.T) {
	replace(synced).EveryStep(t)
	replace(synced).PowerCut(t)
}

func TestWriteFileSurvivesKill(t *testing.T) {
	replace(synced).Kill(t)
}

// The tools must find what is wrong, or all that they are used for proves
// nothing.
func TestCaseFindsFaults(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, tt := range []struct {
		what string
		act  func() error
		keep test.Keep
		want string
	}{
		{"renamed, not synced", func() error {
			return durable.WriteFile(name, []byte("new"), durable.NoSync)
		}, test.KeepNames, ""},
		{"renamed, not synced, names lost", func() error {
			return durable.WriteFile(name, []byte("new"), durable.NoSync)
		}, test.KeepNothing, "old"},
		{"written behind durable's back", func() error {
			return os.WriteFile(name, []byte("new"), 0o666)
		}, test.KeepNames, "old"},
		{"removed, not synced", func() error { return durable.Remove(name) }, test.KeepNothing, "old"},
		{"done right", func() error { return synced(name) }, test.KeepNothing, "new"},
		{"appended, not synced", func() error { return appendTo(name, false) }, test.KeepNothing, "old"},
		{"appended", func() error { return appendTo(name, true) }, test.KeepNothing, "old, new"},
	} {
		os.WriteFile(name, []byte("old"), 0o666)
		disk := test.NewDisk(t, dir)
		restore := durable.SetHook(disk.Hook)
		if err := tt.act(); err != nil {
			t.Fatal(err)
		}
		restore()
		left := t.TempDir()
		if err := disk.CopyTo(left, tt.keep); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(filepath.Join(left, "f")); string(got) != tt.want {
			t.Errorf("%s: a power cut leaves %q, want %q", tt.what, got, tt.want)
		}
	}
}

func appendTo(name string, sync bool) error {
	f, err := durable.OpenAppend(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := durable.Append(f, []byte(", new")); err != nil || !sync {
		return err
	}
	return durable.SyncFile(f)
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		fault test.Fault
		want  string // what is left in the directory
	}{
		{test.Fail, ""},
		{test.DoneFail, "f"},
		{test.Cut, ""},
		{test.Dead, "tmp-"},
	} {
		dir := t.TempDir()
		// Steps: create, write, sync, rename.
		plan := &test.Plan{At: 4, Fault: tt.fault, Err: errors.New("broken")}
		stop := plan.Start(t)
		err := synced(filepath.Join(dir, "f"))
		stop()
		if err == nil || !plan.Reached() {
			t.Errorf("%v: %v, reached %v", tt.fault, err, plan.Reached())
		}
		var got string
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			got += e.Name()
		}
		if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%v: %q is left, want %q", tt.fault, got, tt.want)
		}
	}
}

func TestDamage(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	os.WriteFile(name, []byte("abc"), 0o444)
	test.FlipBit(t, name, 8)
	test.FlipBit(t, name, -8)
	test.CutShort(t, name, -1)
	if got, _ := os.ReadFile(name); string(got) != "ac" {
		t.Errorf("left %q", got)
	}
}

func TestTree(t *testing.T) {
	a, b, c := t.TempDir(), t.TempDir(), t.TempDir()
	test.Tree(t, a, 1, 300)
	test.Tree(t, b, 1, 300)
	test.Tree(t, c, 2, 300)
	if test.Shape(t, a) != test.Shape(t, b) {
		t.Error("the same seed makes different trees")
	}
	if test.Shape(t, a) == test.Shape(t, c) {
		t.Error("different seeds make the same tree")
	}
}
