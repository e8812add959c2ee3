package commands

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/gc"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/server"
)

// defaultListen is where serve listens: only this machine can get there.
const defaultListen = "127.0.0.1:7380"

// A serving is what the flags of serve say.
type serving struct {
	listen                        string
	insecure                      bool
	tlsCert, tlsKey, clientCA     string
	anonymousRead, anonymousWrite cli.StringSlice
	maxUpload                     string
	maxRequests                   int
	store, cacheSize              string
}

func serveCommand(s *session) *cli.Command {
	v := new(serving)
	return &cli.Command{
		Name:     "serve",
		Category: categoryRemote,
		Usage:    "serve the repository to other machines",
		Description: text(`
Others push to it and pull from it at http://HOST:PORT, or https:// with --tls-cert.
Who may do what is said by tokens, which "cache-tool token create" makes; without one
nobody reads or writes anything, unless --anonymous-read or --anonymous-write let
everybody. Git reads it, too: "git clone http://HOST:PORT/git/NAME". It proves all that
it is sent before a branch moves. /healthz says whether it is up, /metrics is for
Prometheus. It logs to standard error, as JSON with --json. SIGTERM lets requests that
are running end, for half a minute.

With --store it serves what is in a bucket, and keeps nothing itself but a cache: any
number of such servers may stand behind one address. Settings and tokens are those of
the repository.`, `
cache-tool serve --listen :7380 --tls-cert host.crt --tls-key host.key
cache-tool serve --store s3://caches/team`),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "listen on `HOST:PORT`; port 0 is any that is free (" + defaultListen + ")", Destination: &v.listen},
			&cli.StringFlag{Name: "tls-cert", Usage: "encrypt with the certificate in `FILE` (PEM); it is read again when it changes", Destination: &v.tlsCert},
			&cli.StringFlag{Name: "tls-key", Usage: "its key is in `FILE`", Destination: &v.tlsKey},
			&cli.StringFlag{Name: "client-ca", Usage: "let clients in by certificates that an authority in `FILE` has signed; see token create --cert", Destination: &v.clientCA},
			boolFlag(&v.insecure, "listen unencrypted on more than this machine: something else encrypts, such as a proxy", "insecure"),
			&cli.StringSliceFlag{Name: "anonymous-read", Usage: "everybody may read the branches that `GLOB` matches; tag:GLOB is tags, * everything; may be repeated", Destination: &v.anonymousRead},
			&cli.StringSliceFlag{Name: "anonymous-write", Usage: "everybody may make, move and delete the branches that `GLOB` matches, too", Destination: &v.anonymousWrite},
			&cli.StringFlag{Name: "max-upload", Usage: "refuse packs of more than `SIZE`, such as 500MB (1G)", Destination: &v.maxUpload},
			&cli.StringFlag{Name: "store", Usage: "serve the bucket `URL`, or the one of the remote with this name", Destination: &v.store},
			&cli.StringFlag{Name: "cache-size", Usage: "with --store: keep up to `SIZE` of it here (10G)", Destination: &v.cacheSize},
			&cli.IntFlag{Name: "max-requests", Usage: "serve at most `N` requests at once, and a quarter of them to one client", Value: 64, Destination: &v.maxRequests},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			return s.serve(c.Context, v)
		},
	}
}

// serverMemory is what a server stays within where it can. Other commands come by
// with less, but nothing waits while this one collects garbage. It does so when the
// heap has grown by serverGarbage percent, which soon come together: blocks are big.
const (
	serverMemory  = 1 << 30
	serverGarbage = 25
)

func (s *session) serve(ctx context.Context, v *serving) error {
	o, config, err := v.options()
	if err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(serverMemory)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(serverGarbage)
	}
	l, err := v.listener(config)
	if err != nil {
		return err
	}
	defer l.Close()
	o.Log = s.logger()
	r, err := s.openToServe(ctx, o.Log)
	if err != nil {
		return err
	}
	o.Open, o.Tokens, o.Spool = openStore(r), tokensOf(r), r.Dir
	serves := r.Dir
	if v.store != "" {
		if serves, err = s.serveBucket(ctx, r, v, &o); err != nil {
			return err
		}
	} else {
		o.Objects = func() (server.GitObjects, func()) { return r.DB, func() {} }
	}
	o.Head = r.Refs.Head
	if err := warnIfClosed(o); err != nil {
		return err
	}
	url := urlOf(l.Addr(), config)
	if s.json {
		err = s.answer(map[string]string{"url": url, "repository": serves})
	} else {
		s.say("serving %s at %s", shown(serves), url)
	}
	if err == nil {
		err = s.out.Flush()
	}
	if err != nil {
		return err
	}
	return server.New(o).Serve(ctx, l, config)
}

