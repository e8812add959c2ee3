package refs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/refs/refstest"
)

// update is a set of updates between two states, for test.Case.
type update []refs.Update

func up(name refs.Name, from, to uint64) refs.Update {
	u := refs.Update{Name: name, Reason: fmt.Sprintf("%d to %d", from, to)}
	if from > 0 {
		u.Old = refstest.ID(from)
	}
	if to > 0 {
		u.New = refstest.ID(to)
	}
	return u
}

// crashes are the updates that are interrupted everywhere.
var crashes = map[string]update{
	"one moves":       {up(mainBranch, 2, 3)},
	"one is made":     {up("refs/heads/deep/er/new", 0, 1)},
	"one goes":        {up("refs/heads/deep/old", 1, 0)},
	"above, once was": {up("refs/heads/gone", 0, 7)},
	"many": {
		up(mainBranch, 2, 3), up(other, 1, 2), up("refs/heads/deep/er/new", 0, 1),
		up("refs/heads/deep/old", 1, 0), up("refs/remotes/origin/main", 0, 3),
	},
	"down": {up(other, 1, 0), up(other+"/below/it", 0, 1), up(mainBranch, 2, 1)},
	"up":   {up("refs/heads/deep", 0, 1), up("refs/heads/deep/old", 1, 0)},
}

func (u update) setup(dir string) error {
	ctx := context.Background()
	f, err := refs.Init(ctx, dir, mainBranch, refs.Options{Who: someone})
	if err != nil {
		return err
	}
	for _, u := range [][]refs.Update{
		{up(mainBranch, 0, 1), up(other, 0, 1), up("refs/heads/gone/by", 0, 1)},
		{up(mainBranch, 1, 2)},
		{up("refs/heads/deep/old", 0, 1)},
		{up("refs/heads/gone/by", 1, 0)},
	} {
		if err := f.Apply(ctx, u...); err != nil {
			return err
		}
	}
	// What a crash long ago may have left: a log without its ref.
	orphan := filepath.Join(dir, "logs/refs/heads/gone/by")
	if err := os.MkdirAll(filepath.Dir(orphan), 0o777); err != nil {
		return err
	}
	return os.WriteFile(orphan, []byte("junk"), 0o666)
}

func (u update) act(dir string) error {
	return refs.Open(dir, refs.Options{Who: someone}).Apply(context.Background(), u...)
}

// check wants all of the updates or none, with the logs to match, before and
// after the next update has cleaned up; and that one can come.
func (u update) check(t *testing.T, dir string, err error) {
	f := refs.Open(dir, refs.Options{Who: someone})
	moved := u.state(t, f)
	if err == nil && !moved {
		t.Error("reported as done, but it is not")
	}
	if got := u.state(t, f); got != moved {
		t.Error("a second look shows another state")
	}
	if err := f.Apply(t.Context(), up("refs/heads/after", 0, 1)); err != nil {
		t.Fatalf("the next update: %v", err)
	}
	if got := u.state(t, f); got != moved {
		t.Error("the next update changes what is there")
	}
	if !moved {
		if err := f.Apply(t.Context(), u...); err != nil {
			t.Errorf("the same again: %v", err)
		}
		if !u.state(t, f) {
			t.Error("the same again does not help")
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "refs.journal")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the journal stays: %v", err)
	}
}

// state returns whether the updates have been made; it wants all or none.
func (u update) state(t *testing.T, f *refs.Files) bool {
	t.Helper()
	var old, moved []string
	for _, u := range u {
		id, err := f.Get(t.Context(), u.Name)
		if err != nil && !errors.Is(err, refs.ErrNotFound) {
			t.Fatal(err)
		}
		switch id {
		case u.Old:
			old = append(old, u.Name.Short())
		case u.New:
			moved = append(moved, u.Name.Short())
		default:
			t.Errorf("%s is %s", u.Name, id)
		}
		checkLog(t, f, u.Name, id)
	}
	if len(old) > 0 && len(moved) > 0 {
		t.Errorf("%q moved, %q did not", moved, old)
	}
	for r, err := range f.All(t.Context(), "") {
		if err != nil {
			t.Error(err)
		}
		checkLog(t, f, r.Name, r.ID)
	}
	return len(moved) > 0
}

