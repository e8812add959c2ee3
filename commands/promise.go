package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
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
	told bool  // guarded by mu; that the remote does not keep its word
}

// budget is up to how many bytes come along with the trees that lead to them.
const budget = 1 << 20

func (p *promise) Fetch(ctx context.Context, ids []objects.ID) error {
	return p.do(ctx, func(ctx context.Context, conn remote.Remote, o transfer.Options) (transfer.Stats, error) {
		missing, err := p.repo.DB.Missing(odb.Local(ctx), ids) // somebody may have been faster
		if err != nil || len(missing) == 0 {
			return transfer.Stats{}, err
		}
		return transfer.FetchObjects(ctx, p.repo.DB, conn, missing, o)
	})
}

func (p *promise) FetchPath(ctx context.Context, root objects.ID, path string) error {
	return p.do(ctx, func(ctx context.Context, conn remote.Remote, o transfer.Options) (transfer.Stats, error) {
		finder, ok := conn.(transfer.Finder)
		if !ok {
			return transfer.Stats{}, nil
		}
		return transfer.FetchPaths(ctx, p.repo.DB, finder, []remote.Path{{Root: root, Path: path}}, budget, o)
	})
}

func (p *promise) FetchAll(ctx context.Context, id objects.ID) error {
	return p.do(ctx, func(ctx context.Context, conn remote.Remote, o transfer.Options) (transfer.Stats, error) {
		return transfer.Fetch(ctx, p.repo.DB, conn, []objects.ID{id}, nil, o)
	})
}

// do calls fn with a connection, one call at a time.
func (p *promise) do(ctx context.Context, fn func(context.Context, remote.Remote, transfer.Options) (transfer.Stats, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return p.down
	}
	if p.conn == nil && slices.Contains([]string{"run", "wrap", "goprog"}, p.s.verb) && p.rests() {
		p.down = fmt.Errorf("%s did not answer a moment ago, and is left alone", p.name)
		p.s.detail("%v; what is not here is a miss", p.down)
		return p.down
	}
	asking := ctx
	if p.conn == nil {
		m, err := p.s.remoteNamed(p.repo, p.name)
		if err == nil {
			m.hasty = true
			p.conn, err = p.s.connect(ctx, p.repo, m, false)
		}
		if err != nil {
			return p.fails(err)
		}
		if wasSilent(p.repo) {
			var stop func()
			asking, stop = untilSilent(ctx, m, nobody)
			defer stop()
		}
	}
	// What comes is only a copy: it need not be durable.
	stats, err := fn(asking, p.conn, transfer.Options{Staged: true})
	p.s.fetched.Add(stats.Bytes)
	if stats.Objects > 0 {
		p.s.detail("fetched %s (%s) from %s", counted(stats.Objects, "object"), size(stats.Bytes), p.name)
	}
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.Is(err, objects.ErrNotFound):
		if !p.told {
			p.s.warn("%s lacks what it has promised: %v; that is a miss", p.name, err)
		}
		p.told = true
		return err
	case asking.Err() != nil:
		err = context.Cause(asking)
	}
	return p.fails(err)
}

// fails notes that the remote is not to be asked again.
func (p *promise) fails(err error) error {
	p.down = fmt.Errorf("%s cannot be asked: %w", p.name, err)
	p.s.warn("%v; what is not here is a miss", p.down)
	if errors.Is(err, remote.ErrUnreachable) {
		noteSilence(p.repo)
	}
	return p.down
}

// noteSilence notes that the remote of a lazy repository does not answer. If that cannot
// be written down, others wait as long as we have.
func noteSilence(r *repo.Repo) { _ = durable.WriteFile(silentFile(r), nil, durable.NoSync) }

// A build is a thousand runs, and must not wait a thousand times for a remote that
// does not answer: for so long after one has, the others do without.
const restTime = time.Minute

// rests reports whether the remote has failed to answer a moment ago.
func (p *promise) rests() bool {
	fi, err := os.Stat(silentFile(p.repo))
	return err == nil && time.Since(fi.ModTime()).Abs() < restTime
}

// wasSilent reports whether the remote has failed to answer, and not been heard of since:
// then it is not waited for as long again.
func wasSilent(r *repo.Repo) bool {
	_, err := os.Stat(silentFile(r))
	return err == nil
}

// silentFile is a file whose time is when the remote of a lazy repository failed to
// answer last.
func silentFile(r *repo.Repo) string { return filepath.Join(r.Dir, "silent") }
