package commands

import (
	"context"
	"fmt"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// SEAM. Where the commands of this file's neighbours meet other stores: pushTo
// sends the branch to a remote, pullFrom brings it from there. No remote is named
// by "": then the local repository is all there is.

func (s *session) pushTo(_ context.Context, _ *repo.Repo, remote string, _ refs.Name) error {
	return noRemote("push", remote)
}

func (s *session) pullFrom(_ context.Context, _ *repo.Repo, remote string, _ refs.Name) error {
	return noRemote("pull", remote)
}

func noRemote(verb, remote string) error {
	if remote == "" {
		return nil
	}
	return fmt.Errorf("%s: %s: no such remote", verb, shown(remote))
}
