package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// A world is a bucket, and all that was ever put into it.
type world struct {
	*testing.T
	b   *remotetest.Strict
	all map[objects.ID]remotetest.Item
}

func newWorld(t *testing.T) *world {
	return &world{t, remotetest.NewStrict(t), map[objects.ID]remotetest.Item{}}
}

func (w *world) open() *bucket.Remote { return bucket.Open(w.b) }

// upload puts items into a pack of their own.
func (w *world) upload(items ...remotetest.Item) {
	w.Helper()
	for _, i := range items {
		w.all[i.ID()] = i
	}
	remotetest.Upload(w.T, w.open(), items...)
}

// Open reads what was uploaded.
func (w *world) Open(_ context.Context, id objects.ID) (objects.Object, error) {
	i, ok := w.all[id]
	if !ok {
		return objects.Object{}, objects.ErrNotFound
	}
	return objects.Object{Kind: i.Type.Kind(), Size: int64(len(i.Body)), Body: body{bytes.NewReader(i.Body)}}, nil
}

type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

// set makes refs/tags/name lead to an object, or to nothing.
func (w *world) set(name string, id objects.ID) {
	w.Helper()
	tag := refs.Tag(name)
	if err := w.open().Update(w.Context(), refs.Update{Name: tag, Old: refIn(w.T, w.open(), tag), New: id}); err != nil {
		w.Fatal(err)
	}
}

// age lets time go by.
func (w *world) age(d time.Duration) {
	w.Helper()
	if err := bucket.Age(w.Context(), w.open(), d); err != nil {
		w.Fatal(err)
	}
}

// options are those of a Collect to which this world says what is needed.
func (w *world) options(o bucket.CollectOptions) bucket.CollectOptions {
	if o.Mark == nil {
		o.Mark = w.mark
	}
	return o
}

func (w *world) mark(ctx context.Context, tips []objects.ID, shallow map[objects.ID]bool, live *reach.Set) error {
	return reach.Walk(ctx, w, tips, reach.Options{Seen: live, Shallow: func(id objects.ID) bool { return shallow[id] }})
}

func (w *world) collect(o bucket.CollectOptions) bucket.Collected {
	w.Helper()
	c, err := w.open().Collect(w.Context(), w.options(o))
	if err != nil {
		w.Fatalf("Collect: %v", err)
	}
	return c
}

func (w *world) wantThere(items ...remotetest.Item) {
	w.Helper()
	remotetest.WantFetched(w.T, w.open(), items...)
}

func (w *world) wantGone(items ...remotetest.Item) {
	w.Helper()
	var ids []objects.ID
	for _, i := range items {
		ids = append(ids, i.ID())
	}
	if missing, err := w.open().Missing(w.Context(), ids); err != nil || !slices.Equal(missing, ids) {
		w.Errorf("%d of %d are missing: %v", len(missing), len(ids), err)
	}
}

// files counts the files in a directory.
func (w *world) files(dir string) (n int) {
	w.Helper()
	for _, err := range w.b.List(w.Context(), dir) {
		if err != nil {
			w.Fatal(err)
		}
		n++
	}
	return n
}

// text is a blob of some size.
func text(name string) remotetest.Item {
	return remotetest.Blob(name + strings.Repeat(" "+name, 100))
}

const day = 24 * time.Hour

