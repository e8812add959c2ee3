package transfer_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

func set(ids ...objects.ID) map[objects.ID]bool {
	all := map[objects.ID]bool{}
	for _, id := range ids {
		all[id] = true
	}
	return all
}

// wantWholeFrom is wantWhole of a history that ends at some commits.
func (s store) wantWholeFrom(tip objects.ID, ends map[objects.ID]bool) {
	s.t.Helper()
	err := reach.Walk(s.t.Context(), s, []objects.ID{tip}, reach.Options{CheckBlobs: true, Shallow: func(id objects.ID) bool { return ends[id] }})
	if err != nil {
		s.t.Error(err)
	}
}

// TestCutHistory sends history without its beginning, and fetches it.
func TestCutHistory(t *testing.T) {
	each(t, func(t *testing.T, open func() remote.Remote) {
		from := newStore(t)
		first := from.commit(1)
		second := from.commit(2, first)
		third := from.commit(3, second)
		cut := transfer.Options{Shallow: set(second)}
		stats := send(t, from, open(), third, cut)
		if !slices.Equal(stats.Cut, []objects.ID{second}) {
			t.Errorf("cut at %v", stats.Cut)
		}
		r := open()
		if p, ok := r.(plain); ok {
			r = p.Remote
		}
		err := r.(remote.Cutter).UpdateCut(t.Context(), stats.Cut, refs.Update{Name: "refs/heads/main", New: third})
		if err != nil {
			t.Fatal(err)
		}
		if missing, err := open().Missing(t.Context(), []objects.ID{first, second, third}); err != nil || !slices.Equal(missing, []objects.ID{first}) {
			t.Errorf("missing %v, %v", missing, err)
		}

		// Into nothing: it ends here where it ends there.
		there := transfer.Options{ShallowThere: set(second)}
		none := newStore(t)
		stats = fetch(t, none, open(), third, there)
		if !slices.Equal(stats.Cut, []objects.ID{second}) || stats.Whole != nil {
			t.Errorf("cut at %v, whole at %v", stats.Cut, stats.Whole)
		}
		none.wantWholeFrom(third, set(second))
		if _, err := transfer.Fetch(t.Context(), newStore(t).DB, open(), []objects.ID{third}, nil, transfer.Options{}); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("a fetch that was not told of the cut: %v", err)
		}

		// Into what has the beginning: it stays connected.
		had := newStore(t)
		send(t, from, open(), first, transfer.Options{})
		fetch(t, had, open(), first, transfer.Options{})
		stats = fetch(t, had, open(), third, there, first)
		if stats.Cut != nil || stats.Whole != nil {
			t.Errorf("cut at %v, whole at %v", stats.Cut, stats.Whole)
		}
		had.wantWhole(third)

		// A note that a broken fetch has left is taken back.
		noted := newStore(t)
		fetch(t, noted, open(), first, transfer.Options{})
		stats = fetch(t, noted, open(), third, transfer.Options{Shallow: set(second)}, first)
		if stats.Cut != nil || !slices.Equal(stats.Whole, []objects.ID{second}) {
			t.Errorf("cut at %v, whole at %v", stats.Cut, stats.Whole)
		}

		// Commits alone.
		lazy := newStore(t)
		stats, err = transfer.FetchHistory(t.Context(), lazy.DB, open(), []objects.ID{third}, nil, there)
		if err != nil || !slices.Equal(stats.Cut, []objects.ID{second}) {
			t.Errorf("cut at %v, %v", stats.Cut, err)
		}
	})
}

// TestPullOfCut: what is here of an entry that stayed is not sent once more, though
// the remote has cut off all that it could compare with.
func TestPullOfCut(t *testing.T) {
	each(t, func(t *testing.T, open func() remote.Remote) {
		from := newStore(t)
		first := from.commit(1)
		here := newStore(t)
		send(t, from, open(), first, transfer.Options{})
		all := fetch(t, here, open(), first, transfer.Options{})
		evicted := from.commit(2) // as one without parents
		r := open()
		send(t, from, r, evicted, transfer.Options{})
		stats := fetch(t, here, forgetful{r, first}, evicted, transfer.Options{ShallowThere: set(evicted)}, first)
		here.wantWhole(evicted)
		if stats.Bytes > all.Bytes/4 {
			t.Errorf("%d bytes for a tenth of what was %d", stats.Bytes, all.Bytes)
		}
	})
}

// A forgetful remote has cut off what its caller has.
type forgetful struct {
	remote.Remote
	gone objects.ID
}

func (f forgetful) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	q.Have = slices.DeleteFunc(slices.Clone(q.Have), func(id objects.ID) bool { return id == f.gone })
	return f.Remote.Fetch(ctx, q)
}

func (f forgetful) FetchPaths(ctx context.Context, paths []remote.Path, budget int64) (io.ReadCloser, error) {
	return f.Remote.(remote.PathFetcher).FetchPaths(ctx, paths, budget)
}
