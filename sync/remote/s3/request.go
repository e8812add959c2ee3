package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

// A request can be sent again.
type request struct {
	method string
	key    string // below the prefix
	query  url.Values
	header map[string]string
	body   io.ReaderAt
	size   int64

	wholeBucket bool   // it is about the bucket, and not about a key
	sum         string // of the body, once it is known
}

// send sends a request until it is answered, and not with an error that passes.
func (b *Bucket) send(ctx context.Context, req request) (*http.Response, error) {
	for a := attempt.Begin(b.bounds); ; {
		resp, err := b.once(ctx, &req)
		if err == nil || ctx.Err() != nil {
			return resp, err
		}
		if a.Failed == 0 && b.learn(err) {
			a.Failed++
			continue
		}
		if !transient(err) {
			return nil, err
		}
		if err := b.rest(ctx, a, err); err != nil {
			return nil, err
		}
	}
}

// rest waits before another attempt, as long as the store says.
func (b *Bucket) rest(ctx context.Context, a *attempt.Attempts, cause error) error {
	var status *StatusError
	if !errors.As(cause, &status) {
		return a.Rest(ctx, cause, 0)
	}
	wait := status.Wait
	if status.throttles() {
		wait = max(wait, 5*b.bounds.Pause)
	}
	return a.Rest(ctx, cause, wait)
}

// do is send for those who look at no body.
func (b *Bucket) do(ctx context.Context, req request) error {
	resp, err := b.send(ctx, req)
	if err == nil {
		attempt.Drop(resp.Body)
	}
	return err
}

// ask is send for those who want the whole answer, of at most so many bytes. One that
// breaks off, or makes no sense, is asked for again.
func (b *Bucket) ask(ctx context.Context, req request, most int64, parse func(header http.Header, body []byte) error) error {
	for a := attempt.Begin(b.bounds); ; {
		resp, err := b.send(ctx, req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, most))
		resp.Body.Close()
		if err == nil {
			err = parse(resp.Header, body)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		err = fmt.Errorf("%s s3://%s/%s%s: %w", req.method, b.where().bucket, b.where().prefix, req.key, err)
		if err := a.Rest(ctx, err, 0); err != nil {
			return err
		}
	}
}

// learn takes from an error where the bucket is, or that a key is not good any more,
// and reports whether there is sense in trying again at once.
func (b *Bucket) learn(err error) bool {
	var status *StatusError
	if !errors.As(err, &status) {
		return false
	}
	if status.Reason == "ExpiredToken" || status.Reason == "ExpiredTokenException" {
		b.credentials.Expire()
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !errors.Is(err, ErrRegion) || status.Region == "" || b.place.sure || status.Region == b.place.region {
		return false
	}
	b.place.region = status.Region
	return true
}

func (b *Bucket) where() place {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.place
}

// bigBody is from where on a server is asked before it is sent all of it.
const bigBody = 1 << 20

// once sends a request, and makes an error of an answer that does not say it is done.
func (b *Bucket) once(ctx context.Context, r *request) (*http.Response, error) {
	p := b.where()
	key := p.prefix + r.key
	if r.wholeBucket {
		key = ""
	}
	failed := func(err error) error {
		at := p.base()
		return fmt.Errorf("%s s3://%s/%s at %s: %w", r.method, p.bucket, key, at.Host, err)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, p.url(key, r.query).String(), nil)
	if err != nil {
		return nil, err
	}
	if req.URL.Scheme == "http" && !p.isLocal() && !b.o.Unencrypted {
		return nil, failed(auth.ErrUnencrypted)
	}
	if req, err = b.sign(req, r, p.region); err != nil {
		return nil, failed(err)
	}
	resp, err := attempt.Do(b.http, req, r.body, r.size, b.bounds.Patience)
	if err != nil {
		return nil, failed(err)
	}
	if !hoped(r.method, resp) {
		return nil, failed(statusError(resp, p.region))
	}
	return resp, nil
}

// sign adds who we are, and a hash of the body: what was changed on its way is
// refused.
func (b *Bucket) sign(req *http.Request, r *request, region string) (*http.Request, error) {
	key, err := b.credentials.GetWithContext(&credentials.CredContext{Context: req.Context()})
	if err != nil {
		return nil, err
	}
	if r.sum == "" {
		h := sha256.New()
		if r.size > 0 {
			if _, err := io.Copy(h, io.NewSectionReader(r.body, 0, r.size)); err != nil {
				return nil, err
			}
		}
		r.sum = hex.EncodeToString(h.Sum(nil))
	}
	req.Header.Set("User-Agent", "cache-tool")
	req.Header.Set("X-Amz-Content-Sha256", r.sum)
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	req = signer.SignV4(*req, key.AccessKeyID, key.SecretAccessKey, key.SessionToken, region)
	if r.size > bigBody {
		req.Header.Set("Expect", "100-continue") // of which proxies make what they want: it is not signed
	}
	return req, nil
}

// hoped reports whether an answer says that what was asked for is done. Something
// that stands in the store's place, such as a page to log in, says 200 to all; a
// store says which version it has kept.
func hoped(method string, resp *http.Response) bool {
	switch c := resp.StatusCode; method {
	case "PUT":
		return c == http.StatusOK && resp.Header.Get("ETag") != ""
	case "DELETE":
		return c == http.StatusNoContent || c == http.StatusOK
	default:
		return c == http.StatusOK || c == http.StatusPartialContent
	}
}

// statusOf returns the code of an answer, 0 if err is none.
func statusOf(err error) int {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

// transient reports whether there is sense in trying again.
func transient(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.passes()
	}
	final := errors.Is(err, auth.ErrUnencrypted) || errors.Is(err, ErrNoCredentials) || errors.Is(err, remote.ErrUnreachable)
	return !final && !attempt.IsTLS(err)
}
