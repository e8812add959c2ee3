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
	"iter"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
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

// Refs yields the branches and tags of the server whose names begin with prefix. What they
// point to is fetched, as far as that has not been seen before: only then it is known what
// it is called here.
func (r *Remote) Refs(ctx context.Context, prefix string) iter.Seq2[refs.Ref, error] {
	return func(yield func(refs.Ref, error) bool) {
		all, err := r.look(ctx)
		if err != nil {
			yield(refs.Ref{}, err)
			return
		}
		for _, ref := range all {
			if strings.HasPrefix(string(ref.Name), prefix) && !yield(ref, nil) {
				return
			}
		}
	}
}

func (r *Remote) look(ctx context.Context) ([]refs.Ref, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	const tries = 100
	for try := 1; ; try++ {
		there, news, err := r.now(ctx)
		if err != nil {
			return nil, err
		}
		// A server reads one ref after the other, and several may be moved together
		// meanwhile: until two looks agree it is not known that they belong together. Where a
		// look takes long, one has to do if there is nothing new.
		settled := len(there) < 2 || r.last != nil && maps.Equal(r.last, there)
		if r.last == nil && !news && r.srv.isFar() {
			settled = true
		}
		r.last = there
		if settled || try == tries {
			return r.commitsOnly(there)
		}
	}
}

// now learns where refs are, and what that is called here. News says that it was not known.
func (r *Remote) now(ctx context.Context) (there map[string]oid, news bool, err error) {
	const tries = 20
	for try := 1; ; try++ {
		c, a, err := r.converse(ctx, uploadPack)
		if err != nil {
			return nil, false, err
		}
		there = ours(a)
		news = len(r.unknown(there)) > 0
		err = r.learn(ctx, c, a, there)
		err = because(err, c.close())
		if !errors.Is(err, errMoved) || try == tries {
			return there, news, err
		}
	}
}

// commitsOnly is translate for refs all of which must be known.
func (r *Remote) commitsOnly(there map[string]oid) ([]refs.Ref, error) {
	all := r.translate(there)
	for _, ref := range all {
		row, ok := r.ids.ours(there[string(ref.Name)], kinds...)
		if ok && ref.Name.IsBranch() && row.as != commit && row.as != cutOff {
			return nil, fmt.Errorf("%s: %w", ref.Name, remote.ErrNotCommit)
		}
	}
	return all, nil
}

// converse begins a conversation, and reads what the server says first.
func (r *Remote) converse(ctx context.Context, s service) (conversation, *advert, error) {
	c, err := r.srv.open(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	a, err := readAdvert(c.advertised(), s)
	if err == nil {
		return c, a, nil
	}
	err = because(err, c.close())
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return nil, nil, err
}

// ours are the branches and tags of an advert that a repository can have.
func ours(a *advert) map[string]oid {
	there := map[string]oid{}
	for name, at := range a.refs {
		if n := refs.Name(name); (n.IsBranch() || n.IsTag()) && n.Check() == nil {
			there[name] = at
		}
	}
	return there
}

// translate returns refs as they are called here, but for those of which that is not known.
func (r *Remote) translate(there map[string]oid) []refs.Ref {
	var all []refs.Ref
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if row, ok := r.ids.ours(there[name], kinds...); ok {
			all = append(all, refs.Ref{Name: refs.Name(name), ID: row.id})
		}
	}
	return all
}

// unknown returns those objects that refs point to of which it is not known what they are
// called here.
func (r *Remote) unknown(there map[string]oid) []oid {
	var wants []oid
	for _, at := range there {
		if _, ok := r.ids.ours(at, kinds...); !ok && !slices.Contains(wants, at) {
			wants = append(wants, at)
		}
	}
	slices.SortFunc(wants, oid.compare)
	return wants
}

// learn finds out what the objects are called here that refs point to.
func (r *Remote) learn(ctx context.Context, c conversation, a *advert, there map[string]oid) error {
	wants := r.unknown(there)
	if len(wants) == 0 {
		return nil
	}
	haves, err := r.own(ctx)
	if err != nil {
		return err
	}
	if wants = r.unknown(there); len(wants) == 0 {
		return nil
	}
	err = r.bring(ctx, c, a, wants, haves)
	if !errors.Is(err, errLacks) || len(haves) == 0 {
		return err
	}
	// The map, or the repository, lacks something that they should have.
	r.o.Warn(fmt.Errorf("%w: all is fetched again", err))
	return r.all(ctx)
}

// all fetches all that the server has, as if nothing of it were known.
func (r *Remote) all(ctx context.Context) error {
	if r.fetched {
		return nil
	}
	if err := r.ids.drop(ctx); err != nil {
		return err
	}
	c, a, err := r.converse(ctx, uploadPack)
	if err != nil {
		return err
	}
	defer c.close()
	there := ours(a)
	if wants := r.unknown(there); len(wants) > 0 {
		if err := r.bring(ctx, c, a, wants, nil); err != nil {
			return err
		}
	}
	r.last, r.fetched = there, true
	return nil
}

// maxHaves is how many of its refs a repository tells the server about.
const maxHaves = 1000

// own computes what the objects are called there that the refs here point to, and returns
// those. A server need not send what they lead to.
func (r *Remote) own(ctx context.Context) ([]oid, error) {
	if r.o.Tips == nil || r.o.DB == nil {
		return nil, nil
	}
	tips, err := r.o.Tips(ctx)
	if err != nil {
		return nil, err
	}
	ctx = odb.Local(ctx)
	w := &outward{src: source{r.o.DB}, ids: r.ids}
	var haves []oid
	for _, id := range tips {
		at, err := w.any(ctx, id)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// History that was cut off here cannot be told by what it is called there, nor what
		// a lazy repository lacks.
		if err == nil && len(haves) < maxHaves && !slices.Contains(haves, at) {
			haves = append(haves, at)
		}
	}
	return haves, r.ids.flush(ctx)
}

// bring fetches what wants lead to and haves do not into the spool.
func (r *Remote) bring(ctx context.Context, c conversation, a *advert, wants, haves []oid) error {
	f, err := scratch(r.o.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fetch(ctx, c, a, wants, haves, f); err != nil {
		return fmt.Errorf("fetch: %w", because(err, c.close()))
	}
	p, err := openPack(f, r.o.Dir)
	if err != nil {
		return because(err, c.close())
	}
	w := &inward{in: p, ids: r.ids, src: r.src, db: r.spool, dir: r.o.Dir, all: len(haves) == 0}
	return w.run(ctx, wants)
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
