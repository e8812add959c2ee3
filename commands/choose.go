package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// How an entry came to be chosen.
const (
	byKey     = "key"
	byPrefix  = "prefix"
	byNearest = "nearest"
)

// A choice is the entry that restore takes.
type choice struct {
	repo.Found
	by     string
	prefix string // that its key begins with
	source string // the source commit that it was saved at
}

// choose finds the entry to restore: in each branch of the scope, nearest first,
// the key itself and then the newest entry of each prefix. What belongs to the
// own branch is preferred to a better match on another one, as in GitHub's cache.
func (s *session) choose(ctx context.Context, r *repo.Repo, v view, key string, w restoring) (choice, error) {
	if w.nearest {
		chosen, err := s.chooseNearest(ctx, r, v, key, w.prefixes)
		if err == nil || !errors.Is(err, objects.ErrNotFound) {
			return chosen, err
		}
		s.detail("%v: taking the newest", err)
	}
	var damaged error
	for _, one := range v.parts() {
		found, err := lookup(ctx, r, one, entry.Save, key)
		if err == nil {
			return choice{Found: found, by: byKey}, nil
		} else if !errors.Is(err, objects.ErrNotFound) {
			return choice{}, err
		}
		if errors.As(err, new(*objects.DamagedError)) {
			damaged = err
		}
		for _, prefix := range w.prefixes {
			chosen, err := newestWithPrefix(ctx, r, one, prefix)
			if err == nil || !errors.Is(err, objects.ErrNotFound) {
				return chosen, err
			}
		}
	}
	if damaged != nil {
		return choice{}, damaged
	}
	return choice{}, objects.ErrNotFound
}

// parts returns the view's branches as views of their own.
func (v view) parts() []view {
	if v.rev != "" {
		return []view{v}
	}
	parts := make([]view, len(v.scope))
	for i, branch := range v.scope {
		parts[i] = view{scope: []refs.Name{branch}}
	}
	return parts
}

// newestWithPrefix returns the entry with that prefix that was made last. One that
// can't be read is passed over: another will do.
func newestWithPrefix(ctx context.Context, r *repo.Repo, v view, prefix string) (choice, error) {
	var matches []repo.Found
	var ids []objects.ID
	for found, err := range entriesIn(ctx, r, v, entry.Save) {
		if err != nil {
			return choice{}, err
		}
		if found.Key, err = wholeKey(ctx, r, found); err == nil && strings.HasPrefix(found.Key, prefix) {
			matches, ids = append(matches, found), append(ids, found.ID)
		}
	}
	var mu sync.Mutex
	var newest choice
	var made time.Time
	err := readMetas(ctx, r, ids, func(int, error) {}, func(i int, _ objects.Entries, meta entry.Meta) {
		mu.Lock()
		defer mu.Unlock()
		later := meta.Created.After(made) || meta.Created.Equal(made) && matches[i].Key > newest.Key
		if newest.ID.IsZero() || later {
			newest, made = choice{Found: matches[i], by: byPrefix, prefix: prefix, source: meta.Commit}, meta.Created
		}
	})
	if err == nil && newest.ID.IsZero() {
		err = objects.ErrNotFound
	}
	return newest, err
}

// wholeKey returns the key of an entry that a listing has found.
func wholeKey(ctx context.Context, r *repo.Repo, found repo.Found) (string, error) {
	if !entry.Abbreviated(found.Path) {
		return found.Key, nil
	}
	return entry.Key(ctx, r.DB, found.Path, found.ID)
}

// errNoAncestor says that no version was saved at an ancestor of the source commit.
var errNoAncestor = fmt.Errorf("nothing was saved at an ancestor of the source commit: %w", objects.ErrNotFound)

// chooseNearest returns, of all versions of the key that history has and of all
// entries with one of the prefixes, the one that was saved at the nearest
// ancestor of the source repository's commit.
func (s *session) chooseNearest(ctx context.Context, r *repo.Repo, v view, key string, prefixes []string) (choice, error) {
	bySource := map[string]choice{}
	add := func(c choice) {
		_, meta, err := entry.Read(ctx, r.DB, c.ID)
		if err != nil || meta.Commit == "" {
			return
		}
		if _, have := bySource[meta.Commit]; !have {
			c.by, c.source = byNearest, meta.Commit
			bySource[meta.Commit] = c
		}
	}
	for _, one := range v.parts() {
		if found, err := lookup(ctx, r, one, entry.Save, key); err == nil {
			add(choice{Found: found})
		}
		if err := eachVersion(ctx, r, one, key, add); err != nil {
			return choice{}, err
		}
		for found, err := range entriesIn(ctx, r, one, entry.Save) {
			if err != nil || len(prefixes) == 0 {
				break
			}
			if found.Key, err = wholeKey(ctx, r, found); err != nil {
				continue
			}
			for _, prefix := range prefixes {
				if strings.HasPrefix(found.Key, prefix) {
					add(choice{Found: found})
					break
				}
			}
		}
	}
	if len(bySource) == 0 {
		return choice{}, errNoAncestor
	}
	return s.firstAncestor(ctx, bySource)
}

// eachVersion calls add for every version of the key in the history of the view,
// the newest first.
func eachVersion(ctx context.Context, r *repo.Repo, v view, key string, add func(choice)) error {
	tip := v.commit
	if v.rev == "" {
		var err error
		if tip, _, err = r.Tip(ctx, v.scope[0]); err != nil || tip.IsZero() {
			return err
		}
	}
	path := entry.Path(entry.Save, key)
	seen := map[objects.ID]bool{}
	for c, err := range r.Log(ctx, tip) {
		if err != nil {
			return err
		}
		id, err := idAt(ctx, r, c.Tree, path)
		if err != nil {
			return err
		}
		if id.IsZero() || seen[id] {
			continue
		}
		seen[id] = true
		found := repo.Found{Kind: entry.Save, Key: key, Path: path, ID: id}
		if v.rev == "" {
			found.Branch = v.scope[0]
		}
		add(choice{Found: found})
	}
	return nil
}

// firstAncestor asks git for the ancestors of the commit that is checked out, and
// returns what was saved at the first one that anything was saved at.
func (s *session) firstAncestor(ctx context.Context, bySource map[string]choice) (choice, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	git := exec.CommandContext(ctx, "git", "rev-list", "HEAD")
	out, err := git.StdoutPipe()
	if err == nil {
		err = git.Start()
	}
	if err != nil {
		s.warn("--nearest: %v: taking the newest entry", err)
		return choice{}, errNoAncestor
	}
	defer git.Wait()
	defer cancel() // before Wait: git need not go on
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if chosen, ok := bySource[lines.Text()]; ok {
			return chosen, nil
		}
	}
	return choice{}, errNoAncestor
}
