// Package gitbridge makes a remote of an ordinary Git server, whose ids are of SHA-1. It
// knows how objects are translated, and how such a server is spoken to. docs/protocol.md
// says what stands on the server.
//
// Each object of ours is one there with the same content and other ids in it (outward.go,
// inward.go); but for blobs that are too big for the server, which are trees of pieces
// there (names.go), and commits whose parents the server does not have (bodies.go). What
// is what is remembered in a map (ids.go), and computed again if that is lost.
//
// Objects that come from the server wait in a store, the spool, until the repository has
// taken them. What is pushed is read from the repository itself.
//
//	map/        which object of SHA-1 stands for which of SHA-256
//	spool/      packs of objects that have come, or were uploaded
//	spool.lock  held by who uses them
//	tmp-…       packs of Git on their way, without a name
package gitbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
)

// DefaultMaxBlob is what hosts of Git take, less some room: 100 MiB is the most.
const DefaultMaxBlob = 95 << 20

// Options of a remote. Dir must be set.
type Options struct {
	// Dir is where the map is kept, and what is on its way. All of it may be lost.
	Dir string

	// DB is the repository that is pushed from and pulled into, and Tips are what its refs
	// point to. With a nil DB all that is uploaded is kept in Dir.
	DB   *odb.DB
	Tips func(ctx context.Context) ([]objects.ID, error)

	// MaxBlob is how many bytes a blob may have on the server. What is bigger is kept
	// there as a tree of pieces. Zero is DefaultMaxBlob.
	MaxBlob int64

	// Token is a password for HTTP, in place of what ~/.netrc and Git's helpers say.
	Token string

	// Unencrypted lets all go over plain HTTP to other machines.
	Unencrypted bool

	TLS      *tls.Config   // may be nil
	Patience time.Duration // how long the server may be silent; zero is a minute
	Tries    int           // how often it is asked which refs there are; zero is 5

	Warn func(error) // may be nil
}

// A Remote is a Git server as a remote.Remote.
type Remote struct {
	o     Options
	srv   server
	ids   *idMap
	src   source // of what is to be pushed
	spool *odb.DB
	peer  *peer.Remote // of the spool

	mu      sync.Mutex // held by who talks with the server
	lock    *durable.Lock
	last    map[string]oid
	fetched bool // all that the server has is in the spool
}

// Open returns the repository at a URL git+https, git+http, git+ssh or git+file. It does
// not connect.
func Open(rawURL string, o Options) (*Remote, error) {
	if o.MaxBlob <= 0 {
		o.MaxBlob = DefaultMaxBlob
	}
	if o.Patience <= 0 {
		o.Patience = time.Minute
	}
	if o.Tries <= 0 {
		o.Tries = 5
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	srv, err := openServer(rawURL, o)
	if err != nil {
		return nil, err
	}
	spool, err := odb.Open(filepath.Join(o.Dir, "spool"), odb.Options{Warn: o.Warn})
	if err != nil {
		return nil, err
	}
	r := &Remote{o: o, srv: srv, ids: openIDs(o.Dir, o.MaxBlob, o.Warn), spool: spool, peer: peer.New(spool, nil, nil)}
	if o.DB != nil {
		r.src = append(r.src, o.DB)
	}
	r.src = append(r.src, spool)
	return r, nil
}

func openServer(rawURL string, o Options) (server, error) {
	u, err := url.Parse(strings.TrimPrefix(rawURL, "git+"))
	if err != nil {
		return nil, errors.New("malformed URL") // the error has the URL in it, and that may have a password
	}
	switch u.Scheme {
	case "file":
		return gitFile(u.Path, o), nil
	case "ssh":
		return gitSSH(u, o)
	case "http":
		if !o.Unencrypted && !isLoopback(u.Hostname()) {
			return nil, fmt.Errorf("%s: %w", u.Host, auth.ErrUnencrypted)
		}
	case "https":
	default:
		return nil, fmt.Errorf("%s://: no kind of Git server", u.Scheme)
	}
	return newHTTP(u, o)
}

// Close lets go of what came from the server, if the repository has taken it.
func (r *Remote) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids.close()
	if r.lock == nil {
		return r.spool.Close()
	}
	r.lock.Unlock()
	r.lock = nil
	if r.o.DB == nil {
		return r.spool.Close()
	}
	lock, err := durable.TryExclusive(r.lockName())
	if err != nil {
		return r.spool.Close() // somebody else is at work
	}
	defer lock.Unlock()
	taken, err := r.isTaken()
	err = errors.Join(err, r.spool.Close())
	if taken && err == nil {
		err = os.RemoveAll(filepath.Join(r.o.Dir, "spool"))
	}
	return err
}

