package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

const tool entry.Kind = "tool"

// valuesOf opens the values of a branch; nothing waits to be staged for longer than
// a moment.
func valuesOf(t testing.TB, r *repo.Repo, branch string) *repo.Values {
	t.Helper()
	v, err := r.Values(context.Background(), refs.Branch(branch), repo.ValuesOptions{Gather: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeValues(t, v) })
	return v
}

func closeValues(t testing.TB, v *repo.Values) {
	t.Helper()
	if err := v.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func putValue(t testing.TB, v *repo.Values, key, value string) {
	t.Helper()
	err := v.Put(context.Background(), tool, key, entry.Value{Size: int64(len(value)), Body: strings.NewReader(value)})
	if err != nil {
		t.Errorf("put %s: %v", key, err)
	}
}

// valueOf returns the value of key; "" is a miss.
func valueOf(t testing.TB, v *repo.Values, key string) string {
	t.Helper()
	s, err := v.Get(context.Background(), tool, key)
	if errors.Is(err, objects.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Open(context.Background())
	if errors.Is(err, objects.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	if err != nil || int64(len(content)) != s.Size {
		t.Errorf("%s: %d bytes, %v, want %d", key, len(content), err, s.Size)
	}
	return string(content)
}

func TestValues(t *testing.T) {
	r := newRepo(t)
	v := valuesOf(t, r, "main")
	big := strings.Repeat("0123456789", 200_000)
	values := map[string]string{"small": "value", "empty": " ", "big": big, strings.Repeat("long", 100): "long key"}
	for key, value := range values {
		if got := valueOf(t, v, key); got != "" {
			t.Errorf("%.20s: %.20q before it was put", key, got)
		}
		putValue(t, v, key, value)
		if got := valueOf(t, v, key); got != value {
			t.Errorf("%.20s: %.20q at once, want %.20q", key, got, value)
		}
	}
	// A size that is not known, and one that is wrong.
	if err := v.Put(t.Context(), tool, "unknown", entry.Value{Size: -1, Body: strings.NewReader(big)}); err != nil {
		t.Error(err)
	}
	values["unknown"] = big
	for _, size := range []int64{1, 3, 1 << 20} {
		if err := v.Put(t.Context(), tool, "wrong", entry.Value{Size: size, Body: strings.NewReader("ab")}); err == nil {
			t.Errorf("2 bytes were taken for %d", size)
		}
	}
	closeValues(t, v)
	if err := v.Put(t.Context(), tool, "late", entry.Value{Body: strings.NewReader("")}); !errors.Is(err, repo.ErrValuesClosed) {
		t.Errorf("put after close: %v", err)
	}
	// Another process sees what was staged.
	again := valuesOf(t, openAgain(t, r), "main")
	for key, value := range values {
		for range 2 {
			if got := valueOf(t, again, key); got != value {
				t.Errorf("%.20s: %.20q when all is staged, want %.20q", key, got, value)
			}
		}
	}
	if got := valueOf(t, again, "wrong"); got != "" {
		t.Errorf("wrong: %q", got)
	}
}

func openAgain(t testing.TB, r *repo.Repo) *repo.Repo {
	t.Helper()
	again, err := repo.Open(context.Background(), r.Dir, repo.Options{Warn: func(err error) { t.Logf("warning: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again
}

// What is there already is not stored again, the later of two counts, and what was
// deleted is gone from the own branch only.
func TestValuesReplace(t *testing.T) {
	r := newRepo(t)
	main := valuesOf(t, r, "main")
	putValue(t, main, "a", "1")
	putValue(t, main, "b", "1")
	closeValues(t, main)
	commitStage(t, r, "main")

	v := valuesOf(t, r, "topic")
	putValue(t, v, "a", "1")
	closeValues(t, v)
	if n := stagedOn(t, r, "topic"); n != 0 {
		t.Errorf("%d entries were staged of what main has", n)
	}
	v = valuesOf(t, r, "topic")
	putValue(t, v, "b", "2")
	putValue(t, v, "b", "1") // main's
	putValue(t, v, "c", "1")
	putValue(t, v, "c", "2")
	closeValues(t, v)
	v = valuesOf(t, r, "topic")
	for key, want := range map[string]string{"a": "1", "b": "1", "c": "2"} {
		if got := valueOf(t, v, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for _, key := range []string{"a", "c"} {
		if err := v.Delete(t.Context(), tool, key); err != nil {
			t.Error(err)
		}
	}
	check := func(v *repo.Values) {
		t.Helper()
		if a, c := valueOf(t, v, "a"), valueOf(t, v, "c"); a != "1" || c != "" {
			t.Errorf("after deletion a is %q, c is %q; want main's, and nothing", a, c)
		}
	}
	check(v)
	closeValues(t, v)
	check(valuesOf(t, r, "topic"))
}

func commitStage(t testing.TB, r *repo.Repo, branch string) {
	t.Helper()
	if _, _, err := r.FoldStage(context.Background(), refs.Branch(branch), ""); err != nil {
		t.Fatal(err)
	}
}

func stagedOn(t testing.TB, r *repo.Repo, branch string) int {
	t.Helper()
	records, err := r.Staged(context.Background(), refs.Branch(branch))
	if err != nil {
		t.Fatal(err)
	}
	return len(records)
}

// Nobody reads what a sibling wrote, and what another process takes out is gone.
func TestValuesScope(t *testing.T) {
	r := newRepo(t)
	poisoned := valuesOf(t, r, "pr/1")
	putValue(t, poisoned, "a", "poison")
	for _, branch := range []string{"main", "pr/2"} {
		if got := valueOf(t, valuesOf(t, r, branch), "a"); got != "" {
			t.Errorf("%s has %q", branch, got)
		}
	}
	closeValues(t, poisoned)
	commitStage(t, r, "pr/1")
	main, other := valuesOf(t, r, "main"), valuesOf(t, r, "pr/2")
	for _, v := range []*repo.Values{main, other} {
		if got := valueOf(t, v, "a"); got != "" {
			t.Errorf("after a commit: %q", got)
		}
	}
	putValue(t, main, "a", "good")
	closeValues(t, main)
	within(t, "pr/2 sees what main has staged", func() bool { return valueOf(t, other, "a") == "good" })

	another := openAgain(t, r)
	ch, err := another.Change(t.Context(), refs.Branch("main"), odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ch.Delete(tool, "a")
	if _, _, err := ch.Commit(t.Context(), "revert"); err != nil {
		t.Fatal(err)
	}
	ch.Close()
	within(t, "what main has taken out is gone", func() bool { return valueOf(t, other, "a") == "" })
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// A store that cannot be written to drops values, with one warning, and one that is
// damaged has misses.
func TestValuesOfABadStore(t *testing.T) {
	r := newRepo(t)
	v := valuesOf(t, r, "main")
	putValue(t, v, "a", strings.Repeat("value", 100))
	closeValues(t, v)
	packs, err := filepath.Glob(filepath.Join(r.Dir, "packs", "*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("%v, %v", packs, err)
	}
	for _, p := range packs {
		test.FlipBit(t, p, -8*100)
		test.FlipBit(t, p, 8*60)
	}
	again := openAgain(t, r)
	v = valuesOf(t, again, "main")
	if got := valueOf(t, v, "a"); got != "" {
		t.Errorf("%q of a damaged store", got)
	}
	putValue(t, v, "a", "once more")
	closeValues(t, v)
	if got := valueOf(t, valuesOf(t, openAgain(t, r), "main"), "a"); got != "once more" {
		t.Errorf("%q after it was put again", got)
	}

	warnings := 0
	none, err := valuesOfNothing(t, &warnings)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		putValue(t, none, fmt.Sprint(i), "lost")
	}
	closeValues(t, none)
	if warnings != 2 { // the first error, and how many values were lost
		t.Errorf("%d warnings", warnings)
	}
	if got := valueOf(t, none, "3"); got != "" {
		t.Errorf("%q of no store", got)
	}
}

// valuesOfNothing are values of a repository that went while it was open.
func valuesOfNothing(t *testing.T, warnings *int) (*repo.Values, error) {
	dir := filepath.Join(t.TempDir(), "repo")
	r, err := repo.Init(t.Context(), dir, repo.Options{Warn: func(error) { *warnings++ }})
	if err != nil {
		return nil, err
	}
	v, err := r.Values(t.Context(), refs.Branch("main"), repo.ValuesOptions{Gather: time.Hour})
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	return v, os.WriteFile(dir, nil, 0o666)
}

// Many put and get the same keys at once: whoever gets one gets it whole.
func TestValuesAtOnce(t *testing.T) {
	r := newRepo(t)
	v := valuesOf(t, r, "main")
	var clients sync.WaitGroup
	for client := range 8 {
		clients.Go(func() {
			for i := range test.Count(t, 500) {
				key := fmt.Sprint((i*7 + client) % 40)
				value := strings.Repeat(key+";", 1+i%3*30_000)
				putValue(t, v, key, value)
				if got := valueOf(t, v, key); got == "" || strings.Trim(got, key+";") != "" {
					t.Errorf("%s: %.30q of %d bytes", key, got, len(got))
				}
			}
		})
	}
	clients.Wait()
	closeValues(t, v)
	if n := stagedOn(t, r, "main"); n != 40 {
		t.Errorf("%d entries, want 40", n)
	}
}

// Merges take the newest of what a client rewrites, and otherwise what was first.
func TestValuesLatest(t *testing.T) {
	r := newRepo(t)
	put := func(branch, key, value string, latest bool) {
		v := valuesOf(t, r, branch)
		err := v.Put(t.Context(), tool, key, entry.Value{Size: -1, Body: bytes.NewReader([]byte(value)), Latest: latest})
		if err != nil {
			t.Error(err)
		}
		closeValues(t, v)
		commitStage(t, r, branch)
	}
	put("main", "manifest", "old", true)
	put("main", "result", "first", false)
	put("other", "manifest", "new", true)
	put("other", "result", "second", false)
	tip, _, err := r.Tip(t.Context(), refs.Branch("other"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Merge(t.Context(), refs.Branch("main"), tip, repo.Ours, ""); err != nil {
		t.Fatal(err)
	}
	v := valuesOf(t, r, "main")
	if m, res := valueOf(t, v, "manifest"), valueOf(t, v, "result"); m != "new" || res != "first" {
		t.Errorf("after the merge the manifest is %q, the result %q", m, res)
	}
}

// A remote that does not answer is waited for once, however many ask.
func TestValuesOfASilentRemote(t *testing.T) {
	full := newRepo(t)
	v := valuesOf(t, full, "main")
	putValue(t, v, "a", "1")
	closeValues(t, v)
	commitStage(t, full, "main")
	tip, _, err := full.Tip(t.Context(), refs.Branch("main"))
	if err != nil {
		t.Fatal(err)
	}

	lazy := newRepo(t)
	for _, setting := range [][2]string{{"remote.origin.url", full.Dir}, {"remote.origin.lazy", "true"}} {
		if err := lazy.Config.Set(t.Context(), setting[0], setting[1]); err != nil {
			t.Fatal(err)
		}
	}
	kind, body, err := full.DB.ReadBytes(t.Context(), tip)
	if err != nil {
		t.Fatal(err)
	}
	b, err := lazy.DB.NewBatch(t.Context(), odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.PutBytes(kind, body); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), odb.Durable); err != nil {
		t.Fatal(err)
	}
	if err := lazy.Refs.Apply(t.Context(), refs.Update{Name: refs.Branch("main"), New: tip}); err != nil {
		t.Fatal(err)
	}
	warnings := 0
	lazy, err = repo.Open(t.Context(), lazy.Dir, repo.Options{
		Warn:    func(error) { warnings++ },
		Promise: func(string) repo.Promise { return new(silence) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Close()
	const patience = 200 * time.Millisecond
	v, err = lazy.Values(t.Context(), refs.Branch("main"), repo.ValuesOptions{Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 3 {
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() {
				if _, err := v.Get(context.Background(), tool, "a"); !errors.Is(err, objects.ErrNotFound) {
					t.Errorf("%v, want a miss", err)
				}
			})
		}
		clients.Wait()
	}
	if took := time.Since(began); took < patience || took > 10*patience || warnings != 1 {
		t.Errorf("it took %v, with %d warnings", took, warnings)
	}
	closeValues(t, v)
}

// silence is a remote that takes one question at a time, and answers none.
type silence struct{ mu sync.Mutex }

func (s *silence) Fetch(ctx context.Context, _ []objects.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (s *silence) FetchPath(ctx context.Context, _ objects.ID, _ string) error {
	return s.Fetch(ctx, nil)
}
func (s *silence) FetchAll(ctx context.Context, _ objects.ID) error { return s.Fetch(ctx, nil) }