func TestCollect(t *testing.T) {
	w := newWorld(t)
	kept, dead, half, young := text("kept"), text("dead"), text("half"), text("young")
	w.upload(kept)
	w.upload(dead)
	w.upload(half, text("other half"), text("third half"))
	w.set("kept", kept.ID())
	w.set("half", half.ID())
	w.age(3 * day)
	w.upload(young)
	reader := w.open()
	remotetest.WantFetched(t, reader, half, dead)

	o := bucket.CollectOptions{Grace: 2 * day}
	dry := w.collect(bucket.CollectOptions{Grace: 2 * day, DryRun: true})
	c := w.collect(o)
	if dry.Condemned != c.Condemned || c.Condemned.N != 2 || c.Made.N != 1 || c.Deleted.N != 0 {
		t.Errorf("collected %+v; it was to be %+v", c, dry)
	}
	w.wantThere(kept, half, young)
	w.wantGone(dead, text("other half"))
	remotetest.WantFetched(t, reader, half, dead) // its root is older
	if u, err := w.open().Usage(t.Context()); err != nil || u.Packs.N != 3 || u.Condemned != c.Condemned || u.Indexes.N == 0 {
		t.Errorf("Usage: %+v, %v", u, err)
	}

	if c := w.collect(o); c != (bucket.Collected{}) {
		t.Errorf("collected %+v once more", c)
	}
	w.age(3 * day)
	if c := w.collect(o); c.Deleted.N != 2 || c.Condemned.N != 1 || w.files("packs") != 3 {
		t.Errorf("collected %+v after the grace, %d packs are left", c, w.files("packs"))
	}
	w.wantThere(kept, half)
	w.wantGone(young)
	remotetest.WantFetched(t, reader, half)
	if _, err := remotetest.Fetch(t.Context(), reader, dead.ID()); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("fetched what is gone: %v", err)
	}
}

func TestCollectNothing(t *testing.T) {
	w := newWorld(t)
	if c := w.collect(bucket.CollectOptions{}); c != (bucket.Collected{}) {
		t.Errorf("collected %+v of nothing", c)
	}
	a := text("a")
	w.upload(a)
	w.set("a", a.ID())
	if c := w.collect(bucket.CollectOptions{}); c != (bucket.Collected{}) {
		t.Errorf("collected %+v", c)
	}
	w.set("a", objects.ID{})
	if c := w.collect(bucket.CollectOptions{}); c.Condemned.N != 1 {
		t.Errorf("collected %+v", c)
	}
	if c := w.collect(bucket.CollectOptions{}); c.Deleted.N != 1 || w.files("packs") != 0 {
		t.Errorf("collected %+v", c)
	}
	w.wantGone(a)
}

// TestCollectSmallPacks: thousands of pushes leave behind as many packs.
func TestCollectSmallPacks(t *testing.T) {
	w := newWorld(t)
	var all []remotetest.Item
	var parent remotetest.Item
	for i := range 120 {
		blob := text(fmt.Sprint("blob ", i))
		tree := remotetest.Tree("a", blob)
		commit := commitOf(i, tree, parent)
		w.upload(blob, tree, commit)
		all, parent = append(all, blob, tree, commit), commit
	}
	w.set("all", parent.ID())
	if c := w.collect(bucket.CollectOptions{Grace: time.Hour}); c.Condemned.N > 0 {
		t.Errorf("collected young packs: %+v", c)
	}
	w.age(2 * time.Hour)
	c := w.collect(bucket.CollectOptions{Grace: time.Hour})
	if c.Condemned.N != 120 || c.Made.N != 2 {
		t.Errorf("collected %+v", c)
	}
	w.wantThere(all...)
	in := map[bool]map[string]bool{true: {}, false: {}}
	for _, i := range all {
		packs, err := bucket.PacksOf(t.Context(), w.open(), i.ID())
		if err != nil || len(packs) != 1 {
			t.Fatal(packs, err)
		}
		in[i.Type.IsMeta()][packs[0]] = true
	}
	if len(in[true]) != 1 || len(in[false]) != 1 {
		t.Errorf("trees and commits are in %d packs, blobs in %d", len(in[true]), len(in[false]))
	}
	w.age(2 * time.Hour)
	if c := w.collect(bucket.CollectOptions{Grace: time.Hour}); c.Deleted.N != 120 || c.Condemned.N != 0 {
		t.Errorf("collected %+v", c)
	}
	w.wantThere(all...)
}

