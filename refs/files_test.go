package refs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/refs/refstest"
)

const (
	mainBranch refs.Name = "refs/heads/main"
	other      refs.Name = "refs/heads/other"
)

var someone = objects.Signature{
	Name:  "A U Thor",
	Email: "author@example.com",
	When:  time.Date(2026, 1, 31, 12, 0, 0, 0, time.FixedZone("", 3600)),
}

func newFiles(t testing.TB, dir string) *refs.Files {
	t.Helper()
	f, err := refs.Init(t.Context(), dir, mainBranch, refs.Options{Who: someone})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestStores(t *testing.T) {
	t.Run("Files", func(t *testing.T) {
		refstest.Run(t, func(t *testing.T) refs.Store { return newFiles(t, test.Dir(t)) })
	})
	t.Run("Memory", func(t *testing.T) {
		refstest.Run(t, func(*testing.T) refs.Store { return &refstest.Memory{} })
	})
}

func TestProcessesRace(t *testing.T) {
	const processes, env = 4, "REFS_TEST_DIR"
	n := test.Count(t, 100)
	names := []refs.Name{mainBranch, other}
	if dir := os.Getenv(env); dir != "" {
		if err := refstest.Increment(t.Context(), refs.Open(dir, refs.Options{}), n, names...); err != nil {
			t.Fatal(err)
		}
		return
	}
	dir := test.Dir(t)
	newFiles(t, dir)
	done := make(chan error)
	for range processes {
		cmd := test.Again(t)
		cmd.Env = append(cmd.Env, env+"="+dir)
		cmd.Stderr = os.Stderr
		go func() { done <- cmd.Run() }()
	}
	for range processes {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	f := refs.Open(dir, refs.Options{})
	for _, name := range names {
		id, err := f.Get(t.Context(), name)
		if want := uint64(processes * n); err != nil || refstest.Number(id) != want {
			t.Errorf("%s is %d, %v; want %d", name, refstest.Number(id), err, want)
		}
		entries, err := f.Log(t.Context(), name)
		if err != nil || len(entries) != processes*n {
			t.Errorf("the log of %s has %d lines, %v", name, len(entries), err)
		}
	}
}

func TestHead(t *testing.T) {
	dir := test.Dir(t)
	f := newFiles(t, dir)
	if head, err := f.Head(t.Context()); err != nil || head != mainBranch {
		t.Errorf("Head = %s, %v", head, err)
	}
	if err := f.SetHead(t.Context(), "refs/heads/trunk"); err != nil {
		t.Fatal(err)
	}
	newFiles(t, dir) // a second Init changes nothing
	if head, err := f.Head(t.Context()); err != nil || head != "refs/heads/trunk" {
		t.Errorf("Head = %s, %v", head, err)
	}
	for _, bad := range []refs.Name{"refs/tags/x", "main", ""} {
		if err := f.SetHead(t.Context(), bad); err == nil {
			t.Errorf("SetHead(%q) passed", bad)
		}
	}
	for _, bad := range []string{"", "ref: ", "ref: refs/heads/../x", strings.Repeat("ab", 32)} {
		os.WriteFile(filepath.Join(dir, "HEAD"), []byte(bad), 0o666)
		if head, err := f.Head(t.Context()); err == nil || !strings.Contains(err.Error(), "HEAD is damaged") {
			t.Errorf("Head with %q = %q, %v", bad, head, err)
		}
	}
}

func TestDamagedRef(t *testing.T) {
	ctx := t.Context()
	for _, bad := range []string{"", "x", "ref: refs/heads/a\n", strings.Repeat("0", 64) + "\n", strings.Repeat("a", 63) + "\n", strings.Repeat("a", 65)} {
		dir := test.Dir(t)
		f := newFiles(t, dir)
		f.Apply(ctx, refs.Update{Name: mainBranch, New: refstest.ID(1)})
		f.Apply(ctx, refs.Update{Name: mainBranch, Old: refstest.ID(1), New: refstest.ID(2)})
		f.Apply(ctx, refs.Update{Name: other, New: refstest.ID(3)})
		os.WriteFile(filepath.Join(dir, string(mainBranch)), []byte(bad), 0o666)

		_, err := f.Get(ctx, mainBranch)
		var damaged *refs.DamagedError
		if !errors.As(err, &damaged) || damaged.LastGood != refstest.ID(2) || !strings.Contains(err.Error(), refstest.ID(2).String()) {
			t.Errorf("Get with %q: %v", bad, err)
		}
		if err := f.Apply(ctx, refs.Update{Name: mainBranch, New: refstest.ID(9)}); !errors.As(err, &damaged) {
			t.Errorf("Apply with %q: %v", bad, err)
		}
		var good, hurt int
		for r, err := range f.All(ctx, "") {
			if err == nil && r.ID == refstest.ID(3) {
				good++
			}
			if errors.As(err, &damaged) && r.Name == mainBranch {
				hurt++
			}
		}
		if good != 1 || hurt != 1 {
			t.Errorf("All with %q: %d good, %d damaged", bad, good, hurt)
		}
		if entries, err := f.Log(ctx, mainBranch); err != nil || len(entries) != 2 {
			t.Errorf("Log with %q: %v, %v", bad, entries, err)
		}
		if id, err := f.Rescue(ctx, mainBranch); err != nil || id != refstest.ID(2) {
			t.Errorf("Rescue with %q: %s, %v", bad, id.Short(), err)
		}
		if id, err := f.Get(ctx, mainBranch); err != nil || id != refstest.ID(2) {
			t.Errorf("after Rescue with %q: %s, %v", bad, id.Short(), err)
		}
	}
}

// What people and editors write is taken.
func TestLenientRef(t *testing.T) {
	dir := test.Dir(t)
	f := newFiles(t, dir)
	want := refstest.ID(1)
	for _, text := range []string{want.String(), want.String() + "\r\n", strings.ToUpper(want.String()) + "\n"} {
		os.WriteFile(filepath.Join(dir, string(mainBranch)), []byte(text), 0o666)
		if got, err := f.Get(t.Context(), mainBranch); err != nil || got != want {
			t.Errorf("Get with %q: %s, %v", text, got.Short(), err)
		}
	}
}

// What does not belong there is no ref, and stops nobody.
func TestForeignFiles(t *testing.T) {
	dir := test.Dir(t)
	f := newFiles(t, dir)
	for _, name := range []string{"refs/.DS_Store", "refs/heads/main.lock", "refs/heads/.swp", "refs/loose"} {
		os.WriteFile(filepath.Join(dir, name), []byte("junk"), 0o666)
	}
	for r, err := range f.All(t.Context(), "") {
		t.Errorf("All yields %s, %v", r.Name, err)
	}
}

func TestEmptyDirectoriesGo(t *testing.T) {
	dir := test.Dir(t)
	f := newFiles(t, dir)
	ctx := t.Context()
	before := test.Shape(t, dir)
	deep := refs.Branch("a/b/c/d")
	f.Apply(ctx, refs.Update{Name: deep, New: refstest.ID(1)})
	f.Apply(ctx, refs.Update{Name: deep, Old: refstest.ID(1)})
	after := test.Shape(t, dir)
	for _, stays := range []string{`dir  "logs"`, `dir  "logs/refs"`, `dir  "logs/refs/heads"`, `file "refs.lock" ""`} {
		after = strings.Replace(after, stays+"\n", "", 1)
	}
	before = strings.Replace(before, "file \"refs.lock\" \"\"\n", "", 1)
	if before != after {
		t.Errorf("left behind:\n%s\nwant:\n%s", after, before)
	}
}

func BenchmarkGet(b *testing.B) {
	f := newFiles(b, b.TempDir())
	if err := f.Apply(b.Context(), refs.Update{Name: mainBranch, New: refstest.ID(1)}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.Get(b.Context(), mainBranch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	f := newFiles(b, b.TempDir())
	n := uint64(0)
	for b.Loop() {
		u := refs.Update{Name: mainBranch, Old: refstest.ID(n), New: refstest.ID(n + 1), Reason: "bench"}
		if n == 0 {
			u.Old = objects.ID{}
		}
		if err := f.Apply(b.Context(), u); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