// isTaken reports whether the repository has all that is in the spool.
func (r *Remote) isTaken() (bool, error) {
	ctx := odb.Local(context.Background())
	var ids []objects.ID
	for info, err := range r.spool.All(ctx) {
		if err != nil {
			return false, err
		}
		if info.Kind.Valid() {
			ids = append(ids, info.ID)
		}
	}
	missing, err := r.o.DB.Missing(ctx, ids)
	return len(missing) == 0, err
}

func (r *Remote) lockName() string { return filepath.Join(r.o.Dir, "spool.lock") }

// begin must be called with mu held, before the server is talked with.
func (r *Remote) begin(ctx context.Context) error {
	if r.lock == nil {
		if err := durable.MkdirAll(r.o.Dir, durable.NoSync); err != nil {
			return err
		}
		lock, err := durable.LockShared(ctx, r.lockName())
		if err != nil {
			return err
		}
		r.lock = lock
	}
	return r.ids.load(ctx)
}

// Missing returns those of ids that the server lacks. A server cannot be asked: what the
// repository has is asked about by a push, after it has looked what the refs there lead to,
// and counts as missing. Who asks about what it lacks wants to have that back: then
// all is fetched.
func (r *Remote) Missing(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	if r.o.DB == nil {
		return r.spool.Missing(ctx, ids)
	}
	lost, err := r.o.DB.Missing(odb.Local(ctx), ids)
	if err != nil || len(lost) == 0 {
		return ids, err
	}
	if r.last == nil {
		if err := r.all(ctx); err != nil {
			return nil, err
		}
	}
	if !r.fetched {
		return ids, nil
	}
	lacking, err := r.spool.Missing(ctx, lost)
	if err != nil {
		return nil, err
	}
	return without(ids, without(lost, lacking)), nil
}

// Fetch returns a pack with what q asks for, from the spool. What is not there has been
// asked for before, and was lost: then all is fetched again.
func (r *Remote) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	if err := r.supply(ctx, q.Want); err != nil {
		return nil, err
	}
	if q.Extent != remote.Only {
		// What is in the spool is new here: it may all come along.
		var err error
		if q.Want, err = r.extent(ctx, q); err != nil {
			return nil, err
		}
		q.Extent = remote.Only
	}
	return r.peer.Fetch(ctx, q)
}

// supply makes sure that objects are in the spool.
func (r *Remote) supply(ctx context.Context, ids []objects.ID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.begin(ctx); err != nil {
		return err
	}
	missing, err := r.spool.Missing(ctx, ids)
	if err != nil || len(missing) == 0 {
		return err
	}
	return r.all(ctx)
}

// extent returns what the spool has of what q.Want leads to.
func (r *Remote) extent(ctx context.Context, q remote.Request) ([]objects.ID, error) {
	have := map[objects.ID]bool{}
	for _, id := range q.Have {
		have[id] = true
	}
	var ids []objects.ID
	err := reach.Walk(ctx, r.spool, q.Want, reach.Options{
		Commits:    q.Extent == remote.History,
		CheckBlobs: true,
		Unplaced:   true,
		Missing: func(m reach.Missing) error {
			if errors.Is(m, objects.ErrNotFound) {
				return nil
			}
			return m
		},
		Visit: func(id objects.ID, _ objects.Kind) error {
			if id != objects.EmptyTree && !have[id] {
				ids = append(ids, id)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	var chunks []objects.ID
	seen := map[objects.ID]bool{}
	err = r.spool.Chunks(ctx, ids, func(_, chunk objects.ID) error {
		if !seen[chunk] {
			seen[chunk] = true
			chunks = append(chunks, chunk)
		}
		return nil
	})
	return append(ids, chunks...), err
}

// Upload adds the objects of a pack to the spool: the server gets them with the Update that
// moves a ref to them.
func (r *Remote) Upload(ctx context.Context, pack io.ReaderAt, size int64) error {
	if err := r.use(ctx); err != nil {
		return err
	}
	return r.peer.Upload(ctx, pack, size)
}

// Take is Upload for what is in a store of this process. What is in the repository need
// not be copied.
func (r *Remote) Take(ctx context.Context, parcels []*odb.Parcel, done func(*odb.Parcel)) error {
	if err := r.use(ctx); err != nil {
		return err
	}
	if r.o.DB == nil {
		return r.peer.Take(ctx, parcels, done)
	}
	for _, p := range parcels {
		done(p)
	}
	return nil
}

func (r *Remote) use(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begin(ctx)
}

var (
	_ remote.Remote = (*Remote)(nil)
	_ remote.Cutter = (*Remote)(nil)
)