// commitOf is a commit with a parent, if that is a commit.
func commitOf(n int, tree, parent remotetest.Item) remotetest.Item {
	c := remotetest.Commit(n, tree)
	if parent.Type == pack.Commit {
		body, err := objects.ParseCommit(c.Body)
		if err != nil {
			panic(err)
		}
		body.Parents = []objects.ID{parent.ID()}
		c.Body = body.Encode()
	}
	return c
}

// recipe is a blob, as chunks.
func recipe(chunks ...string) (blob remotetest.Item, parts []remotetest.Item) {
	var pieces []pack.Piece
	whole := strings.Join(chunks, "")
	for _, c := range chunks {
		part := remotetest.Item{Type: pack.Chunk, Body: []byte(c)}
		parts = append(parts, part)
		pieces = append(pieces, pack.Piece{ID: part.ID(), Size: uint32(len(c))})
	}
	id := objects.Sum(objects.Blob, []byte(whole))
	return remotetest.Item{Type: pack.Recipe, Body: pack.AppendRecipe(nil, id, int64(len(whole)), pieces)}, parts
}

// delta is a tree of some blobs, as the difference to another.
func delta(t *testing.T, base remotetest.Item, blobs ...remotetest.Item) (record, tree remotetest.Item) {
	t.Helper()
	var entries objects.Entries
	for i, b := range blobs {
		entries = append(entries, objects.Entry{Mode: objects.ModeFile, Name: fmt.Sprint(i), ID: b.ID()})
	}
	tree = remotetest.Item{Type: pack.Tree, Body: entries.Encode()}
	d, ok := pack.AppendDelta(nil, tree.ID(), tree.Body, base.ID(), base.Body, 1<<20)
	if !ok {
		t.Fatal("no delta")
	}
	return remotetest.Item{Type: pack.Delta, Body: d}, tree
}

// TestCollectParts: chunks of needed blobs and bases of needed trees are needed, too.
func TestCollectParts(t *testing.T) {
	w := newWorld(t)
	big, chunks := recipe("one", "two", "three")
	other, otherChunks := recipe("one", "four")
	base := remotetest.Tree("x", text("x"))
	record, tree := delta(t, base, text("y"))
	for _, c := range append(slices.Clone(chunks), otherChunks[1]) {
		w.upload(c, text("with "+string(c.Body)))
	}
	w.upload(big)
	w.upload(other)
	w.upload(base, text("x"))
	w.upload(record, text("y"))
	w.all[tree.ID()] = tree // as it is read
	w.set("big", big.ID())
	w.set("tree", tree.ID())
	w.collect(bucket.CollectOptions{Rewrite: 0.01})
	w.wantThere(append(chunks, big, base, record, text("y"))...)
	w.wantGone(text("x"), otherChunks[1], text("with one"))
	if missing, _ := w.open().Missing(t.Context(), []objects.ID{other.ID()}); len(missing) == 0 {
		t.Error("a blob is there whose chunks are gone")
	}
	w.set("big", objects.ID{})
	w.set("tree", objects.ID{})
	w.collect(bucket.CollectOptions{})
	w.collect(bucket.CollectOptions{})
	if n := w.files("packs"); n > 0 {
		t.Errorf("%d packs are left", n)
	}
}

// TestCollectLeavesNothingInPart: nobody needs a blob, but its recipe is in a pack of
// which most is needed. Its chunks go, so it must be missing.
func TestCollectLeavesNothingInPart(t *testing.T) {
	for _, young := range []bool{false, true} {
		w := newWorld(t)
		big, chunks := recipe("one", "two")
		base := remotetest.Tree("x", text("x"))
		record, tree := delta(t, base, text("y"))
		kept := text(strings.Repeat("kept", 50))
		w.upload(chunks...)
		w.upload(base)
		w.age(2 * time.Hour)
		w.upload(kept, big, record)
		if !young {
			w.age(2 * time.Hour)
		}
		w.set("kept", kept.ID())
		w.collect(bucket.CollectOptions{Grace: time.Hour})
		w.wantThere(kept)
		if young { // somebody may be about to need it
			w.wantThere(append(chunks, big, base, record)...)
			continue
		}
		w.wantGone(append(chunks, base)...)
		missing, err := w.open().Missing(t.Context(), []objects.ID{big.ID(), tree.ID()})
		if err != nil || len(missing) != 2 {
			t.Errorf("%d are missing, want 2: %v", len(missing), err)
		}
	}
}

