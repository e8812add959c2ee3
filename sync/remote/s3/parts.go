package s3

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

const (
	goodPart = 16 << 20 // smaller ones are not worth a request
	minPart  = 5 << 20  // stores refuse smaller ones, but for the last
	maxParts = 9000     // a thousand less than stores take
	parallel = 4        // parts on their way at a time
)

// A part is one of those of which a file is put together.
type part struct {
	PartNumber int
	ETag       string
}

// putParts keeps a file that is sent in parts. It is not there until the last step;
// what was sent before that is dropped if something fails, or by Tidy if nobody can.
func (b *Bucket) putParts(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	id, err := b.beginParts(ctx, name)
	if err != nil {
		return err
	}
	parts, err := b.sendParts(ctx, name, id, body, size)
	if err == nil {
		err = b.joinParts(ctx, name, id, parts, size)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(b.bounds.Patience, 5*time.Second))
		defer cancel()
		_ = b.abort(ctx, name, id)
	}
	return err
}

func (b *Bucket) beginParts(ctx context.Context, name string) (id string, err error) {
	req := request{method: "POST", key: name, query: url.Values{"uploads": {""}}}
	err = b.ask(ctx, req, maxError, func(_ http.Header, body []byte) error {
		var begun struct {
			XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
			UploadID string   `xml:"UploadId"`
		}
		if xml.Unmarshal(body, &begun) != nil || begun.UploadID == "" {
			return fmt.Errorf("%w: it names no upload", ErrNoStore)
		}
		id = begun.UploadID
		return nil
	})
	return id, err
}

func (b *Bucket) sendParts(ctx context.Context, name, id string, body io.ReaderAt, size int64) ([]part, error) {
	step := max(min(goodPart, b.o.PartSize), minPart, (size+maxParts-1)/maxParts)
	parts := make([]part, (size+step-1)/step)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := range parts {
		g.Go(func() error {
			off := int64(i) * step
			n := min(step, size-off)
			resp, err := b.send(ctx, request{
				method: "PUT", key: name, body: io.NewSectionReader(body, off, n), size: n,
				query: url.Values{"partNumber": {strconv.Itoa(i + 1)}, "uploadId": {id}},
			})
			if err != nil {
				return err
			}
			parts[i] = part{i + 1, resp.Header.Get("ETag")}
			attempt.Drop(resp.Body)
			return nil
		})
	}
	return parts, g.Wait()
}

// joinParts makes a file of parts. The store may find out that it can't after it has
// said 200; and who lost the reply hears later that there is no such upload.
func (b *Bucket) joinParts(ctx context.Context, name, id string, parts []part, size int64) error {
	list, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []part
	}{Part: parts})
	if err != nil {
		return err
	}
	req := request{method: "POST", key: name, query: url.Values{"uploadId": {id}}, body: bytes.NewReader(list), size: int64(len(list))}
	for a := attempt.Begin(b.bounds); ; {
		err := b.joinOnce(ctx, &req)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if b.holds(ctx, name, size) {
			return nil
		}
		if !transient(err) {
			return err
		}
		if err := b.rest(ctx, a, err); err != nil {
			return err
		}
	}
}

func (b *Bucket) joinOnce(ctx context.Context, req *request) error {
	resp, err := b.once(ctx, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil {
		return err
	}
	var joined struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
	}
	if xml.Unmarshal(text, &joined) == nil {
		return nil
	}
	failed := parseError(text)
	if failed.Code = http.StatusInternalServerError; failed.Reason == "" {
		failed.Code, failed.Reason = http.StatusOK, "an answer that is none"
	}
	return fmt.Errorf("put %s: %w", req.key, failed)
}

// holds reports whether a file is there and has size bytes.
func (b *Bucket) holds(ctx context.Context, name string, size int64) bool {
	resp, err := b.once(ctx, &request{method: "HEAD", key: name})
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.ContentLength == size
}

func (b *Bucket) abort(ctx context.Context, name, id string) error {
	err := b.do(ctx, request{method: "DELETE", key: name, query: url.Values{"uploadId": {id}}})
	var status *StatusError
	if errors.As(err, &status) && status.Reason == "NoSuchUpload" {
		return nil
	}
	return err
}

// Tidy drops what somebody left who was killed, if it is older than age by the clock
// of the store: parts of files that were never put together, which cost money and
// are in no listing, and objects of Probe.
func (b *Bucket) Tidy(ctx context.Context, age time.Duration) error {
	prefix := b.where().prefix
	query := url.Values{"uploads": {""}} // MinIO takes a prefix for a whole name
	now := time.Now()
	for {
		page, err := b.list(ctx, query)
		if statusOf(err) == http.StatusNotImplemented {
			break // then there are no parts either
		}
		if err != nil {
			return err
		}
		now = page.now
		for _, u := range page.Upload {
			key, ours := strings.CutPrefix(u.Key, prefix)
			if !ours || remote.CheckName(key) != nil || now.Sub(u.Initiated) < age {
				continue // somebody else's, or at work
			}
			if err := b.abort(ctx, key, u.UploadID); err != nil {
				return err
			}
		}
		if !page.IsTruncated || page.NextKeyMarker == "" {
			break
		}
		query.Set("key-marker", page.NextKeyMarker)
		query.Set("upload-id-marker", page.NextUploadIDMarker)
	}
	for info, err := range b.keys(ctx, remote.Pending) {
		if err != nil {
			return err
		}
		if now.Sub(info.Time) >= age {
			if err := b.remove(ctx, info.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
