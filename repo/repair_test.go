package repo_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// lose takes objects out of the store, as damage does.
func lose(t *testing.T, r *repo.Repo, ids ...objects.ID) {
	t.Helper()
	lost := map[objects.ID]bool{}
	for _, id := range ids {
		lost[id] = true
	}
	packs, err := r.DB.PacksOf(ids)
	if err != nil || len(packs) == 0 {
		t.Fatalf("no pack holds %v: %v", ids, err)
	}
	if _, err := r.DB.Mend(t.Context(), packs, func(id objects.ID) bool { return lost[id] }); err != nil {
		t.Fatal(err)
	}
}

// repair returns what was done and what is left, a line each.
func repair(t *testing.T, r *repo.Repo, donors ...repo.Donor) (did, left string) {
	t.Helper()
	sum, err := r.Repair(t.Context(), repo.RepairOptions{Donors: donors}, func(d repo.Repaired) {
		did += d.Where + ": " + d.What + "\n"
	}, func(p repo.Problem) {
		left += p.Where + ": " + p.What + "\n"
	})
	if err != nil {
		t.Fatal(err)
	}
	if (sum.Problems > 0) != (left != "") {
		t.Errorf("%d problems: %s", sum.Problems, left)
	}
	return did, left
}

func commitOf(t *testing.T, r *repo.Repo, id objects.ID) objects.CommitBody {
	t.Helper()
	c, err := objects.ReadCommit(t.Context(), r.DB, id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func at(t *testing.T, r *repo.Repo, commit objects.ID, path string) objects.ID {
	t.Helper()
	e, err := trees.Lookup(t.Context(), r.DB, commitOf(t, r, commit).Tree, path)
	if err != nil {
		t.Fatal(err)
	}
	return e.ID
}

func tipOf(t *testing.T, r *repo.Repo, name refs.Name) objects.ID {
	t.Helper()
	id, err := r.Refs.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// What nobody has becomes a miss, and everything else stays.
func TestRepairTakesOut(t *testing.T) {
	path := entry.Path(entry.Put, "a")
	fan := path[:strings.LastIndexByte(path, '/')] // the tree that lists it
	for _, tt := range []struct {
		name string
		lost func(t *testing.T, r *repo.Repo, first, second objects.ID) objects.ID
		did  string // part of what is done
		a, b string // what the branch has then
	}{
		{"an entry", func(t *testing.T, r *repo.Repo, _, tip objects.ID) objects.ID { return at(t, r, tip, path) },
			"1 damaged entry taken out, as commit ", "", "2"},
		{"its body", func(t *testing.T, r *repo.Repo, _, tip objects.ID) objects.ID { return at(t, r, tip, path+"/body") },
			": put a\n", "", "2"},
		{"the tree that lists it", func(t *testing.T, r *repo.Repo, _, tip objects.ID) objects.ID { return at(t, r, tip, fan) },
			"all below " + fan + ": the tree that listed it is lost", "", "2"},
		{"the root", func(t *testing.T, r *repo.Repo, _, tip objects.ID) objects.ID { return commitOf(t, r, tip).Tree },
			"all entries: the tree that listed them is lost", "", ""},
		{"the tip", func(t *testing.T, r *repo.Repo, _, tip objects.ID) objects.ID { return tip },
			"refs/heads/main: what it pointed to can't be had: it is at ", "1", ""},
		{"the commit before", func(t *testing.T, r *repo.Repo, first, _ objects.ID) objects.ID { return first },
			"shallow: history ends at ", "1", "2"},
		{"what was there before", func(t *testing.T, r *repo.Repo, first, _ objects.ID) objects.ID {
			return at(t, r, first, entry.Path(entry.Put, "old"))
		}, "shallow: history ends at ", "1", "2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRepo(t)
			first := put(t, r, main, "old=0", "a=1")
			second := put(t, r, main, "old", "b=2")
			lose(t, r, tt.lost(t, r, first, second))
			did, left := repair(t, r)
			if left != "" || !strings.Contains(did, tt.did) {
				t.Errorf("did\n%s\nwant %q\nleft\n%s", did, tt.did, left)
			}
			checkClean(t, r)
			if a, b := get(t, r, main, "a"), get(t, r, main, "b"); a != tt.a || b != tt.b {
				t.Errorf("the branch has a=%q, b=%q; want %q, %q", a, b, tt.a, tt.b)
			}
			if did, _ := repair(t, r); did != "" {
				t.Errorf("a second time it does\n%s", did)
			}
			put(t, r, main, "c=3")
			if get(t, r, main, "c") != "3" {
				t.Error("nothing can be added any more")
			}
		})
	}
}

// A repository in memory that gives what it is asked for.
type donor struct {
	from, to *repo.Repo
	err      error
}

func (d *donor) String() string { return "donor" }

func (d *donor) Fetch(ctx context.Context, ids []objects.ID) error {
	if d.err != nil {
		return d.err
	}
	b, err := d.to.DB.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return err
	}
	defer b.Close()
	for _, id := range ids {
		o, err := d.from.DB.Open(ctx, id)
		if err != nil {
			continue
		}
		if _, err := b.Put(ctx, o.Kind, o.Size, o.Body); err != nil {
			return err
		}
	}
	return b.Commit(ctx, odb.Durable)
}

func TestRepairFetches(t *testing.T) {
	r := newRepo(t)
	tip := put(t, r, main, "a=1", "b=2")
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.CopyFS(whole, os.DirFS(r.Dir)); err != nil {
		t.Fatal(err)
	}
	from, err := repo.Open(t.Context(), whole, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	// One below the other: that more is missing is seen when the first has come.
	path := entry.Path(entry.Put, "a")
	lost := []objects.ID{tip, commitOf(t, r, tip).Tree, at(t, r, tip, path), at(t, r, tip, path+"/body")}
	lose(t, r, lost...)

	// While the donor is away nothing is taken out.
	_, left := repair(t, r, &donor{err: os.ErrDeadlineExceeded})
	if !strings.Contains(left, "donor: it could not be asked") || tipOf(t, r, main) != tip {
		t.Errorf("left\n%s, the branch at %s", left, tipOf(t, r, main))
	}
	did, left := repair(t, r, &donor{from: from, to: r})
	if want := fmt.Sprintf("objects: %d objects fetched from donor\n", len(lost)); did != want || left != "" {
		t.Errorf("did\n%s\nwant\n%s\nleft\n%s", did, want, left)
	}
	checkClean(t, r)
	if get(t, r, main, "a") != "1" || tipOf(t, r, main) != tip {
		t.Error("it is not what it was")
	}
}

func TestRepairDropsStagedAndLeavesTags(t *testing.T) {
	r := newRepo(t)
	tip := put(t, r, main, "a=1")
	if err := r.Refs.Apply(t.Context(), refs.Update{Name: refs.Tag("v1"), New: tip}); err != nil {
		t.Fatal(err)
	}
	stagePut(t, r, main, "b=2")
	stagePut(t, r, main, "c=3", "a")
	records, err := r.Staged(t.Context(), main)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if record.Path == entry.Path(entry.Put, "b") {
			lose(t, r, record.ID)
		}
	}
	did, left := repair(t, r)
	if !strings.Contains(did, "stage of main: dropped "+entry.Path(entry.Put, "b")) || left != "" {
		t.Errorf("did\n%s\nleft\n%s", did, left)
	}
	checkClean(t, r)
	if get(t, r, main, "b") != "" || get(t, r, main, "c") != "3" || get(t, r, main, "a") != "" {
		t.Error("what is whole in the stage is not what it was")
	}
	// A tag is nobody's to move.
	lose(t, r, at(t, r, tip, entry.Path(entry.Put, "a")))
	if _, left := repair(t, r); !strings.Contains(left, "refs/tags/v1") {
		t.Errorf("left\n%s", left)
	}
}

// Others write while packs are rewritten, and lose nothing.
func TestRepairAmongWriters(t *testing.T) {
	r := newRepo(t)
	put(t, r, main, "first=1")
	stop := make(chan struct{})
	var group sync.WaitGroup
	for w := range 3 {
		group.Go(func() {
			for i := range 15 {
				put(t, r, main, fmt.Sprintf("%d-%d=%d", w, i, i))
			}
		})
	}
	go func() { group.Wait(); close(stop) }()
	for running := true; running; {
		select {
		case <-stop:
			running = false
		default:
		}
		entries, err := os.ReadDir(filepath.Join(r.Dir, "packs"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			if name, ok := strings.CutSuffix(e.Name(), ".pack"); ok {
				names = append(names, name)
			}
		}
		// To drop what is not there rewrites nothing; to drop a blob that was only ever
		// there for that rewrites its pack.
		junk, err := r.DB.NewBatch(t.Context(), odb.BatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		id, err := junk.PutBytes(objects.Blob, fmt.Append(nil, "junk", len(names)))
		if err == nil {
			err = junk.Commit(t.Context(), odb.Durable)
		}
		junk.Close()
		if err != nil {
			t.Fatal(err)
		}
		if packs, err := r.DB.PacksOf([]objects.ID{id}); err != nil {
			t.Fatal(err)
		} else if _, err := r.DB.Mend(t.Context(), packs, func(i objects.ID) bool { return i == id }); err != nil {
			t.Fatal(err)
		}
		if did, left := repair(t, r); left != "" || did != "" {
			t.Errorf("did\n%s\nleft\n%s", did, left)
		}
	}
	checkClean(t, r)
	for w := range 3 {
		for i := range 15 {
			if got := get(t, r, main, fmt.Sprintf("%d-%d", w, i)); got != fmt.Sprint(i) {
				t.Errorf("%d-%d is %q", w, i, got)
			}
		}
	}
}