// TestCollectDamaged: of two copies one is damaged, and the other stays; a damaged
// pack with the only copy is left.
func TestCollectDamaged(t *testing.T) {
	for damaged := range 2 {
		w := newWorld(t)
		a, b := text("a"), text("b")
		w.upload(a, text("much else"), text("and more"))
		w.upload(a, b, text("dead"))
		w.set("a", a.ID())
		w.set("b", b.ID())
		packs, err := bucket.PacksOf(t.Context(), w.open(), text("and more").ID())
		if err != nil || len(packs) != 1 {
			t.Fatal(packs, err)
		}
		if damaged == 1 {
			if packs, err = bucket.PacksOf(t.Context(), w.open(), b.ID()); err != nil {
				t.Fatal(err)
			}
		}
		w.b.Damage(packs[0], 60)
		c := w.collect(bucket.CollectOptions{Rewrite: 0.1})
		w.wantThere(a)
		if c.Damaged != damaged {
			t.Errorf("damaged %d: %+v", damaged, c)
		}
		if missing, err := w.open().Missing(t.Context(), []objects.ID{b.ID()}); err != nil || len(missing) > 0 {
			t.Errorf("the only copy was dropped: %v", err)
		}
	}
}

// TestCollectKeepsTheGoodCopy: the copy in the pack that stays is damaged.
func TestCollectKeepsTheGoodCopy(t *testing.T) {
	for _, damage := range []bool{false, true} {
		w := newWorld(t)
		a, needed := text("a"), remotetest.Blob(fmt.Sprint(rand.Perm(1000)))
		w.upload(a, text("dead"), text("dead too"))
		w.upload(a, needed)
		w.set("a", a.ID())
		w.set("needed", needed.ID())
		packs, err := bucket.PacksOf(t.Context(), w.open(), needed.ID())
		if err != nil || len(packs) != 1 {
			t.Fatal(packs, err)
		}
		if damage {
			w.b.Damage(packs[0], 60)
		}
		c := w.collect(bucket.CollectOptions{})
		w.wantThere(a)
		if c.Condemned.N != 1 || (c.Made.N == 1) != damage {
			t.Errorf("damaged %v: %+v", damage, c)
		}
	}
}

// TestCollectUnreadable: nobody knows what a damaged recipe needs.
func TestCollectUnreadable(t *testing.T) {
	w := newWorld(t)
	big, chunks := recipe("one", "two")
	w.upload(chunks...)
	w.upload(big)
	w.set("big", big.ID())
	packs, err := bucket.PacksOf(t.Context(), w.open(), big.ID())
	if err != nil {
		t.Fatal(err)
	}
	w.b.Damage(packs[0], 60)
	if _, err := w.open().Collect(t.Context(), w.options(bucket.CollectOptions{})); err == nil || !strings.Contains(err.Error(), packs[0]) {
		t.Errorf("Collect: %v", err)
	}
	w.wantThere(chunks...)
}

