package bundle_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bundle"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

func open(t testing.TB) *odb.DB {
	db, err := odb.Open(test.Dir(t), odb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// line is two commits, and a store that has them.
func line(t testing.TB) (db *odb.DB, first, second remotetest.Item, all []objects.ID) {
	blobs := []remotetest.Item{remotetest.Blob("a"), remotetest.Blob("b")}
	trees := []remotetest.Item{remotetest.Tree("x", blobs[0]), remotetest.Tree("x", blobs[1])}
	first = remotetest.Commit(1, trees[0])
	second = remotetest.Commit(2, trees[1], first)
	db = open(t)
	items := append(append(blobs, trees...), first, second)
	p := remotetest.Pack(t, items)
	if err := peer.New(db, nil, nil).Upload(t.Context(), bytes.NewReader(p), int64(len(p))); err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		all = append(all, i.ID())
	}
	return db, first, second, all
}

// write makes a bundle of branch main, which is at tip.
func write(t testing.TB, db *odb.DB, tip objects.ID, needs ...objects.ID) []byte {
	var out bytes.Buffer
	w, err := bundle.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Send(t.Context(), db, w, []objects.ID{tip}, needs, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(bundle.Contents{Refs: []refs.Ref{{Name: "refs/heads/main", ID: tip}}, Needs: needs}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(t testing.TB, data []byte) (*bundle.File, error) {
	return bundle.Open(t.Context(), bytes.NewReader(data), int64(len(data)))
}

func TestThereAndBack(t *testing.T) {
	db, first, second, all := line(t)
	b, err := read(t, write(t, db, second.ID()))
	if err != nil {
		t.Fatal(err)
	}
	if want := (bundle.Contents{Refs: []refs.Ref{{Name: "refs/heads/main", ID: second.ID()}}}); cmp.Diff(want, b.Contents) != "" || b.Objects != len(all) {
		t.Errorf("%+v with %d objects", b.Contents, b.Objects)
	}
	there := open(t)
	if _, err := transfer.Fetch(t.Context(), there, b, []objects.ID{second.ID()}, nil, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	if missing, err := there.Missing(t.Context(), all); err != nil || len(missing) > 0 {
		t.Errorf("%d objects did not come: %v", len(missing), err)
	}

	// Of what is new since the first commit nothing else is in it, and who lacks that gets
	// nothing whole.
	b, err = read(t, write(t, db, second.ID(), first.ID()))
	if err != nil {
		t.Fatal(err)
	}
	if b.Objects != 3 {
		t.Errorf("%d objects, want a commit, a tree and a blob", b.Objects)
	}
	if _, err := transfer.Fetch(t.Context(), open(t), b, []objects.ID{second.ID()}, nil, transfer.Options{}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("without what it needs: %v", err)
	}
	if _, err := transfer.Fetch(t.Context(), there, b, []objects.ID{second.ID()}, nil, transfer.Options{}); err != nil {
		t.Error(err)
	}
	if _, err := b.Fetch(t.Context(), remote.Request{Want: []objects.ID{first.ID()}}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("Fetch of what it lacks: %v", err)
	}
}

// Cut anywhere, or with any byte changed, it is no bundle.
func TestDamage(t *testing.T) {
	db, _, second, _ := line(t)
	data := write(t, db, second.ID())
	for n := range len(data) {
		if _, err := read(t, data[:n]); !errors.Is(err, bundle.ErrBad) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		changed := bytes.Clone(data)
		changed[n] ^= 0x20
		if _, err := read(t, changed); err == nil {
			t.Errorf("byte %d changed: nobody notices", n)
		}
	}
	data[7] = 2
	var newer *bundle.VersionError
	if _, err := read(t, data); !errors.As(err, &newer) || newer.Version != 2 {
		t.Errorf("of another version: %v", err)
	}
}

// resum makes the sum right again: whoever damages on purpose can do that.
func resum(data []byte) []byte {
	body := data[:max(0, len(data)-sha256.Size)]
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

func FuzzOpen(f *testing.F) {
	db, first, second, _ := line(f)
	data := write(f, db, second.ID())
	f.Add(data)
	f.Add(write(f, db, second.ID(), first.ID()))
	f.Add(data[:60])
	long := bytes.Clone(data)
	binary.BigEndian.PutUint64(long[len(long)-40:], 1<<63)
	f.Add(long)
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, data := range [][]byte{in, resum(in)} {
			b, err := read(t, data)
			var newer *bundle.VersionError
			var newerPack *pack.VersionError
			switch {
			case err == nil:
				for _, r := range b.Contents.Refs {
					if err := r.Name.Check(); err != nil {
						t.Error(err)
					}
				}
			case !errors.Is(err, bundle.ErrBad) && !errors.Is(err, pack.ErrBadPack) && !errors.As(err, &newer) && !errors.As(err, &newerPack):
				t.Errorf("%v", err)
			}
		}
	})
}
