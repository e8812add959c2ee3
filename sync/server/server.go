// Package server serves a store to other machines: the native protocol of package
// wire over HTTP, with who may read and write which refs, and limits on what a
// request may cost.
//
// What it knows that no other package does: what strangers may ask of a store. It
// believes nobody. Who sends no credentials has the rights that anonymous ones
// were given, which are none unless somebody said so; and before more is read of
// a request than its head it is known who sends it and whether he may.
package server

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// A Store is what is served. It proves each object that Upload brings, and that
// all is there that a ref leads to before Update moves it: the server does not.
type Store interface {
	remote.Remote
	remote.PathFetcher
	remote.BaseProber
	remote.Cutter

	// The others are called only for those who may not read everything. To them
	// Fetch must send what was asked for and nothing that lies beside it.

	// Reach adds to seen all that tips lead to, objects and chunks of big blobs, but
	// for what is behind something that was in seen before. Visit, if it is not nil,
	// is called for each object that is new there, and an error of it ends the walk.
	Reach(ctx context.Context, tips []objects.ID, seen *reach.Set, visit func(objects.ID) error) error

	// Covers reports whether tips lead to all that old led to. It may say no where
	// they do.
	Covers(ctx context.Context, tips, old []objects.ID) (bool, error)
}

// A Register is a Store that other servers serve, too, any of which a client may ask next.
// For all of them it remembers for a while what was brought by those who may not read
// everything. A Store that is none has one server, which remembers that itself.
type Register interface {
	// UploadFor is Upload for such a client.
	UploadFor(ctx context.Context, client string, pack io.ReaderAt, size int64) error

	// Brought adds to ids what a client has brought lately. It may lack some.
	Brought(ctx context.Context, client string, ids *reach.Set) error
}

// Options say what is served to whom. But for Open the zero Options work.
type Options struct {
	// Open returns the store for one request.
	Open func() Store

	// Objects returns what Git clients are sent, for one request: what is in the store that
	// Open returns. Done lets go of it. Nil serves no Git clients.
	Objects func() (o GitObjects, done func())

	// Head returns the branch that Git checks out when it clones. Nil is none.
	Head func(context.Context) (refs.Name, error)

	// Tokens are those who may come in; nil for nobody.
	Tokens *auth.Tokens

	// Anonymous are the rights of all others, and everybody's.
	Anonymous auth.Rules

	// MaxUpload is how many bytes a pack may have. Zero is 1 GiB. What comes out of
	// it, decompressed, may be 16 times as much.
	MaxUpload int64

	// MaxRequests is how many requests are served at once, and how many of one
	// client. Zero is 64; of one client it is a quarter.
	MaxRequests int

	// Patience is how long a client may be silent where it should send or read
	// something. Zero is 30 s.
	Patience time.Duration

	// Work is how long the store may work for one request, beside sending what it
	// found. Zero is 15 min.
	Work time.Duration

	// Grace is how long requests may go on when the server is to stop. Zero is 30 s.
	Grace time.Duration

	// Spool is a directory for packs that are being received. They have no name
	// there. Empty is the system's directory for temporary files.
	Spool string

	// Healthy, if not nil, says what is wrong with the store where that is elsewhere. Who
	// balances load between servers is told.
	Healthy func(context.Context) error

	// Metrics, if not nil, returns more of them, in the text format of Prometheus.
	Metrics func() string

	// Log is told of each request. Nil drops that.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	o.MaxUpload = cmp.Or(o.MaxUpload, 1<<30)
	o.MaxRequests = cmp.Or(o.MaxRequests, 64)
	o.Patience = cmp.Or(o.Patience, 30*time.Second)
	o.Work = cmp.Or(o.Work, 15*time.Minute)
	o.Grace = cmp.Or(o.Grace, 30*time.Second)
	o.Spool = cmp.Or(o.Spool, os.TempDir())
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Server is an http.Handler. Serve runs it with the time-outs that it needs.
type Server struct {
	o       Options
	limits  *limits
	metrics metrics
	sights  sights
	owned   owned

	stopping atomic.Bool
}

// New returns a server that is not listening yet.
func New(o Options) *Server {
	o = o.withDefaults()
	return &Server{
		o:      o,
		limits: newLimits(o),
		sights: sights{walking: make(chan struct{}, 1)},
	}
}

// An operation is what a request may ask for.
type operation struct {
	name   string
	writes bool // it takes the right to write something, and not only to read
	do     func(*exchange, Store) error
}

func find(path string) (operation, bool) {
	for _, op := range []operation{
		{wire.Refs, false, (*exchange).refs},
		{wire.Missing, false, (*exchange).missing},
		{wire.Bases, false, (*exchange).bases},
		{wire.Fetch, false, (*exchange).fetch},
		{wire.Paths, false, (*exchange).paths},
		{wire.Upload, true, (*exchange).upload},
		{wire.Update, true, (*exchange).update},
		{wire.Uses, true, (*exchange).uses},
	} {
		if path == wire.Path(op.name) {
			return op, true
		}
	}
	return operation{}, false
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.begin(w, r)
	defer x.end()
	switch r.URL.Path {
	case "/healthz":
		x.op = "healthz"
		x.err = x.health()
	case "/metrics":
		x.op = "metrics"
		x.err = x.showMetrics()
	default:
		if strings.HasPrefix(r.URL.Path, gitPath) {
			x.err = x.git()
			return
		}
		x.err = x.serve()
	}
}

// serve does what the request asks for, if it may.
func (x *exchange) serve() error {
	op, ok := find(x.r.URL.Path)
	if !ok {
		return wire.Errorf(wire.NoOperation, "no such operation; this is a cache-tool server of protocol version 1")
	}
	x.op = op.name
	if x.r.Method != http.MethodPost {
		return wire.Errorf(wire.BadMethod, "%s is a POST", op.name)
	}
	if x.r.Header.Get("Content-Type") != wire.ContentType || x.r.Header.Get("Content-Encoding") != "" {
		return wire.Errorf(wire.BadType, "the body is to be %s, as it is", wire.ContentType)
	}
	if err := x.identify(); err != nil {
		return err
	}
	if err := x.mayEnter(op.writes); err != nil {
		return err
	}
	leave, err := x.s.limits.enter(x.r.Context(), x.who.key)
	if err != nil {
		return err
	}
	defer leave()
	return op.do(x, x.s.o.Open())
}

// healthTime is how long what is behind the server may take to say that it is there.
const healthTime = 5 * time.Second

// health says whether it makes sense to send requests here.
func (x *exchange) health() error {
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return wire.Errorf(wire.BadMethod, "GET")
	}
	if x.s.stopping.Load() {
		return wire.Errorf(wire.Busy, "the server is being stopped")
	}
	if check := x.s.o.Healthy; check != nil {
		ctx, cancel := context.WithTimeout(x.r.Context(), healthTime)
		defer cancel()
		if err := check(ctx); err != nil {
			x.s.o.Log.Warn("the store is not well", "err", err)
			return wire.Errorf(wire.Busy, "what is behind this server does not answer")
		}
	}
	return x.text("ok\n")
}