// TestCollectMeanwhile does something between the moment at which it is known what is
// needed and the swap.
func TestCollectMeanwhile(t *testing.T) {
	dead := text("dead")
	big, chunks := recipe("one", "two")
	for what, do := range map[string]func(w *world) (there []remotetest.Item){
		"a ref is moved to what was dead": func(w *world) []remotetest.Item {
			w.set("again", dead.ID())
			return []remotetest.Item{dead}
		},
		"a recipe comes whose chunks were dead": func(w *world) []remotetest.Item {
			w.upload(big)
			return append(chunks, big)
		},
		"somebody else collects": func(w *world) []remotetest.Item {
			w.collect(bucket.CollectOptions{Grace: time.Hour})
			return nil
		},
		"many push": func(w *world) []remotetest.Item {
			for i := range 30 {
				w.upload(text(fmt.Sprint(i)))
				w.set(fmt.Sprint(i), text(fmt.Sprint(i)).ID())
			}
			return []remotetest.Item{text("7"), text("29")}
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			kept := text("kept")
			w.upload(dead, text("more"))
			w.upload(chunks...)
			w.upload(kept)
			w.set("kept", kept.ID())
			w.age(day)
			var there []remotetest.Item
			first := true
			o := bucket.CollectOptions{Grace: time.Hour, Mark: func(ctx context.Context, tips []objects.ID, shallow map[objects.ID]bool, live *reach.Set) error {
				if first {
					first = false
					defer func() { there = do(w) }()
				}
				return w.mark(ctx, tips, shallow, live)
			}}
			w.collect(o)
			w.wantThere(append(there, kept)...)
			for range 2 {
				w.collect(bucket.CollectOptions{Grace: time.Hour}) // they are needed, or young
			}
			w.wantThere(append(there, kept)...)
		})
	}
}

// TestCollectAndPushes: who counts on what is condemned is told so.
func TestCollectAndPushes(t *testing.T) {
	big, chunks := recipe("one", "two")
	dead, mine := text("dead"), text("mine")
	for what, before := range map[string]func(w *world, push *bucket.Remote){
		"it was not missing": func(w *world, push *bucket.Remote) {
			if missing, err := push.Missing(w.Context(), []objects.ID{dead.ID()}); err != nil || len(missing) > 0 {
				w.Fatal(missing, err)
			}
		},
		"he has uploaded it": func(w *world, push *bucket.Remote) { remotetest.Upload(w.T, push, mine) },
		"a ref led to it": func(w *world, push *bucket.Remote) {
			w.set("dead", dead.ID())
			refIn(w.T, push, "refs/tags/dead")
			w.set("dead", objects.ID{})
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			kept := text("kept")
			w.upload(dead)
			w.upload(kept)
			w.set("kept", kept.ID())
			push := w.open()
			before(w, push)
			w.collect(bucket.CollectOptions{})
			update := refs.Update{Name: "refs/tags/new", New: kept.ID()}
			for range 2 {
				if err := push.Update(t.Context(), update); !errors.Is(err, remote.ErrStale) {
					t.Errorf("Update: %v", err)
				}
			}
			if _, err := push.Missing(t.Context(), []objects.ID{dead.ID(), kept.ID()}); err != nil {
				t.Error(err)
			}
			if err := push.Update(t.Context(), update); err != nil {
				t.Errorf("Update: %v", err)
			}
		})
	}

	// An object must not come to be there when its parts have gone.
	w := newWorld(t)
	w.upload(chunks...)
	push := w.open()
	if missing, err := push.Missing(t.Context(), []objects.ID{chunks[0].ID(), chunks[1].ID()}); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	w.collect(bucket.CollectOptions{})
	p := remotetest.Pack(t, []remotetest.Item{big})
	if err := push.Upload(t.Context(), bytes.NewReader(p), int64(len(p))); !errors.Is(err, remote.ErrStale) {
		t.Errorf("Upload: %v", err)
	}
	w.wantGone(big)

	// What was moved is simply found.
	w = newWorld(t)
	kept := text("kept")
	w.upload(kept, text("much else"), text("and more"))
	w.set("kept", kept.ID())
	push = w.open()
	if missing, err := push.Missing(t.Context(), []objects.ID{kept.ID()}); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	w.collect(bucket.CollectOptions{})
	update := refs.Update{Name: "refs/tags/new", New: kept.ID()}
	if err := push.Update(t.Context(), update); !errors.Is(err, remote.ErrStale) {
		t.Errorf("Update: %v", err)
	}
	if missing, err := push.Missing(t.Context(), []objects.ID{kept.ID()}); err != nil || len(missing) > 0 {
		t.Error(missing, err)
	}
	if err := push.Update(t.Context(), update); err != nil {
		t.Errorf("Update: %v", err)
	}
}

