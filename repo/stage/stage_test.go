package stage_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo/stage"
)

var ctx = context.Background()

// put returns a record that puts something at path; another n is another thing.
func put(path string, n int) stage.Record {
	return stage.Record{Path: path, Mode: objects.ModeDir, ID: sha256.Sum256(fmt.Append(nil, path, n))}
}

func del(path string) stage.Record { return stage.Record{Path: path} }

// open opens a stage whose warnings fail the test.
func open(t testing.TB, dir, branch string) *stage.Stage {
	t.Helper()
	return stage.Open(dir, branch, stage.Options{Warn: func(m string) { t.Errorf("warning: %s", m) }})
}

func appendTo(t testing.TB, s *stage.Stage, records ...stage.Record) {
	t.Helper()
	if err := s.Append(ctx, records...); err != nil {
		t.Fatal(err)
	}
}

func all(t testing.TB, s *stage.Stage) []stage.Record {
	t.Helper()
	records, err := s.All(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func checkAll(t testing.TB, s *stage.Stage, want ...stage.Record) {
	t.Helper()
	got := all(t, s)
	if !slices.Equal(got, want) {
		t.Errorf("All returns %d records:\n%v\nwant %d:\n%v", len(got), got, len(want), want)
	}
	for _, w := range want {
		if r, ok, err := s.Lookup(ctx, w.Path); err != nil || !ok || r != w {
			t.Errorf("Lookup(%q) = %v, %v, %v; want %v", w.Path, r, ok, err, w)
		}
	}
	if err := s.Refresh(ctx); err != nil {
		t.Error(err)
	}
	for _, w := range want {
		if r, ok, err := s.Seen(ctx, w.Path); err != nil || !ok || r != w {
			t.Errorf("Seen(%q) = %v, %v, %v; want %v", w.Path, r, ok, err, w)
		}
	}
}

func TestLastRecordWins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stage")
	s := open(t, dir, "main")
	checkAll(t, s)
	if _, ok, err := s.Lookup(ctx, "a"); ok || err != nil {
		t.Errorf("Lookup in an empty stage: %v, %v", ok, err)
	}
	appendTo(t, s)
	appendTo(t, s, put("b", 1))
	appendTo(t, s, put("a", 1), put("c/d", 1), del("b"))
	appendTo(t, s, put("a", 2), put("c.d", 1))
	want := []stage.Record{put("a", 2), del("b"), put("c/d", 1), put("c.d", 1)}
	checkAll(t, s, want...)
	checkAll(t, open(t, dir, "main"), want...)
	for range 3 {
		if _, ok, err := s.Lookup(ctx, "c"); ok || err != nil {
			t.Errorf("Lookup(c): %v, %v", ok, err)
		}
		appendTo(t, s, put("x", 1))
	}
	if n, err := s.Count(ctx); n != 9 || err != nil {
		t.Errorf("Count = %d, %v; want 9", n, err)
	}
}

// What others add shows once it is asked for.
func TestSeen(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir, "main"), open(t, dir, "main")
	for n := range 3 {
		appendTo(t, other, put("a", n))
		if r, ok, err := s.Seen(ctx, "a"); err != nil || ok != (n > 0) || ok && r != put("a", n-1) {
			t.Errorf("Seen before Refresh %d: %v, %t, %v", n, r, ok, err)
		}
		if err := s.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if r, ok, err := s.Seen(ctx, "a"); err != nil || !ok || r != put("a", n) {
			t.Errorf("Seen after Refresh %d: %v, %t, %v", n, r, ok, err)
		}
	}
	if err := other.Drop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if r, ok, err := s.Seen(ctx, "a"); ok || err != nil {
		t.Errorf("Seen once all is dropped: %v, %v", r, err)
	}
}

func TestRefusesBadRecords(t *testing.T) {
	s := open(t, t.TempDir(), "main")
	for _, r := range []stage.Record{
		put("", 1), put("/a", 1), put("a/", 1), put("a//b", 1), put("a/../b", 1), put("a\x00b", 1),
		put(strings.Repeat("x", 1<<16), 1),
		{Path: "a", Mode: 0o100600, ID: put("a", 1).ID},
		{Path: "a", ID: put("a", 1).ID},
	} {
		if err := s.Append(ctx, put("good", 1), r); !errors.Is(err, stage.ErrBadRecord) {
			t.Errorf("Append(%.40q, %o): %v", r.Path, r.Mode, err)
		}
	}
	checkAll(t, s)
}

