// Package webdav keeps a bucket on any WebDAV server.
//
//	packs/, indexes/, roots/   the files, immutable
//	root/<seq>-<hash>-<nonce>  one file, whose name says what the root is
//	tmp-…                      pending, in any of these collections
//
// What servers agree on is little. Conditions, locks and "Overwrite: F" fail on
// one or another of them when clients race, and some show a file while it is
// still being put. What holds on all is that of many who MOVE one file away one
// wins, and that a collection with something in it is not replaced by another:
// so the root is replaced as package dir does it, and files are put under
// another name and then moved. The nonce tells who won when a reply got lost.
package webdav

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

// Options of a bucket. The zero Options work.
type Options struct {
	// Credentials for the server. If they are zero, those in the URL count, or
	// else what ~/.netrc says.
	Credentials auth.Credentials

	// Unencrypted lets passwords and tokens go over plain HTTP to other machines.
	Unencrypted bool

	// TLS, if not nil, has client certificates, or which authorities to trust.
	TLS *tls.Config

	// Patience is how long a server may be silent. Zero is a minute.
	Patience time.Duration

	// Tries is how often a request is sent, at most, as long as all of them together
	// have not taken twice Patience. Zero is 5.
	Tries int

	// Pause is how long to wait, on average, before a request is sent a second
	// time; then longer. Zero is 200 ms.
	Pause time.Duration

	// Wrap, if not nil, makes a faulty network of a good one, for tests.
	Wrap func(http.RoundTripper) http.RoundTripper
}

func (o Options) bounds() attempt.Options {
	return attempt.Options{Patience: o.Patience, Tries: o.Tries, Pause: o.Pause}
}

// A Bucket is a remote.Bucket on a WebDAV server.
type Bucket struct {
	base *url.URL // ends in a slash, without credentials
	http *http.Client
	o    Options

	behindProxy atomic.Bool // which encrypts, and the server does not know

	mu   sync.Mutex
	made map[string]bool // guarded by mu; collections that are there
}

// rootDir is where the file is whose name says what the root is.
const rootDir = "root"

// rootText is in that file, for people.
const rootText = "The name of this file says which of the files in roots is the current one.\n"

// Open returns the bucket at a URL of http or https, which need not exist yet;
// "dav+" in front is let pass. It does not connect. Credentials in the URL are
// used, and appear in no error.
func Open(rawURL string, o Options) (*Bucket, error) {
	u, err := url.Parse(strings.TrimPrefix(rawURL, "dav+"))
	if err != nil {
		// The error of the standard library has the URL in it, and that a password.
		return nil, errors.New("webdav: malformed URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("webdav: %s: not a URL of http or https, without query", u.Redacted())
	}
	user := u.User
	u.User = nil
	if !strings.HasSuffix(u.Path, "/") {
		u = u.JoinPath("/")
	}
	if o.Credentials.IsZero() {
		if o.Credentials, err = credentials(u, user); err != nil {
			return nil, fmt.Errorf("webdav: %s: %w", u, err)
		}
	}
	bounds := o.bounds().OrDefault()
	o.Patience, o.Tries, o.Pause = bounds.Patience, bounds.Tries, bounds.Pause
	return &Bucket{base: u, http: client(u, o), o: o, made: map[string]bool{}}, nil
}

// credentials are those in the URL, completed by what ~/.netrc says.
func credentials(u *url.URL, user *url.Userinfo) (auth.Credentials, error) {
	if password, ok := user.Password(); ok {
		return auth.Credentials{User: user.Username(), Password: password}, nil
	}
	return auth.Netrc(u.Hostname(), user.Username())
}

func client(u *url.URL, o Options) *http.Client {
	var rt http.RoundTripper = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: min(o.Patience, 15*time.Second), KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   min(o.Patience, 15*time.Second),
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSClientConfig:       o.TLS,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // what is stored is to come, byte for byte
	}
	if o.Wrap != nil {
		rt = o.Wrap(rt)
	}
	return &http.Client{
		Transport: &auth.Transport{Base: rt, Host: u.Host, Credentials: o.Credentials, Unencrypted: o.Unencrypted},
		// Nobody knows what a MOVE would do elsewhere, or who that is.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// at returns the URL of a file, or of a collection if name ends in a slash.
func (b *Bucket) at(name string) string {
	u := *b.base
	u.Path += name // names need no escaping: see remote.CheckName
	if u.RawPath != "" {
		u.RawPath += name
	}
	return u.String()
}

// Get opens n bytes of a file.
func (b *Bucket) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return nil, err
	}
	if n == 0 {
		return http.NoBody, nil
	}
	req := request{method: "GET", url: b.at(name), header: attempt.Range(off, n)}
	for try := 1; ; try++ {
		resp, err := b.send(ctx, req)
		if code(err) == http.StatusRequestedRangeNotSatisfiable {
			return remote.Exactly(http.NoBody, n), nil
		}
		if err != nil {
			return nil, err
		}
		body, err := attempt.Ranged(resp, req.url, off, n)
		if err != nil {
			return nil, err
		}
		// If a file is put again between rclone's look and its open, nothing comes.
		begun := bufio.NewReader(body)
		if _, err := begun.Peek(1); !errors.Is(err, io.ErrUnexpectedEOF) || try == 3 {
			return struct {
				io.Reader
				io.Closer
			}{begun, body}, nil
		}
		body.Close()
	}
}

