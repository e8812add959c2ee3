package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/stage"
)

// Found is an entry that a lookup met.
type Found struct {
	Kind   entry.Kind
	Key    string
	Path   string     // in the branch's tree
	ID     objects.ID // the entry: a tree
	Branch refs.Name  // where it was met; empty in a commit
	Staged bool       // not committed yet
}

// Lookup returns the entry of this kind and key in the first branch of scope
// that has it, the stage of each branch over the branch itself. A miss is
// objects.ErrNotFound.
//
// A branch that is damaged is passed over with a warning: to a build it is a miss.
func (r *Repo) Lookup(ctx context.Context, scope []refs.Name, kind entry.Kind, key string) (Found, error) {
	path := entry.Path(kind, key)
	for _, branch := range scope {
		id, staged, err := r.lookupIn(ctx, branch, path)
		switch {
		case err == nil:
			return Found{kind, key, path, id, branch, staged}, nil
		case ctx.Err() != nil:
			return Found{}, ctx.Err()
		case !errors.Is(err, objects.ErrNotFound):
			r.warn(fmt.Errorf("look up %s in %s: %w", key, branch.Short(), err))
		}
	}
	return Found{}, fmt.Errorf("%s %q: %w", kind, key, objects.ErrNotFound)
}

func (r *Repo) lookupIn(ctx context.Context, branch refs.Name, path string) (id objects.ID, staged bool, err error) {
	record, ok, err := r.Stage(branch).Lookup(ctx, path)
	if err != nil {
		r.warn(err)
	}
	if ok && record.ID.IsZero() {
		return objects.ID{}, false, objects.ErrNotFound
	}
	if ok {
		_, _, err := r.DB.Stat(ctx, record.ID)
		return record.ID, true, err
	}
	_, root, err := r.Tip(ctx, branch)
	if err != nil {
		return objects.ID{}, false, err
	}
	e, err := r.findPath(ctx, root, path)
	return e.ID, false, err
}

// LookupAt returns the entry of this kind and key in a commit.
func (r *Repo) LookupAt(ctx context.Context, commit objects.ID, kind entry.Kind, key string) (Found, error) {
	c, err := objects.ReadCommit(ctx, r.DB, commit)
	if err != nil {
		return Found{}, err
	}
	path := entry.Path(kind, key)
	e, err := r.findPath(ctx, c.Tree, path)
	if err != nil {
		return Found{}, fmt.Errorf("%s %q in %s: %w", kind, key, commit.Short(), err)
	}
	return Found{Kind: kind, Key: key, Path: path, ID: e.ID}, nil
}

// Stage returns the journal of branch.
func (r *Repo) Stage(branch refs.Name) *stage.Stage {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stages[branch]
	if s == nil {
		s = stage.Open(r.path("stage"), branch.Short(), stage.Options{
			Warn:   func(text string) { r.warn(errors.New(text)) },
			Folded: func(ctx context.Context, seq uint64) (bool, error) { return r.folded(ctx, branch, seq) },
		})
		r.stages[branch] = s
	}
	return s
}

// Staged returns what was added to branch since its last commit, the newest
// record of each path, ordered by path. A record without an id is a deletion.
func (r *Repo) Staged(ctx context.Context, branch refs.Name) ([]stage.Record, error) {
	return r.Stage(branch).All(ctx)
}

// EntriesAt returns the entries below a root tree, in the order of their paths,
// those of one kind if kind is not empty.
func (r *Repo) EntriesAt(ctx context.Context, root objects.ID, kind entry.Kind) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		stop := errors.New("stop")
		err := trees.Walk(ctx, r.DB, root, func(path string, e objects.Entry) (trees.Step, error) {
			if kind != "" && path != string(kind) && !strings.HasPrefix(path, string(kind)+"/") {
				return trees.SkipTree, nil
			}
			if !entry.IsPath(path) {
				return trees.Continue, nil
			}
			k, key, err := entry.ParsePath(path)
			if err != nil {
				return trees.SkipTree, nil // not ours; fsck speaks of it
			}
			if !yield(Found{Kind: k, Key: key, Path: path, ID: e.ID}, nil) {
				return trees.SkipTree, stop
			}
			return trees.SkipTree, nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(Found{}, err)
		}
	}
}

// Entries returns the entries of branch, staged ones included, the stage over
// the branch: first those of the branch in the order of their paths, then those
// that only the stage has.
func (r *Repo) Entries(ctx context.Context, branch refs.Name, kind entry.Kind) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		records, err := r.Staged(ctx, branch)
		if err != nil {
			yield(Found{}, err)
			return
		}
		staged := make(map[string]objects.ID, len(records))
		for _, record := range records {
			staged[record.Path] = record.ID
		}
		_, root, err := r.Tip(ctx, branch)
		if err != nil {
			yield(Found{}, err)
			return
		}
		for found, err := range r.EntriesAt(ctx, root, kind) {
			found.Branch = branch
			if id, ok := staged[found.Path]; ok {
				found.ID, found.Staged = id, true
				delete(staged, found.Path)
			}
			if found.ID.IsZero() && err == nil {
				continue // deleted in the stage
			}
			if !yield(found, err) {
				return
			}
		}
		for _, record := range records {
			k, key, err := entry.ParsePath(record.Path)
			if _, only := staged[record.Path]; !only || err != nil || record.ID.IsZero() || kind != "" && k != kind {
				continue
			}
			if !yield(Found{k, key, record.Path, record.ID, branch, true}, nil) {
				return
			}
		}
	}
}
