package commands

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"

	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/gc"
	"github.com/cache-tool/cache-tool/sync/replica"
	"github.com/cache-tool/cache-tool/sync/server"
)

// serveBucket makes the server one of a bucket. It returns what is served.
func (s *session) serveBucket(ctx context.Context, r *repo.Repo, v *serving, o *server.Options) (string, error) {
	m, err := s.remoteNamed(r, v.store)
	if err != nil {
		return "", err
	}
	b, err := bucketAt(r, m)
	if err != nil {
		return "", err
	}
	if b == nil {
		return "", &usageError{shown(m.shownURL()) + " is no bucket", []string{"a bucket is s3://…, dav+https://… or bucket+file://…; without --store the repository is served"}}
	}
	size, err := gc.ParseSize(cmp.Or(v.cacheSize, "10G"))
	if err != nil || size < 1<<20 {
		return "", usagef("--cache-size %s: %v", shown(v.cacheSize), cmp.Or(err, errors.New("want at least 1 MB")))
	}
	p, err := replica.New(replica.Options{
		Bucket: b, KeepIn: bucketDir(r, m), Dir: filepath.Join(r.Dir, "replicas"), Size: size,
		Warn: func(err error) { o.Log.Warn("cache", "err", err) },
	})
	if err != nil {
		return "", err
	}
	s.closers = append(s.closers, p.Close)
	// What is wrong with the bucket is said now, and not to the first client.
	if err := s.probe(ctx, r, m); err != nil {
		return "", err
	}
	if err := p.Healthy(ctx); err != nil {
		return "", remoteError(m, err)
	}
	o.Open = func() server.Store { return p.Store() }
	o.Objects = func() (server.GitObjects, func()) { return p.Objects() }
	o.Healthy, o.Metrics = p.Healthy, p.Metrics
	return m.shownURL(), nil
}
