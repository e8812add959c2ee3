package commands

import (
	"context"
	"crypto/sha256"
	"iter"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/repo"
)

// entries returns what lookups in the view can find, of one kind or of all: the
// entries of its commit, or those of the branches of its scope with what is
// staged, each under the first branch that has it.
func (l *listing) entries(ctx context.Context, kind entry.Kind) iter.Seq2[repo.Found, error] {
	return entriesIn(ctx, l.r, l.v, kind)
}

func entriesIn(ctx context.Context, r *repo.Repo, v view, kind entry.Kind) iter.Seq2[repo.Found, error] {
	if v.rev != "" {
		return func(yield func(repo.Found, error) bool) {
			c, err := objects.ReadCommit(ctx, r.DB, v.commit)
			if err != nil {
				yield(repo.Found{}, err)
				return
			}
			r.EntriesAt(ctx, c.Tree, kind)(yield)
		}
	}
	if len(v.scope) == 1 {
		return r.Entries(ctx, v.scope[0], kind)
	}
	return func(yield func(repo.Found, error) bool) {
		// Sixteen bytes for each entry, and not its path: there may be a million.
		seen := map[[16]byte]struct{}{}
		for i, branch := range v.scope {
			for found, err := range r.Entries(ctx, branch, kind) {
				if err == nil {
					sum := sha256.Sum256([]byte(found.Path))
					mark := [16]byte(sum[:])
					if _, hidden := seen[mark]; hidden {
						continue
					}
					if i < len(v.scope)-1 {
						seen[mark] = struct{}{}
					}
				}
				if !yield(found, err) {
					return
				}
			}
		}
	}
}

// readBatch is how many entries are read at once: as many as make it likely that
// a block holds several of them.
const readBatch = 1 << 16

// readMetas calls fn, concurrently and in no order, with the payload and the meta
// of each entry, and lost for those that can't be read.
func readMetas(ctx context.Context, r *repo.Repo, ids []objects.ID, lost func(i int, err error), fn func(i int, payload objects.Entries, meta entry.Meta)) error {
	payloads := make([]objects.Entries, len(ids))
	metas := make([]objects.ID, len(ids))
	var mu sync.Mutex
	o := odb.ManyOptions{Lost: func(i int, _ objects.ID, err error) error {
		mu.Lock()
		defer mu.Unlock()
		lost(i, err)
		return nil
	}}
	err := r.DB.ReadMany(ctx, ids, o, func(i int, _ objects.Kind, body []byte) error {
		tree, err := objects.ParseTree(body)
		if err != nil {
			return o.Lost(i, ids[i], err)
		}
		for j, e := range tree {
			if e.Name == entry.MetaName {
				metas[i], payloads[i] = e.ID, slices.Delete(tree, j, j+1)
				break
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var have []int // those whose meta is known
	var wanted []objects.ID
	for i, id := range metas {
		if !id.IsZero() {
			have, wanted = append(have, i), append(wanted, id)
		}
	}
	second := odb.ManyOptions{Lost: func(i int, id objects.ID, err error) error { return o.Lost(have[i], id, err) }}
	return r.DB.ReadMany(ctx, wanted, second, func(i int, _ objects.Kind, body []byte) error {
		meta, err := entry.ParseMeta(body)
		if err != nil {
			return second.Lost(i, wanted[i], err)
		}
		fn(have[i], payloads[have[i]], meta)
		return nil
	})
}
