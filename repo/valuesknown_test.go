package repo_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// remember opens the values of a branch, as a process does that remembers in the
// repository what it has found.
func remember(t *testing.T, r *repo.Repo, branch string) *repo.Values {
	t.Helper()
	v, err := openAgain(t, r).Values(t.Context(), refs.Branch(branch), repo.ValuesOptions{
		Gather: time.Millisecond, Known: knownFile(r),
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func knownFile(r *repo.Repo) string { return filepath.Join(r.Dir, "known") }

// wantValues checks what a process gets that reads branch; "" is a miss.
func wantValues(t *testing.T, r *repo.Repo, branch string, values map[string]string) {
	t.Helper()
	v := remember(t, r, branch)
	for key, value := range values {
		if got := valueOf(t, v, key); got != value {
			t.Errorf("%s: got %s = %q, want %q", branch, key, got, value)
		}
	}
	closeValues(t, v)
}

// commitValues has a process put values, and commits them.
func commitValues(t *testing.T, r *repo.Repo, branch string, values map[string]string) {
	t.Helper()
	v := remember(t, r, branch)
	for key, value := range values {
		putValue(t, v, key, value)
	}
	closeValues(t, v)
	commitStage(t, r, branch)
}

// What was found before is found again, and nothing else is, whatever happens to the
// branches between two processes.
func TestValuesKnown(t *testing.T) {
	r := newRepo(t)
	commitValues(t, r, "main", map[string]string{"a": "one", "b": "two"})
	good, _, err := r.Tip(t.Context(), refs.Branch("main"))
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]string{"a": "one", "b": "two", "c": "", "d": ""}
	for range 3 {
		wantValues(t, r, "topic", first)
	}
	// Put there, in the stage or committed.
	v := remember(t, r, "topic")
	putValue(t, v, "c", "three")
	closeValues(t, v)
	for range 3 {
		wantValues(t, r, "topic", map[string]string{"a": "one", "b": "two", "c": "three", "d": ""})
	}
	commitStage(t, r, "topic")
	commitValues(t, r, "main", map[string]string{"a": "bad", "d": "bad"})
	for range 3 {
		wantValues(t, r, "topic", map[string]string{"a": "bad", "b": "two", "c": "three", "d": "bad"})
	}
	// Taken back: for who comes next that is so at once.
	bad, _, err := r.Tip(t.Context(), refs.Branch("main"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Refs.Apply(t.Context(), refs.Update{Name: refs.Branch("main"), Old: bad, New: good}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantValues(t, r, "topic", map[string]string{"a": "one", "b": "two", "c": "three", "d": ""})
	}
}

// A deletion in the stage hides what is known of the branch.
func TestValuesKnownDeleted(t *testing.T) {
	r := newRepo(t)
	commitValues(t, r, "main", map[string]string{"a": "one", "b": "two"})
	wantValues(t, r, "main", map[string]string{"a": "one", "b": "two"})
	v := remember(t, r, "main")
	if err := v.Delete(t.Context(), tool, "a"); err != nil {
		t.Fatal(err)
	}
	closeValues(t, v)
	wantValues(t, r, "main", map[string]string{"a": "", "b": "two"})
	commitStage(t, r, "main")
	wantValues(t, r, "main", map[string]string{"a": "", "b": "two"})
}

// What is no longer stored is a miss, even if it is known.
func TestValuesKnownGone(t *testing.T) {
	r := newRepo(t)
	commitValues(t, r, "main", map[string]string{"a": "one"})
	wantValues(t, r, "main", map[string]string{"a": "one"})
	if err := os.RemoveAll(filepath.Join(r.Dir, "packs")); err != nil {
		t.Fatal(err)
	}
	v := remember(t, r, "main")
	if s, err := v.Get(t.Context(), tool, "a"); err == nil {
		t.Errorf("a value of %d bytes without packs", s.Size)
	}
	closeValues(t, v)
}

// A file that is not what it should be changes nothing.
func TestValuesKnownDamaged(t *testing.T) {
	r := newRepo(t)
	commitValues(t, r, "main", map[string]string{"a": "one"})
	for _, content := range []string{"", "CTKN", "something else\n"} {
		if err := os.WriteFile(knownFile(r), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			wantValues(t, r, "main", map[string]string{"a": "one", "b": ""})
		}
	}
	os.Remove(knownFile(r))
	if err := os.Mkdir(knownFile(r), 0o777); err != nil {
		t.Fatal(err)
	}
	wantValues(t, r, "main", map[string]string{"a": "one", "b": ""})
}

// Several processes put and get at once.
func TestValuesKnownAtOnce(t *testing.T) {
	r := newRepo(t)
	commitValues(t, r, "main", map[string]string{"shared": "value"})
	var working sync.WaitGroup
	for i := range 4 {
		working.Go(func() {
			for j := range 5 {
				v, err := r.Values(context.Background(), refs.Branch("main"), repo.ValuesOptions{Gather: time.Millisecond, Known: knownFile(r)})
				if err != nil {
					t.Error(err)
					return
				}
				if got := valueOf(t, v, "shared"); got != "value" {
					t.Errorf("shared: %q", got)
				}
				putValue(t, v, fmt.Sprint(i, j), fmt.Sprint("value ", i, j))
				closeValues(t, v)
			}
		})
	}
	working.Wait()
	for range 2 {
		values := map[string]string{"shared": "value"}
		for i := range 4 {
			for j := range 5 {
				values[fmt.Sprint(i, j)] = fmt.Sprint("value ", i, j)
			}
		}
		wantValues(t, r, "main", values)
	}
}

// A key that was put anew has its new value at once, in the process that knows the old.
func TestValuesKnownReplaced(t *testing.T) {
	r := newRepo(t)
	commitValues(t, r, "main", map[string]string{"a": "one"})
	v := remember(t, r, "main")
	if got := valueOf(t, v, "a"); got != "one" {
		t.Errorf("a = %q", got)
	}
	putValue(t, v, "a", "two")
	if got := valueOf(t, v, "a"); got != "two" {
		t.Errorf("a = %q once two was put", got)
	}
	closeValues(t, v)
	wantValues(t, r, "main", map[string]string{"a": "two"})
}