// TestCollectMovesRefs deletes a branch, cuts history and condemns at once.
func TestCollectMovesRefs(t *testing.T) {
	w := newWorld(t)
	var parent remotetest.Item
	var commits []remotetest.Item
	for i := range 4 {
		blob := text(fmt.Sprint(i))
		tree := remotetest.Tree("a", blob)
		parent = commitOf(i, tree, parent)
		w.upload(blob, tree, parent)
		commits = append(commits, parent)
	}
	old := text("old")
	w.upload(old)
	w.set("main", parent.ID())
	w.set("old", old.ID())
	o := bucket.CollectOptions{
		Updates: []refs.Update{{Name: "refs/tags/old", Old: commits[0].ID()}},
		Shallow: []objects.ID{commits[2].ID()},
	}
	if _, err := w.open().Collect(t.Context(), w.options(o)); !errors.As(err, new(*refs.ConflictError)) {
		t.Errorf("Collect: %v", err)
	}
	w.wantThere(old, commits[0])
	o.Updates[0].Old = old.ID()
	w.collect(o)
	w.wantThere(commits[2:]...)
	w.wantGone(old, commits[0], commits[1], text("1"))
	s, err := w.open().State(t.Context())
	if err != nil || len(s.Refs) != 1 || !s.Shallow[commits[2].ID()] {
		t.Errorf("%+v: %v", s, err)
	}
	// A commit that is gone is not remembered as cut.
	w.set("main", objects.ID{})
	for range 3 {
		w.collect(bucket.CollectOptions{})
	}
	if s, err := w.open().State(t.Context()); err != nil || len(s.Shallow) > 0 {
		t.Errorf("%d commits are cut: %v", len(s.Shallow), err)
	}
}

