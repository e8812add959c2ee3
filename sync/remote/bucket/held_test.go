package bucket_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// uploadLast uploads a pack of one block.
func uploadLast(t *testing.T, r *bucket.Remote, items ...remotetest.Item) {
	t.Helper()
	var data, list bytes.Buffer
	var b pack.Block
	for _, i := range items {
		copy(b.Space(len(i.Body)), i.Body)
		b.Add(pack.Record{ID: i.ID(), Type: i.Type, Size: uint32(len(i.Body))})
	}
	e := compress.GetEncoder(compress.Default, 64<<10)
	defer compress.PutEncoder(e)
	w := pack.NewWriter(&data)
	_, err := w.Append(b.AppendTo(nil, e), b.Records)
	name, finished := w.Finish()
	if err := errors.Join(err, finished, w.WriteIndex(&list, name)); err != nil {
		t.Fatal(err)
	}
	index, err := pack.ParseIndex(list.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.UploadLast(t.Context(), bytes.NewReader(data.Bytes()), int64(data.Len()), index); err != nil {
		t.Fatal(err)
	}
}

func swapsOf(t *testing.T, b remote.Bucket) uint64 {
	t.Helper()
	root, err := b.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return uint64(root.Seq)
}

func wantMissing(t *testing.T, r *bucket.Remote, items ...remotetest.Item) {
	t.Helper()
	var ids []objects.ID
	for _, i := range items {
		ids = append(ids, i.ID())
	}
	missing, err := r.Missing(t.Context(), append(slices.Clone(ids), objects.ID{1}))
	if want := append(ids, objects.ID{1}); err != nil || !slices.Equal(missing, want) {
		t.Errorf("missing are %v: %v, want %v", missing, err, want)
	}
}

// TestUploadLast: what is sent last enters with the refs, by one swap, and nobody sees it
// before.
func TestUploadLast(t *testing.T) {
	mem := remotetest.NewStrict(t)
	r, other := bucket.Open(mem), bucket.Open(mem)
	a, b := text("a"), text("b")
	remotetest.Upload(t, r, a)
	before := swapsOf(t, mem)
	uploadLast(t, r, b)
	wantMissing(t, other, b)
	if err := r.Update(t.Context(), refs.Update{Name: refs.Tag("a"), New: a.ID()}, refs.Update{Name: refs.Tag("b"), New: b.ID()}); err != nil {
		t.Fatal(err)
	}
	if n := swapsOf(t, mem) - before; n != 1 {
		t.Errorf("%d swaps", n)
	}
	remotetest.WantFetched(t, bucket.Open(mem), a, b)
	if err := r.Update(t.Context(), refs.Update{Name: refs.Tag("c"), New: text("c").ID()}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("a tag of what is not there: %v", err)
	}
}

// TestUploadLastAndLose: who finds the ref somewhere else has not sent it in vain.
func TestUploadLastAndLose(t *testing.T) {
	mem := remotetest.NewStrict(t)
	r, other := bucket.Open(mem), bucket.Open(mem)
	a, b := text("a"), text("b")
	remotetest.Upload(t, other, a)
	uploadLast(t, r, b)
	if err := other.Update(t.Context(), refs.Update{Name: refs.Tag("x"), New: a.ID()}); err != nil {
		t.Fatal(err)
	}
	var conflict *refs.ConflictError
	if err := r.Update(t.Context(), refs.Update{Name: refs.Tag("x"), New: b.ID()}); !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	wantMissing(t, bucket.Open(mem), b)
	wantMissing(t, r)
	c := text("c")
	uploadLast(t, r, c)
	before := swapsOf(t, mem)
	if err := r.Update(t.Context(), refs.Update{Name: refs.Tag("x"), Old: a.ID(), New: b.ID()}); err != nil {
		t.Error(err)
	}
	if n := swapsOf(t, mem) - before; n != 1 {
		t.Errorf("%d swaps", n)
	}
	remotetest.WantFetched(t, bucket.Open(mem), b, c)
}

// TestUploadAfterLast: what is made of something that is held enters with it, and not
// before.
func TestUploadAfterLast(t *testing.T) {
	mem := remotetest.NewStrict(t)
	r := bucket.Open(mem)
	base := remotetest.Tree("x", text("x"))
	change, tree := delta(t, base, text("y"))
	uploadLast(t, r, base)
	if missing, err := r.MissingBases(t.Context(), []objects.ID{base.ID(), tree.ID()}); err != nil || !slices.Equal(missing, []objects.ID{tree.ID()}) {
		t.Error(missing, err)
	}
	remotetest.Upload(t, r, change)
	remotetest.WantFetched(t, bucket.Open(mem), base)
	if err := bucket.Condemn(t.Context(), bucket.Open(mem), base.ID()); err != nil {
		t.Fatal(err)
	}
	if err := r.Update(t.Context(), refs.Update{Name: refs.Tag("tree"), New: tree.ID()}); !errors.Is(err, remote.ErrStale) {
		t.Errorf("Update: %v", err)
	}
}

// TestUploadLastOfWhatIsGone: what is made of something that was collected meanwhile does
// not enter, not even later.
func TestUploadLastOfWhatIsGone(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, r *bucket.Remote){
		"at once":      func(*testing.T, *bucket.Remote) {},
		"asked":        func(t *testing.T, r *bucket.Remote) { wantMissing(t, r) },
		"told of refs": func(t *testing.T, r *bucket.Remote) { refIn(t, r, refs.Tag("none")) },
	} {
		t.Run(name, func(t *testing.T) {
			mem := remotetest.NewStrict(t)
			base := remotetest.Tree("x", text("x"))
			change, tree := delta(t, base, text("y"))
			remotetest.Upload(t, bucket.Open(mem), base)
			r := bucket.Open(mem)
			if missing, err := r.MissingBases(t.Context(), []objects.ID{base.ID()}); err != nil || len(missing) > 0 {
				t.Fatal(missing, err)
			}
			uploadLast(t, r, change)
			if err := bucket.Condemn(t.Context(), bucket.Open(mem), base.ID()); err != nil {
				t.Fatal(err)
			}
			before(t, r)
			update := refs.Update{Name: refs.Tag("tree"), New: tree.ID()}
			if err := r.Update(t.Context(), update); !errors.Is(err, remote.ErrStale) {
				t.Errorf("Update: %v", err)
			}
			wantMissing(t, r, base, tree)
			if err := r.Update(t.Context(), update); !errors.Is(err, objects.ErrNotFound) {
				t.Errorf("Update: %v", err)
			}
			wantMissing(t, bucket.Open(mem), base, tree)
		})
	}
}

// TestUploadLastLostReply: the swap was done and reported as failed, or not done.
func TestUploadLastLostReply(t *testing.T) {
	for _, fault := range []remotetest.Fault{remotetest.Fail, remotetest.DoneFail} {
		mem := new(remotetest.Memory)
		r := bucket.Open(&remotetest.Faulty{Bucket: mem, Plan: remotetest.At("swap", 1, fault)})
		a := text("a")
		uploadLast(t, r, a)
		update := refs.Update{Name: refs.Tag("a"), New: a.ID()}
		err := r.Update(t.Context(), update)
		if done := fault == remotetest.DoneFail; done != (err == nil) {
			t.Errorf("fault %d: %v", fault, err)
		}
		if err == nil {
			remotetest.WantFetched(t, bucket.Open(mem), a)
			continue
		}
		wantMissing(t, r, a)
		uploadLast(t, r, a)
		if err := r.Update(t.Context(), update); err != nil {
			t.Error(err)
		}
		remotetest.WantFetched(t, bucket.Open(mem), a)
	}
}