// openToServe opens the repository, which is made at first use. What is wrong with
// it goes to the log.
func (s *session) openToServe(ctx context.Context, log *slog.Logger) (*repo.Repo, error) {
	dir, err := repo.Find(s.repoFlag)
	if err != nil {
		return nil, err
	}
	r, err := repo.OpenOrInit(ctx, dir, repo.Options{Warn: func(err error) { log.Warn("repository", "err", err) }})
	if err == nil {
		s.closers = append(s.closers, r.Close)
	}
	return r, err
}

// openStore returns how the server opens what it serves. One store is enough for
// all: it goes through the repository's own locks.
func openStore(r *repo.Repo) func() server.Store {
	p := peer.New(r.DB, r.Refs, r)
	return func() server.Store { return p }
}

// tokensOf returns the tokens of a repository.
func tokensOf(r *repo.Repo) *auth.Tokens { return auth.OpenTokens(filepath.Join(r.Dir, "tokens")) }

// options checks the flags.
func (v *serving) options() (o server.Options, config *tls.Config, err error) {
	o.Anonymous = auth.Rules{Read: v.anonymousRead.Value(), Write: v.anonymousWrite.Value()}
	if err := checkRules(o.Anonymous); err != nil {
		return o, nil, err
	}
	if o.MaxUpload, err = gc.ParseSize(cmp.Or(v.maxUpload, "1G")); err != nil || o.MaxUpload <= 1 {
		return o, nil, usagef("--max-upload %s: %v", shown(v.maxUpload), cmp.Or(err, errors.New("want a number of bytes")))
	}
	if o.MaxRequests = v.maxRequests; v.maxRequests < 1 {
		return o, nil, usagef("--max-requests %d: want at least 1", v.maxRequests)
	}
	if v.store == "" && v.cacheSize != "" {
		return o, nil, usagef("--cache-size goes with --store")
	}
	switch {
	case (v.tlsCert == "") != (v.tlsKey == ""):
		return o, nil, usagef("--tls-cert and --tls-key belong together")
	case v.tlsCert == "" && v.clientCA != "":
		return o, nil, usagef("--client-ca needs --tls-cert and --tls-key")
	case v.tlsCert != "":
		config, err = server.TLSConfig(v.tlsCert, v.tlsKey, v.clientCA)
	}
	return o, config, err
}

// checkRules refuses what is no rule.
func checkRules(r auth.Rules) error {
	for _, rule := range slices.Concat(r.Read, r.Write) {
		if err := auth.CheckRule(rule); err != nil {
			return &usageError{text: err.Error()}
		}
	}
	return nil
}

// listener listens, but in the clear only where nobody can listen in.
func (v *serving) listener(config *tls.Config) (net.Listener, error) {
	at := cmp.Or(v.listen, defaultListen)
	l, err := net.Listen("tcp", at)
	switch {
	case errors.As(err, new(*net.AddrError)), errors.As(err, new(*net.ParseError)):
		return nil, &usageError{fmt.Sprintf("--listen %s: want HOST:PORT", shown(at)), []string{"such as 127.0.0.1:7380; or :7380 for all addresses of this machine"}}
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, withHint(err, "another program listens there, maybe another cache-tool; --listen HOST:0 takes a port that is free")
	case err != nil:
		return nil, err
	}
	if ip := l.Addr().(*net.TCPAddr).IP; config == nil && !v.insecure && !ip.IsLoopback() {
		l.Close()
		return nil, &usageError{
			fmt.Sprintf("listening on %s unencrypted lets others on the network read tokens and change what is sent", shown(at)),
			[]string{"--tls-cert and --tls-key encrypt", "--insecure says that something else does, such as a proxy in front of it"},
		}
	}
	return l, nil
}

// urlOf is where clients find the server. One that listens on all addresses is
// called by the machine's name.
func urlOf(addr net.Addr, config *tls.Config) string {
	a := addr.(*net.TCPAddr)
	host := a.IP.String()
	if a.IP.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	scheme := "http"
	if config != nil {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(a.Port))
}

// warnIfClosed says so if nobody can read or write anything yet.
func warnIfClosed(o server.Options) error {
	tokens, err := o.Tokens.List()
	if err == nil && len(tokens) == 0 && o.Anonymous.IsZero() {
		o.Log.Warn(`nobody may read or write anything: "cache-tool token create" makes tokens, also while this runs`)
	}
	return err
}

// logger writes to standard error: lines for people, or JSON.
func (s *session) logger() *slog.Logger {
	level := slog.LevelInfo
	switch {
	case s.quiet:
		level = slog.LevelWarn
	case s.verbose:
		level = slog.LevelDebug
	}
	o := &slog.HandlerOptions{Level: level}
	if s.json {
		return slog.New(slog.NewJSONHandler(s.err, o))
	}
	return slog.New(slog.NewTextHandler(s.err, o))
}