func TestBranchesLieSideBySide(t *testing.T) {
	dir := t.TempDir()
	names := []string{"a", "a/b", "a/b/c", "a%2Fb", "feature/ünï", ".x", "fold", "append", strings.Repeat("long/", 60)}
	slices.Sort(names)
	for i, name := range names {
		appendTo(t, open(t, dir, name), put("p", i))
	}
	for i, name := range names {
		checkAll(t, open(t, dir, name), put("p", i))
	}
	if got, err := stage.Branches(dir); err != nil || !slices.Equal(got, names) {
		t.Errorf("Branches = %q, %v; want %q", got, err, names)
	}
	if err := open(t, dir, "a/b").Drop(ctx); err != nil {
		t.Fatal(err)
	}
	checkAll(t, open(t, dir, "a/b"))
	checkAll(t, open(t, dir, "a/b/c"), put("p", slices.Index(names, "a/b/c")))
	if got, err := stage.Branches(filepath.Join(dir, "none")); err != nil || got != nil {
		t.Errorf("Branches of no directory = %q, %v", got, err)
	}
}

func TestFold(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir, "main"), open(t, dir, "main")
	fold, err := s.Rotate(ctx)
	if err != nil || fold.Seq != 0 || len(fold.Records) > 0 {
		t.Fatalf("Rotate of nothing: %+v, %v", fold, err)
	}
	fold.Close()

	appendTo(t, s, put("a", 1), put("b", 1))
	appendTo(t, s, put("a", 2))
	checkAll(t, other, put("a", 2), put("b", 1))
	if fold, err = s.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	if want := []stage.Record{put("a", 2), put("b", 1)}; !slices.Equal(fold.Records, want) || fold.Seq == 0 {
		t.Errorf("folds %v, sequence %d; want %v", fold.Records, fold.Seq, want)
	}
	// Appended during a fold: seen, and left for the next one.
	appendTo(t, other, put("b", 2), put("c", 1))
	for _, st := range []*stage.Stage{s, other, open(t, dir, "main")} {
		checkAll(t, st, put("a", 2), put("b", 2), put("c", 1))
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := other.Rotate(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("second fold: %v", err)
	}
	if err := fold.Done(ctx); err != nil {
		t.Fatal(err)
	}
	fold.Close()
	for _, st := range []*stage.Stage{s, other, open(t, dir, "main")} {
		checkAll(t, st, put("b", 2), put("c", 1))
	}
	if _, ok, _ := s.Lookup(ctx, "a"); ok {
		t.Error("a is still staged")
	}
}

// A fold whose process died counts until somebody knows that it is in a commit.
func TestUnfinishedFold(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "main")
	appendTo(t, s, put("a", 1), put("b", 1))
	died, err := s.Rotate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	died.Close()
	appendTo(t, s, put("a", 2))
	checkAll(t, s, put("a", 2), put("b", 1))

	inCommit := stage.Open(dir, "main", stage.Options{Folded: func(_ context.Context, seq uint64) (bool, error) {
		return seq == died.Seq, nil
	}})
	checkAll(t, inCommit, put("a", 2))
	if _, ok, _ := inCommit.Lookup(ctx, "b"); ok {
		t.Error("b came back")
	}

	again, err := s.Rotate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if want := []stage.Record{put("a", 2), put("b", 1)}; !slices.Equal(again.Records, want) || again.Seq == died.Seq {
		t.Errorf("folds %v, sequence %d; want %v and another sequence", again.Records, again.Seq, want)
	}
	again.Close()

	inCommit = stage.Open(dir, "main", stage.Options{Folded: func(_ context.Context, seq uint64) (bool, error) {
		return seq == again.Seq, nil
	}})
	fold, err := inCommit.Rotate(ctx)
	if err != nil || fold.Seq != 0 {
		t.Errorf("Rotate of what is folded: %+v, %v", fold, err)
	}
	checkAll(t, s)
}