// List yields the files in a directory.
func (b *Bucket) List(ctx context.Context, dir string) iter.Seq2[remote.Info, error] {
	return func(yield func(remote.Info, error) bool) {
		err := errors.Join(ctx.Err(), remote.CheckDir(dir))
		var all []remote.Info
		if err == nil {
			all, err = b.propfind(ctx, dir+"/")
		}
		if err != nil && !errors.Is(err, remote.ErrNotFound) {
			yield(remote.Info{}, err)
			return
		}
		for _, info := range all {
			if !remote.IsBase(info.Name) {
				continue
			}
			info.Name = dir + "/" + info.Name
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Delete removes a file.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return err
	}
	return b.remove(ctx, name)
}

func (b *Bucket) remove(ctx context.Context, name string) error {
	err := b.do(ctx, request{method: "DELETE", url: b.at(name)})
	if errors.Is(err, remote.ErrNotFound) {
		return nil
	}
	return err
}

// Tidy removes files that were never put whole, as somebody left them who was killed. The
// age is by this machine's clock.
func (b *Bucket) Tidy(ctx context.Context, age time.Duration) error {
	for _, dir := range remote.Dirs {
		all, err := b.propfind(ctx, dir+"/")
		if err != nil && !errors.Is(err, remote.ErrNotFound) {
			return err
		}
		for _, info := range all {
			isPending := strings.HasPrefix(info.Name, remote.Pending)
			if !isPending || info.Time.IsZero() || time.Since(info.Time) < age {
				continue
			}
			if err := b.remove(ctx, dir+"/"+info.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// tidy removes what a failed attempt may have left, without being in the way.
func (b *Bucket) tidy(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(b.o.Patience, 5*time.Second))
	defer cancel()
	resp, err := b.once(ctx, request{method: "DELETE", url: b.at(name)})
	if err == nil {
		resp.Body.Close()
	}
}

// pending returns a name that nobody looks for.
func pending() string { return fmt.Sprintf("%s%016x", remote.Pending, rand.Uint64()) }

// Put keeps a file: it is sent under another name, and then moved.
func (b *Bucket) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return err
	}
	dir := path.Dir(name) + "/"
	tmp := dir + pending()
	for a := b.attempts(); ; {
		err := b.upload(ctx, tmp, dir, body, size)
		if err == nil {
			err = b.move(ctx, tmp, name, "T")
		}
		if err == nil {
			return nil
		}
		// A reply to MOVE may have got lost, and what is there is what we put:
		// its name says so.
		if !errors.Is(err, remote.ErrDenied) && b.holds(ctx, name, size) {
			return nil
		}
		if !transient(err) && !errors.Is(err, remote.ErrNotFound) {
			b.tidy(ctx, tmp)
			return err
		}
		if err := rest(ctx, a, err); err != nil {
			b.tidy(ctx, tmp)
			return err
		}
	}
}

// upload sends a file. Servers say in different ways that the collection is not
// there; so it is made after the first error of whatever kind.
func (b *Bucket) upload(ctx context.Context, name, dir string, body io.ReaderAt, size int64) error {
	req := request{method: "PUT", url: b.at(name), body: body, size: size}
	may := b.mayMake(dir)
	err := b.doOnce(ctx, req)
	if err == nil || errors.Is(err, remote.ErrDenied) || ctx.Err() != nil || !may {
		return err
	}
	if b.mayMake(dir) { // else somebody else has made it meanwhile
		if made := b.mkcol(ctx, dir); made != nil {
			return fmt.Errorf("%w (after %w)", made, err)
		}
		b.isMade(dir)
	}
	return b.doOnce(ctx, req)
}

func (b *Bucket) mayMake(dir string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.made[dir]
}

func (b *Bucket) isMade(dir string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.made[dir] = true
}

// mkcol makes a collection, and those above as far as they are not there.
func (b *Bucket) mkcol(ctx context.Context, dir string) error {
	u, err := url.Parse(b.at(dir))
	if err != nil {
		return err
	}
	return b.mkcolAt(ctx, u)
}

func (b *Bucket) mkcolAt(ctx context.Context, u *url.URL) error {
	make := request{method: "MKCOL", url: u.String()}
	err := b.do(ctx, make)
	if c := code(err); c == http.StatusConflict || c == http.StatusNotFound {
		above := u.JoinPath("../")
		if above.Path == u.Path {
			return err
		}
		if err := b.mkcolAt(ctx, above); err != nil {
			return err
		}
		err = b.do(ctx, make)
	}
	// That it is there already is 405; but Apache says 403 if it has only just
	// been made, and some want to send us elsewhere.
	if code(err) == http.StatusMethodNotAllowed || code(err) != 0 && b.isThere(ctx, u) {
		return nil
	}
	return err
}

// isThere reports whether there is a collection.
func (b *Bucket) isThere(ctx context.Context, u *url.URL) bool {
	return b.doOnce(ctx, propfind(u.String(), "0")) == nil
}

// move gives a file or collection another name, once.
func (b *Bucket) move(ctx context.Context, from, to, overwrite string) error {
	move := func(to string) error {
		return b.doOnce(ctx, request{method: "MOVE", url: b.at(from), header: map[string]string{
			"Destination": to, // a path alone is not enough for Apache
			"Overwrite":   overwrite,
		}})
	}
	// A server behind a proxy that encrypts does not know that it is called https.
	plain := strings.Replace(b.at(to), "https:", "http:", 1)
	if b.behindProxy.Load() {
		return move(plain)
	}
	err := move(b.at(to))
	if c := code(err); b.base.Scheme == "https" && (c == http.StatusBadGateway || c == http.StatusBadRequest) && move(plain) == nil {
		b.behindProxy.Store(true)
		return nil
	}
	return err
}

// holds reports whether a file is there and has size bytes.
func (b *Bucket) holds(ctx context.Context, name string, size int64) bool {
	resp, err := b.once(ctx, request{method: "HEAD", url: b.at(name)})
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.ContentLength == size
}
