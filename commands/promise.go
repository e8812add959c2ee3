package commands

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// A promise brings into a lazy repository what it lacks. It connects when that is
// needed first; and when the remote cannot be reached it says so once, and is not
// asked again: a build waits for it no more than once.
type promise struct {
	s    *session
	name string
	repo *repo.Repo // set once it is open

	mu   sync.Mutex
	conn remote.Remote
	down error // guarded by mu; why the remote is not asked any more
}

// budget is up to how many bytes come along with the trees that lead to them.
const budget = 1 << 20

func (p *promise) Fetch(ctx context.Context, ids []objects.ID) error {
	return p.do(ctx, func(conn remote.Remote, o transfer.Options) (transfer.Stats, error) {
		missing, err := p.repo.DB.Missing(odb.Local(ctx), ids) // somebody may have been faster
		if err != nil || len(missing) == 0 {
			return transfer.Stats{}, err
		}
		return transfer.FetchObjects(ctx, p.repo.DB, conn, missing, o)
	})
}

func (p *promise) FetchPath(ctx context.Context, root objects.ID, path string) error {
	return p.do(ctx, func(conn remote.Remote, o transfer.Options) (transfer.Stats, error) {
		finder, ok := conn.(remote.PathFetcher)
		if !ok {
			return transfer.Stats{}, nil
		}
		body, err := finder.FetchPaths(ctx, []remote.Path{{Root: root, Path: path}}, budget)
		if err != nil {
			return transfer.Stats{}, err
		}
		return transfer.Accept(ctx, p.repo.DB, conn, body, o)
	})
}

func (p *promise) FetchAll(ctx context.Context, id objects.ID) error {
	return p.do(ctx, func(conn remote.Remote, o transfer.Options) (transfer.Stats, error) {
		return transfer.Fetch(ctx, p.repo.DB, conn, []objects.ID{id}, nil, o)
	})
}

// do calls fn with a connection, one call at a time.
func (p *promise) do(ctx context.Context, fn func(remote.Remote, transfer.Options) (transfer.Stats, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return p.down
	}
	if p.conn == nil {
		m, err := p.s.remoteNamed(p.repo, p.name)
		if err == nil {
			p.conn, err = p.s.connect(ctx, p.repo, m, false)
		}
		if err != nil {
			return p.fails(err)
		}
	}
	// What comes is only a copy: it need not be durable.
	stats, err := fn(p.conn, transfer.Options{Staged: true})
	if stats.Objects > 0 {
		p.s.detail("fetched %s (%s) from %s", counted(stats.Objects, "object"), size(stats.Bytes), p.name)
	}
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, objects.ErrNotFound):
		return err
	}
	return p.fails(err)
}

// fails notes that the remote is not to be asked again.
func (p *promise) fails(err error) error {
	p.down = fmt.Errorf("%s cannot be asked: %w", p.name, err)
	p.s.warn("%v; what is not here is a miss", p.down)
	return p.down
}
