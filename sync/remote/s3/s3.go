// Package s3 keeps a bucket, in the sense of package remote, in a bucket of an
// object store that speaks the protocol of Amazon S3.
//
//	PREFIX/packs/, PREFIX/indexes/, …   the files, immutable
//	PREFIX/root                         an object that says what the root is
//	PREFIX/tmp-…                        left over from a look at what the store can do
//
// The root is replaced by a PUT of one object under a condition: that it still has
// the ETag with which it was read, or that there is none. Of many who try one wins,
// on stores that keep to conditions; others are found out by Probe, and refused.
// What a root says has a nonce in it, so no two of them share an ETag, and who lost
// a reply finds out whether it was his. Nothing else needs a condition: a file gets
// its name only when all of it is there, and always the same bytes.
package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

// Options of a bucket. The zero Options work: what is empty is what the environment
// and the files in ~/.aws say, as for other programs.
type Options struct {
	// Endpoint is the URL of the store; if nothing says one, it is Amazon's.
	Endpoint string

	// Region is where the bucket is. If nothing says one, the store is asked.
	Region string

	// Profile is the one to take from the files in ~/.aws.
	Profile string

	// PathStyle says where in a URL the bucket is.
	PathStyle Style

	// Unencrypted lets all go over plain HTTP to other machines.
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

	// PartSize is the size from which on a file is sent in parts. Zero is 64 MiB,
	// which packs do not exceed.
	PartSize int64

	// Wrap, if not nil, makes a faulty network of a good one, for tests.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Style says where in a URL the bucket is.
type Style uint8

// The styles.
const (
	AutoStyle    Style = iota // as is usual for the endpoint
	PathStyle                 // https://HOST/BUCKET/KEY
	VirtualStyle              // https://BUCKET.HOST/KEY
)

// A Bucket is a remote.Bucket in an object store.
type Bucket struct {
	http        *http.Client
	credentials *credentials.Credentials
	o           Options
	bounds      attempt.Options

	mu    sync.Mutex
	place place   // guarded by mu; its region may have to be learned
	last  version // guarded by mu; of the root
}

const defaultPartSize = 64 << 20

// Open returns the bucket at a URL s3://BUCKET/PREFIX. It does not connect, and
// nothing need be there but the object store's own bucket.
func Open(rawURL string, o Options) (*Bucket, error) {
	conf, err := readProfile(o.Profile)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	p, err := findPlace(rawURL, o, conf)
	if err != nil {
		return nil, err
	}
	if o.PartSize == 0 {
		o.PartSize = defaultPartSize
	}
	bounds := attempt.Options{Patience: o.Patience, Tries: o.Tries, Pause: o.Pause}.OrDefault()
	return &Bucket{http: client(o, bounds), credentials: findCredentials(o.Profile), o: o, bounds: bounds, place: p}, nil
}

func client(o Options, bounds attempt.Options) *http.Client {
	var rt http.RoundTripper = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: min(bounds.Patience, 15*time.Second), KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   min(bounds.Patience, 15*time.Second),
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
		Transport: rt,
		// A signature is for one host, and nobody knows who the other is.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Get opens n bytes of a file.
func (b *Bucket) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return nil, err
	}
	if n == 0 {
		return http.NoBody, nil
	}
	req := request{method: "GET", key: name, header: attempt.Range(off, n)}
	resp, err := b.send(ctx, req)
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		return remote.Exactly(http.NoBody, n), nil
	}
	if err != nil {
		return nil, err
	}
	return attempt.Ranged(resp, name, off, n)
}

// Put keeps a file. Nobody sees it before the store has all of it, whose hash is
// a part of what is signed.
func (b *Bucket) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return err
	}
	if size > b.o.PartSize {
		return b.putParts(ctx, name, body, size)
	}
	return b.do(ctx, request{method: "PUT", key: name, body: body, size: size})
}

// Delete removes a file.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), remote.CheckName(name)); err != nil {
		return err
	}
	return b.remove(ctx, name)
}

func (b *Bucket) remove(ctx context.Context, key string) error {
	err := b.do(ctx, request{method: "DELETE", key: key})
	if errors.Is(err, remote.ErrNotFound) {
		return nil
	}
	return err
}

// List yields the files in a directory.
func (b *Bucket) List(ctx context.Context, dir string) iter.Seq2[remote.Info, error] {
	return func(yield func(remote.Info, error) bool) {
		if err := errors.Join(ctx.Err(), remote.CheckDir(dir)); err != nil {
			yield(remote.Info{}, err)
			return
		}
		for info, err := range b.keys(ctx, dir+"/") {
			if err != nil {
				yield(info, err)
				return
			}
			if remote.IsBase(strings.TrimPrefix(info.Name, dir+"/")) && !yield(info, nil) {
				return
			}
		}
	}
}
