package commands

import (
	"context"
	"errors"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// open opens the repository, which must exist.
func (s *session) open(ctx context.Context) (*repo.Repo, error) {
	r, err := s.use(ctx, repo.Open)
	if errors.Is(err, repo.ErrNotRepository) {
		return nil, withHint(err, `"cache-tool init" makes a repository here; so does the first "save", "put" or "run"`,
			"--repo DIR or $CACHE_TOOL_REPO uses one elsewhere")
	}
	return r, err
}

// openToWrite opens the repository, which is made at first use.
func (s *session) openToWrite(ctx context.Context) (*repo.Repo, error) {
	return s.use(ctx, repo.OpenOrInit)
}

// openToRead opens the repository for a lookup, to which a repository that is
// not there yet is a miss.
func (s *session) openToRead(ctx context.Context) (*repo.Repo, error) {
	r, err := s.use(ctx, repo.Open)
	if errors.Is(err, repo.ErrNotRepository) {
		return nil, missf("%v", err)
	}
	return r, err
}

func (s *session) use(ctx context.Context, open func(context.Context, string, repo.Options) (*repo.Repo, error)) (*repo.Repo, error) {
	if s.branchFlag != "" {
		if _, err := branchNamed(s.branchFlag); err != nil {
			return nil, err // before anything is made
		}
	}
	dir, err := repo.Find(s.repoFlag)
	if err != nil {
		return nil, err
	}
	var lazy *promise
	r, err := open(ctx, dir, repo.Options{
		Began: s.began,
		Warn:  func(err error) { s.warn("%v", err) },
		Promise: func(remote string) repo.Promise {
			lazy = &promise{s: s, name: remote}
			return lazy
		},
	})
	if err != nil {
		return nil, err
	}
	if lazy != nil {
		lazy.repo = r
	}
	s.closers = append(s.closers, r.Close)
	return r, nil
}

// branch returns the branch that --branch, the environment or HEAD names.
func (s *session) branch(ctx context.Context, r *repo.Repo) (refs.Name, error) {
	return r.Branch(ctx, s.branchFlag)
}

// A view is where a command looks for entries: in one commit, or, if that is
// zero, in the branches of a scope with what is staged for them.
type view struct {
	rev    string // as typed; empty for the scope
	commit objects.ID
	scope  []refs.Name
}

// String says where, for messages.
func (v view) String() string {
	if v.rev != "" {
		return v.rev
	}
	names := make([]string, len(v.scope))
	for i, n := range v.scope {
		names[i] = n.Short()
	}
	return strings.Join(names, ", ")
}

// viewOf reads "REV:REST". What is before the first colon counts as a revision
// if it names one; if not, the colon is part of a key. ":REST" is REST whatever
// it holds. Without a revision the view is the scope of the current branch.
func (s *session) viewOf(ctx context.Context, r *repo.Repo, arg string) (view, string, error) {
	rev, rest, found := strings.Cut(arg, ":")
	if found && rev != "" {
		commit, err := r.Resolve(ctx, rev)
		if err == nil {
			return view{rev: rev, commit: commit}, rest, nil
		}
		if !errors.Is(err, refs.ErrNotFound) {
			return view{}, "", err
		}
	}
	if !found || rev != "" {
		rest = arg
	}
	branch, err := s.branch(ctx, r)
	if err != nil {
		return view{}, "", err
	}
	scope, err := r.Scope(ctx, branch)
	return view{scope: scope}, rest, err
}

// lookup returns an entry of the view. A miss is objects.ErrNotFound.
func lookup(ctx context.Context, r *repo.Repo, v view, kind entry.Kind, key string) (repo.Found, error) {
	if v.rev != "" {
		return r.LookupAt(ctx, v.commit, kind, key)
	}
	return r.Lookup(ctx, v.scope, kind, key)
}

// checkKey refuses what no entry can be called.
func checkKey(key string) error {
	switch {
	case key == "":
		return usagef("the key is empty")
	case strings.ContainsRune(key, 0):
		return usagef("key %q holds NUL", key)
	}
	return nil
}
