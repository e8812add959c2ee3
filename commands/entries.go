package commands

import (
	"context"
	"crypto/sha256"
	"iter"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
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
