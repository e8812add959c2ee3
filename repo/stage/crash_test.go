package stage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/repo/stage"
)

// A branch stands in for a real one: what is committed, and which sequences.
type branch struct {
	Records  []stage.Record
	Seqs     []uint64
	TakenOut bool // by a later commit
}

const branchFile = "branch"

func readBranch(dir string) (b branch) {
	if data, err := os.ReadFile(filepath.Join(dir, branchFile)); err == nil {
		if err := json.Unmarshal(data, &b); err != nil {
			panic(err)
		}
	}
	return b
}

func (b branch) write(dir string) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, branchFile), data, durable.Synced)
}

func stageIn(dir string) *stage.Stage {
	return stage.Open(filepath.Join(dir, "stage"), "main", stage.Options{
		Folded: func(_ context.Context, seq uint64) (bool, error) {
			return slices.Contains(readBranch(dir).Seqs, seq), nil
		},
	})
}

// commit folds what is staged into the branch.
func commit(dir string) error {
	fold, err := stageIn(dir).Rotate(ctx)
	if err != nil {
		return err
	}
	defer fold.Close()
	if fold.Seq > 0 {
		b := readBranch(dir)
		b.Records = append(b.Records, fold.Records...)
		b.Seqs = append(b.Seqs, fold.Seq)
		if err := b.write(dir); err != nil {
			return err
		}
	}
	return fold.Done(ctx)
}

// commitAndTakeOut is a commit, and another one that takes everything out again.
func commitAndTakeOut(dir string) error {
	if err := commit(dir); err != nil {
		return err
	}
	return branch{Seqs: readBranch(dir).Seqs, TakenOut: true}.write(dir)
}

// commitNothing folds what the branch has already, so that there is no commit to
// name the sequence; then another commit takes everything out.
func commitNothing(dir string) error {
	fold, err := stageIn(dir).Rotate(ctx)
	if err != nil {
		return err
	}
	defer fold.Close()
	if err := fold.Done(ctx); err != nil {
		return err
	}
	return branch{TakenOut: true}.write(dir)
}

// state is what lookups see: the stage over the branch.
func state(t *testing.T, dir string) map[string]stage.Record {
	t.Helper()
	now := map[string]stage.Record{}
	for _, r := range slices.Concat(readBranch(dir).Records, all(t, stageIn(dir))) {
		if now[r.Path] = r; r.ID.IsZero() {
			delete(now, r.Path)
		}
	}
	return now
}

func stateOf(records ...stage.Record) map[string]stage.Record {
	now := map[string]stage.Record{}
	for _, r := range records {
		now[r.Path] = r
	}
	return now
}

// checkGoesOn appends and commits in what a crash left behind, deletes what was
// there in a commit of its own, and checks that it stays away.
func checkGoesOn(t *testing.T, dir string) {
	t.Helper()
	s := stageIn(dir)
	want := state(t, dir)
	appendTo(t, s, put("later", 1))
	want["later"] = put("later", 1)
	for range 2 {
		if got := state(t, dir); !maps.Equal(got, want) {
			t.Fatalf("going on gives %v, want %v", got, want)
		}
		if err := commit(dir); err != nil {
			t.Fatal(err)
		}
	}
	if left := all(t, s); len(left) > 0 {
		t.Errorf("still staged after a commit: %v", left)
	}
	b := readBranch(dir)
	b.Records = nil // a commit that takes everything out
	if err := b.write(dir); err != nil {
		t.Fatal(err)
	}
	if got := state(t, dir); len(got) > 0 {
		t.Errorf("came back: %v", got)
	}
}

// inStage makes a stage with records, each appended for itself.
func inStage(records ...stage.Record) func(dir string) error {
	return func(dir string) error {
		for _, r := range records {
			if err := stageIn(dir).Append(ctx, r); err != nil {
				return err
			}
		}
		return nil
	}
}

// leftFold makes a stage whose last fold died before its commit.
func leftFold(before, after stage.Record) func(dir string) error {
	return func(dir string) error {
		if err := inStage(before)(dir); err != nil {
			return err
		}
		fold, err := stageIn(dir).Rotate(ctx)
		if err != nil {
			return err
		}
		fold.Close()
		return inStage(after)(dir)
	}
}