// No two journals of a branch have one sequence, or a new one could be taken for
// one that is in a commit.
func TestSequencesDiffer(t *testing.T) {
	s := open(t, t.TempDir(), "main")
	seen := map[uint64]bool{0: true}
	for i := range 20 {
		appendTo(t, s, put("a", i))
		fold, err := s.Rotate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if seen[fold.Seq] {
			t.Errorf("sequence %d comes again", fold.Seq)
		}
		seen[fold.Seq] = true
		switch i % 3 {
		case 0:
			err = fold.Done(ctx)
			fold.Close()
		case 1:
			fold.Close()
			err = s.Drop(ctx)
		default:
			fold.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A reader finds what is staged whatever happens to the files meanwhile.
func TestReadersDuringFolds(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "main")
	appendTo(t, s, put("a", 1))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			mine := open(t, dir, "main")
			for {
				select {
				case <-done:
					return
				default:
				}
				if i == 0 {
					mine = open(t, dir, "main")
				}
				if r, ok, err := mine.Lookup(ctx, "a"); err != nil || !ok || r != put("a", 1) {
					t.Errorf("Lookup = %v, %v, %v", r, ok, err)
					return
				}
			}
		})
	}
	for i := range test.Count(t, 1000) {
		fold, err := s.Rotate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		fold.Close()
		appendTo(t, s, put("b", i))
	}
	close(done)
	readers.Wait()
}

