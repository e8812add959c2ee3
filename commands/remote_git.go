package commands

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/gc"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/gitbridge"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
)

// isGit reports whether the remote is a Git server.
func (m remoteStore) isGit() bool { return strings.HasPrefix(m.url, "git+") }

// openGit opens a repository on a Git server. What its objects are called there is kept in
// the repository.
func (s *session) openGit(r *repo.Repo, m remoteStore) (remote.Remote, error) {
	config, err := tlsOf(r, m)
	if err != nil {
		return nil, err
	}
	patience, tries := m.patience(r)
	o := gitbridge.Options{
		Dir: filepath.Join(r.Dir, "gitbridge", remoteID(m)), DB: r.DB, Tips: tipsOf(r),
		Unencrypted: m.isInsecure(r), TLS: config, Patience: patience, Tries: tries,
		Warn: func(err error) { s.warn("%s: %v", m, err) },
	}
	if text := m.setting(r, "maxBlob"); text != "" {
		if o.MaxBlob, err = gc.ParseSize(text); err != nil {
			return nil, err
		}
	}
	// What our own servers have made is of no use to others, and not for their eyes.
	if token := os.Getenv(httpremote.TokenVariable); !auth.IsToken(token) {
		o.Token = token
	}
	there, err := gitbridge.Open(m.url, o)
	if err != nil {
		return nil, remoteError(m, err)
	}
	s.closers = append(s.closers, there.Close)
	return there, nil
}

// tipsOf returns what finds out what all refs of a repository point to.
func tipsOf(r *repo.Repo) func(context.Context) ([]objects.ID, error) {
	return func(ctx context.Context) ([]objects.ID, error) {
		var tips []objects.ID
		for ref, err := range r.Refs.All(ctx, "refs/") {
			if err != nil {
				return nil, err
			}
			tips = append(tips, ref.ID)
		}
		return tips, nil
	}
}