// brokenHeader makes a stage whose journal lost its header in a power cut.
func brokenHeader(records ...stage.Record) func(dir string) error {
	return func(dir string) error {
		if err := inStage(records...)(dir); err != nil {
			return err
		}
		f, err := os.OpenFile(filepath.Join(dir, "stage/main.journal"), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt(make([]byte, 10), 0)
		return err
	}
}

func TestCrash(t *testing.T) {
	for _, tt := range []struct {
		name     string
		setup    func(dir string) error
		act      func(dir string) error
		old, new map[string]stage.Record
		kill     bool // also with processes that are really killed, which takes longer
	}{
		{
			name: "first append",
			act:  func(dir string) error { return stageIn(dir).Append(ctx, put("b", 1), put("c", 1)) },
			old:  stateOf(), new: stateOf(put("b", 1), put("c", 1)),
		},
		{
			name: "append", setup: inStage(put("a", 1)),
			act: func(dir string) error { return stageIn(dir).Append(ctx, put("b", 1), put("c", 1), del("a")) },
			old: stateOf(put("a", 1)), new: stateOf(put("b", 1), put("c", 1)),
			kill: true,
		},
		{
			name: "append behind a broken header", setup: brokenHeader(put("a", 1), put("b", 1)),
			act: func(dir string) error { return stageIn(dir).Append(ctx, put("b", 2)) },
			old: stateOf(put("a", 1), put("b", 1)), new: stateOf(put("a", 1), put("b", 2)),
		},
		{
			name: "commit", setup: inStage(put("a", 1), put("b", 1), put("a", 2)), act: commit,
			old: stateOf(put("a", 2), put("b", 1)), new: stateOf(put("a", 2), put("b", 1)),
		},
		{
			name: "commit with a fold left behind", setup: leftFold(put("a", 1), put("b", 1)), act: commit,
			old: stateOf(put("a", 1), put("b", 1)), new: stateOf(put("a", 1), put("b", 1)),
			kill: true,
		},
		{
			name: "commit behind a broken header", setup: brokenHeader(put("a", 1)), act: commit,
			old: stateOf(put("a", 1)), new: stateOf(put("a", 1)),
		},
		{
			name: "commit, then out again", setup: inStage(put("a", 1), put("b", 1)), act: commitAndTakeOut,
			old: stateOf(put("a", 1), put("b", 1)), new: stateOf(),
		},
		{
			name: "nothing to commit, then out", act: commitNothing,
			setup: func(dir string) error {
				if err := (branch{Records: []stage.Record{put("a", 1)}}).write(dir); err != nil {
					return err
				}
				return inStage(put("a", 1))(dir)
			},
			old: stateOf(put("a", 1)), new: stateOf(),
		},
		{
			name: "drop", setup: inStage(put("a", 1)),
			act: func(dir string) error { return stageIn(dir).Drop(ctx) },
			old: stateOf(put("a", 1)), new: stateOf(),
		},
	} {
		c := test.Case{Setup: tt.setup, Act: tt.act}
		c.Check = func(t *testing.T, dir string, err error) {
			got := state(t, dir)
			if !maps.Equal(got, tt.new) && (err == nil || !maps.Equal(got, tt.old)) {
				t.Errorf("%v is left after %v; it was %v, should become %v", got, err, tt.old, tt.new)
			}
			if left := all(t, stageIn(dir)); err == nil && strings.Contains(tt.name, "commit") && len(left) > 0 {
				t.Errorf("still staged: %v", left)
			}
			checkGoesOn(t, dir)
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Run("fault", func(t *testing.T) { c.EveryStep(t) })
			if tt.kill || test.Soak() {
				t.Run("kill", func(t *testing.T) { c.Kill(t) })
			}
			// What is staged may be lost in a power cut. What is committed not, and
			// nothing may be in the way afterwards.
			c.Check = func(t *testing.T, dir string, err error) {
				got := state(t, dir)
				for path, r := range got {
					if r != tt.old[path] && r != tt.new[path] {
						t.Errorf("%v is left", got)
					}
				}
				b := readBranch(dir)
				if len(b.Seqs) > 0 && !b.TakenOut && !maps.Equal(got, tt.old) {
					t.Errorf("%v is left of what was committed, %v", got, tt.old)
				}
				if b.TakenOut && len(got) > 0 {
					t.Errorf("%v came back", got)
				}
				checkGoesOn(t, dir)
			}
			t.Run("power", func(t *testing.T) { c.PowerCut(t) })
		})
	}
}

// Processes that append are killed at any moment, while others append and fold:
// what they were told is staged is there.
func TestManyProcesses(t *testing.T) {
	const dirEnv, nameEnv = "STAGE_TEST_DIR", "STAGE_TEST_NAME"
	if dir := os.Getenv(dirEnv); dir != "" {
		for n := range 500 {
			r := put(fmt.Sprintf("%s/%d", os.Getenv(nameEnv), n), n)
			if err := stageIn(dir).Append(ctx, r, del("gone")); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
			fmt.Println("done", r.Path)
			time.Sleep(100 * time.Microsecond) // so that folds come in between
		}
		os.Exit(0)
	}
	dir := t.TempDir()
	var mu sync.Mutex
	var told []string
	var processes sync.WaitGroup
	for i := range 6 {
		cmd := test.Again(t)
		cmd.Env = append(cmd.Env, dirEnv+"="+dir, nameEnv+"="+fmt.Sprint("p", i))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			time.AfterFunc(time.Duration(40+30*i)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		}
		processes.Go(func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				path, ok := strings.CutPrefix(lines.Text(), "done ")
				if !ok {
					t.Errorf("process says %q", lines.Text())
				}
				mu.Lock()
				told = append(told, path)
				mu.Unlock()
			}
			_ = cmd.Wait() // some are killed
		})
	}
	all := make(chan struct{})
	go func() { processes.Wait(); close(all) }()
	for running := true; running; {
		select {
		case <-all:
			running = false
		case <-time.After(5 * time.Millisecond):
		}
		if err := commit(dir); err != nil {
			t.Fatal(err)
		}
	}
	now := state(t, dir)
	for _, path := range told {
		if _, ok := now[path]; !ok {
			t.Errorf("%s is lost", path)
		}
	}
	if len(told) < 1500 {
		t.Errorf("only %d records were appended", len(told))
	}
	t.Logf("%d records, %d folds", len(told), len(readBranch(dir).Seqs))
	if _, err := os.Stat(filepath.Join(dir, "stage/main.folding")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a fold is left: %v", err)
	}
}