// TestSweep deletes what killed uploads have left, when it is old.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	a := text("a")
	w.upload(a)
	w.set("a", a.ID())
	put := func(names ...string) {
		for _, name := range names {
			if err := w.b.Put(t.Context(), name, strings.NewReader(name), int64(len(name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("packs/1.pack", "indexes/1.idx", "roots/1")
	for _, tt := range []struct {
		older, grace time.Duration
		want         int
	}{
		{0, 0, 0},
		{50 * time.Minute, 0, 0},
		{20 * time.Minute, 3 * time.Hour, 0},
		{time.Minute, 0, 3},
	} {
		w.b.Age(tt.older)
		put("packs/2.pack", "indexes/2.idx", "roots/2")
		if c := w.collect(bucket.CollectOptions{Grace: tt.grace}); c.Deleted.N != tt.want {
			t.Errorf("%v: %+v", tt, c)
		}
	}
	w.wantThere(a)
	if n := w.files("packs"); n != 2 {
		t.Errorf("%d packs are left", n)
	}
}

// TestEnterLate: what was put long ago may have been swept since.
func TestEnterLate(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		late time.Duration
		ok   bool
	}{{20 * time.Minute, true}, {40 * time.Minute, false}} {
		p := bytes.NewReader(remotetest.Pack(t, []remotetest.Item{text(tt.late.String())}))
		if err := bucket.EnterLate(t.Context(), w.open(), p, tt.late); (err == nil) != tt.ok {
			t.Errorf("after %v: %v", tt.late, err)
		}
	}
	w.wantThere(text("20m0s"))
	w.wantGone(text("40m0s"))
}

// TestCollectFaults lets each call fail once, done or not. Nothing is lost, and the
// next one goes on.
func TestCollectFaults(t *testing.T) {
	for _, op := range []string{"get", "put", "delete", "root", "swap", "list"} {
		for _, fault := range []remotetest.Fault{remotetest.Fail, remotetest.DoneFail, remotetest.Cut} {
			if fault == remotetest.Cut && op != "get" {
				continue
			}
			stride := max(1, 10/test.Count(t, 10)) // other calls each time
			for n := 1 + rand.IntN(stride); collectFault(t, op, n, fault); {
				n += stride
			}
		}
	}
}

func collectFault(t *testing.T, op string, n int, fault remotetest.Fault) (reached bool) {
	t.Helper()
	w := newWorld(t)
	var there []remotetest.Item
	var parent remotetest.Item
	for i := range 55 {
		blob := text(fmt.Sprint(i))
		tree := remotetest.Tree("a", blob)
		parent = commitOf(i, tree, parent)
		w.upload(blob, tree, parent, text(fmt.Sprint("dead ", i)))
		there = append(there, blob, tree, parent)
	}
	big, chunks := recipe("one", "two")
	w.upload(append(chunks, text("dead"))...)
	w.upload(big)
	there = append(append(there, big), chunks...)
	w.set("main", parent.ID())
	w.set("big", big.ID())
	w.upload(text("condemned"))
	if err := bucket.Condemn(t.Context(), w.open(), text("condemned").ID()); err != nil {
		t.Fatal(err)
	}
	w.age(day)
	if err := w.b.Put(t.Context(), "packs/1.pack", strings.NewReader("1"), 1); err != nil {
		t.Fatal(err)
	}
	w.b.Age(day)

	plan := remotetest.At(op, n, fault)
	faulty := &remotetest.Faulty{Bucket: w.b, Plan: func(o string, i int) remotetest.Fault {
		f := plan(o, i)
		reached = reached || f != remotetest.None
		return f
	}}
	o := w.options(bucket.CollectOptions{Grace: time.Hour})
	_, err := bucket.Open(faulty).Collect(t.Context(), o)
	if !reached && err != nil {
		t.Fatalf("%s %d: %v", op, n, err)
	}
	w.wantThere(there...)
	if is := refIn(t, w.open(), "refs/tags/main"); is != parent.ID() {
		t.Errorf("%s %d: main is at %s", op, n, is.Short())
	}
	for range 2 {
		w.collect(bucket.CollectOptions{Grace: time.Hour})
		w.age(day)
		w.b.Age(day)
	}
	w.collect(bucket.CollectOptions{Grace: time.Hour})
	w.wantThere(there...)
	w.wantGone(text("dead"), text("dead 7"))
	s, err := w.open().State(t.Context())
	if err != nil || w.files("packs") != len(s.Packs) || len(s.Packs) > 6 {
		t.Errorf("%s %d: %d packs, %d in the root: %v", op, n, w.files("packs"), len(s.Packs), err)
	}
	return reached && !t.Failed()
}

// TestUpdateCountsOnWhatCameLater: who looks at the refs again counts on what they lead to
// then, though what they led to at first is all still there.
func TestUpdateCountsOnWhatCameLater(t *testing.T) {
	w := newWorld(t)
	first, second, third := text("first"), text("second"), text("third")
	w.upload(first)
	w.set("kept", first.ID())
	pusher := w.open()
	refIn(t, pusher, refs.Tag("kept"))
	w.upload(second)
	w.set("other", second.ID())
	refIn(t, pusher, refs.Tag("other"))
	w.set("other", objects.ID{})
	w.collect(bucket.CollectOptions{})
	w.wantGone(second)
	w.upload(third)
	if err := pusher.Update(t.Context(), refs.Update{Name: refs.Tag("new"), New: third.ID()}); !errors.Is(err, remote.ErrStale) {
		t.Errorf("Update: %v, want ErrStale: it may lead to what the ref led to that has gone", err)
	}
}
