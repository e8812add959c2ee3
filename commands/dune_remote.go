package commands

import (
	"context"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// duneRemote returns the remote that Dune's entries go to and come from. If none is
// named and none configured, the repository here is all there is.
func (s *session) duneRemote(r *repo.Repo, name string, branch refs.Name) (m remoteStore, ok bool, err error) {
	if name == "" && len(remoteNames(r)) == 0 {
		return m, false, nil
	}
	m, err = s.remoteFor(r, name, branch)
	return m, err == nil, err
}

// pushTo sends the branch to a remote. That another build made other bytes under a
// key that Dune has is no news: the first ones stay.
func (s *session) pushTo(ctx context.Context, r *repo.Repo, remote string, branch refs.Name) error {
	m, ok, err := s.duneRemote(r, remote, branch)
	if !ok {
		return err
	}
	var p pushing
	if err := p.choose(ctx, r, branch, nil); err != nil {
		return err
	}
	_, _, err = s.pushRefs(ctx, r, m, p)
	return err
}

// pullFrom brings the branch, and those that it is read through, from a remote that
// may not have them yet.
func (s *session) pullFrom(ctx context.Context, r *repo.Repo, remote string, branch refs.Name) error {
	m, ok, err := s.duneRemote(r, remote, branch)
	if !ok {
		return err
	}
	_, _, err = s.pull(ctx, r, m, branch, pulling{})
	return err
}