// checkLog wants a log that leads to id without a gap.
func checkLog(t *testing.T, f *refs.Files, name refs.Name, id objects.ID) {
	t.Helper()
	entries, err := f.Log(t.Context(), name)
	if id.IsZero() {
		if !errors.Is(err, refs.ErrNotFound) {
			t.Errorf("log of %s, which is gone: %v, %v", name, entries, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var at objects.ID
	for _, e := range entries {
		if e.Old != at {
			t.Errorf("log of %s: gap between %d and %d", name, refstest.Number(at), refstest.Number(e.Old))
		}
		at = e.New
	}
	if at != id {
		t.Errorf("log of %s ends at %d, it is at %d", name, refstest.Number(at), refstest.Number(id))
	}
}

func (u update) crash(t *testing.T) test.Case {
	return test.Case{Setup: u.setup, Act: u.act, Check: u.check, Max: test.Count(t, 100)}
}

func TestApplyFaults(t *testing.T) {
	for name, u := range crashes {
		t.Run(name, func(t *testing.T) { u.crash(t).EveryStep(t) })
	}
}

func TestApplyKilled(t *testing.T) {
	for name, u := range crashes {
		t.Run(name, func(t *testing.T) { u.crash(t).Kill(t) })
	}
}

func TestApplyPowerCut(t *testing.T) {
	for name, u := range crashes {
		t.Run(name, func(t *testing.T) { u.crash(t).PowerCut(t) })
	}
}

// The next process may die, too, while it finishes what the first left.
func TestRecoveryKilled(t *testing.T) {
	u := crashes["many"]
	c := u.crash(t)
	c.Setup = func(dir string) error {
		if err := u.setup(dir); err != nil {
			return err
		}
		restore := durable.SetHook(func(s durable.Step, do func(durable.Step) error) error {
			if strings.HasPrefix(s.Path, filepath.Join(dir, "logs")) {
				return test.ErrDead // no log can be written: all stays in the journal
			}
			return do(s)
		})
		defer restore()
		return u.act(dir)
	}
	c.Act = func(dir string) error {
		return refs.Open(dir, refs.Options{Who: someone}).Apply(context.Background(), up("refs/heads/next", 0, 1))
	}
	c.Check = func(t *testing.T, dir string, _ error) { u.check(t, dir, nil) }
	c.Kill(t)
	c.PowerCut(t)
}

func TestDamagedJournal(t *testing.T) {
	u := crashes["many"]
	full := t.TempDir()
	if err := u.setup(full); err != nil {
		t.Fatal(err)
	}
	plan := &test.Plan{At: 8, Fault: test.Dead}
	stop := plan.Start(t)
	err := u.act(full)
	stop()
	journal, readErr := os.ReadFile(filepath.Join(full, "refs.journal"))
	if readErr != nil {
		t.Fatal(plan.Where(), err, readErr)
	}
	for _, tt := range []struct {
		what string
		data []byte
		want string
	}{
		{"cut", journal[:len(journal)-20], "checksum"},
		{"flipped", append([]byte{journal[0] ^ 1}, journal[1:]...), "checksum"},
		{"newer", []byte(strings.Replace(string(journal), "journal 1", "journal 2", 1)), "newer"},
	} {
		os.WriteFile(filepath.Join(full, "refs.journal"), tt.data, 0o666)
		f := refs.Open(full, refs.Options{})
		if _, err := f.Get(t.Context(), mainBranch); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Get: %v", tt.what, err)
		}
		if err := f.Apply(t.Context(), up("refs/heads/x", 0, 1)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Apply: %v", tt.what, err)
		}
	}
}