func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	const writers, each = 8, 50
	committed := map[string]bool{}
	done := make(chan struct{})
	var folder sync.WaitGroup
	fold := func(s *stage.Stage) {
		f, err := s.Rotate(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for _, r := range f.Records {
			committed[r.Path] = true
		}
		if err := f.Done(ctx); err != nil {
			t.Error(err)
		}
	}
	folder.Go(func() {
		s := open(t, dir, "main")
		for {
			select {
			case <-done:
				return
			default:
				fold(s)
			}
		}
	})
	var w sync.WaitGroup
	for i := range writers {
		w.Go(func() {
			s := open(t, dir, "main")
			for n := range each {
				if err := s.Append(ctx, put(fmt.Sprintf("%d-%d", i, n), n)); err != nil {
					t.Error(err)
				}
				if _, _, err := s.Lookup(ctx, "0-0"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	w.Wait()
	close(done)
	folder.Wait()
	fold(open(t, dir, "main"))
	if len(committed) != writers*each {
		t.Errorf("%d records were folded, %d appended", len(committed), writers*each)
	}
}

// A journal that is cut anywhere holds the groups before the cut; one with a bit
// flipped holds all groups but the damaged one.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	var groups [][]stage.Record
	s := open(t, dir, "main")
	appendTo(t, s, put("0", 0))
	name := filepath.Join(dir, "main.journal")
	sizes := []int64{0, size(t, name)}
	groups = append(groups, nil, []stage.Record{put("0", 0)})
	for i := 1; i < 5; i++ {
		g := []stage.Record{put(fmt.Sprint(i), i), put(fmt.Sprint(i, "b"), i), put(fmt.Sprint(i, "c"), i)}[:1+i%3]
		appendTo(t, s, g...)
		groups, sizes = append(groups, g), append(sizes, size(t, name))
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	stride := 7
	if test.Soak() {
		stride = 1
	}
	for cut := 0; cut < len(whole); cut += stride {
		overwrite(t, name, whole[:cut])
		var want []stage.Record
		for i, g := range groups {
			if sizes[i] <= int64(cut) {
				want = append(want, g...)
			}
		}
		if got := all(t, stage.Open(dir, "main", stage.Options{})); !slices.Equal(got, want) {
			t.Fatalf("cut at %d: %v, want %v", cut, got, want)
		}
		s := stage.Open(dir, "main", stage.Options{})
		appendTo(t, s, put("z", 1))
		if got := all(t, s); !slices.Equal(got, append(want, put("z", 1))) {
			t.Fatalf("appended behind a cut at %d: %v", cut, got)
		}
	}
	for bit := 0; bit < 8*len(whole); bit += stride {
		flipped := slices.Clone(whole)
		flipped[bit/8] ^= 1 << (bit % 8)
		overwrite(t, name, flipped)
		var want []stage.Record
		hit := 0
		for i, g := range groups {
			if i > 1 && int64(bit/8) < sizes[i] && int64(bit/8) >= sizes[i-1] {
				hit = i
				continue
			}
			want = append(want, g...)
		}
		warned := 0
		s := stage.Open(dir, "main", stage.Options{Warn: func(string) { warned++ }})
		got, err := s.All(ctx)
		if errors.Is(err, stage.ErrNewer) && bit/8 >= 4 && bit/8 < 8 {
			continue
		}
		if err != nil {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if hit == 0 { // the header, or the first group
			if len(got) < len(want)-1 {
				t.Fatalf("bit %d: %v, want %v", bit, got, want)
			}
			continue
		}
		// At the end damage may look like something that is still being written.
		if !slices.Equal(got, want) || warned == 0 && hit < len(groups)-1 {
			t.Fatalf("bit %d, in group %d: %v, want %v", bit, hit, got, want)
		}
	}
}

func size(t *testing.T, name string) int64 {
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

func overwrite(t *testing.T, name string, data []byte) {
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestNewerVersion(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "main")
	appendTo(t, s, put("a", 1))
	name := filepath.Join(dir, "main.journal")
	data, _ := os.ReadFile(name)
	data[7], data[8] = 2, data[8]^1 // or it would be our own with a damaged version
	overwrite(t, name, data)
	if err := s.Append(ctx, put("b", 1)); !errors.Is(err, stage.ErrNewer) {
		t.Errorf("Append: %v", err)
	}
	if _, _, err := s.Lookup(ctx, "a"); !errors.Is(err, stage.ErrNewer) {
		t.Errorf("Lookup: %v", err)
	}
	if _, err := s.Rotate(ctx); !errors.Is(err, stage.ErrNewer) {
		t.Errorf("Rotate: %v", err)
	}
	if after, _ := os.ReadFile(name); !slices.Equal(after, data) {
		t.Error("the journal was changed")
	}
}

func TestMend(t *testing.T) {
	dir := t.TempDir()
	s := stage.Open(dir, "main", stage.Options{})
	appendTo(t, s, put("a", 1))
	appendTo(t, s, put("b", 1), put("c", 1))
	fold, err := s.Rotate(ctx) // and the process dies
	if err != nil {
		t.Fatal(err)
	}
	fold.Close()
	appendTo(t, s, put("a", 2), del("d"))
	dropped, err := s.Mend(ctx, func(r stage.Record) bool { return r.Path != "b" })
	if err != nil || !slices.Equal(dropped, []stage.Record{put("b", 1)}) {
		t.Errorf("dropped %v, %v", dropped, err)
	}
	for _, s := range []*stage.Stage{s, open(t, dir, "main")} {
		checkAll(t, s, put("a", 2), put("c", 1), del("d"))
	}
	if _, err := os.Stat(filepath.Join(dir, "main.folding")); err == nil {
		t.Error("what was left of the fold is still there")
	}
}

// Whichever bit of a journal is damaged, that is told, and Mend leaves nothing to tell.
func TestMendsEveryBit(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "main.journal")
	s := stage.Open(dir, "main", stage.Options{})
	appendTo(t, s, put("a", 1))
	appendTo(t, s, put("b", 1), put("c", 1))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(whole) {
		data := slices.Clone(whole)
		data[bit/8] ^= 1 << (bit % 8)
		overwrite(t, name, data)
		told := false
		s := stage.Open(dir, "main", stage.Options{Warn: func(string) { told = true }})
		before, err := s.All(ctx)
		if err != nil || !told {
			t.Fatalf("bit %d of byte %d: told %v, %v", bit%8, bit/8, told, err)
		}
		if _, err := s.Mend(ctx, func(stage.Record) bool { return true }); err != nil {
			t.Fatal(err)
		}
		checkAll(t, open(t, dir, "main"), before...)
	}
}
