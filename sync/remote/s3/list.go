package s3

import (
	"context"
	"encoding/xml"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// A listing is one page of the answer to a question for keys, or for uploads that
// were begun.
type listing struct {
	Contents []struct {
		Key          string
		Size         int64
		LastModified time.Time
	}
	Upload []struct {
		Key       string
		UploadID  string `xml:"UploadId"`
		Initiated time.Time
	}
	IsTruncated           bool
	NextContinuationToken string
	NextKeyMarker         string
	NextUploadIDMarker    string `xml:"NextUploadIdMarker"`

	now time.Time // by the clock of the store
}

// maxListing bounds a page: a thousand keys, of at most a kilobyte each.
const maxListing = 16 << 20

// keys yields the keys that begin with dir, without the prefix of the bucket.
func (b *Bucket) keys(ctx context.Context, dir string) iter.Seq2[remote.Info, error] {
	return func(yield func(remote.Info, error) bool) {
		prefix := b.where().prefix
		query := url.Values{"list-type": {"2"}, "prefix": {prefix + dir}}
		for {
			page, err := b.list(ctx, query)
			if err != nil {
				yield(remote.Info{}, err)
				return
			}
			for _, c := range page.Contents {
				name, ok := strings.CutPrefix(c.Key, prefix)
				if ok && !yield(remote.Info{Name: name, Size: max(0, c.Size), Time: c.LastModified}, nil) {
					return
				}
			}
			if !page.IsTruncated || page.NextContinuationToken == "" {
				return
			}
			query.Set("continuation-token", page.NextContinuationToken)
		}
	}
}

// list gets one page.
func (b *Bucket) list(ctx context.Context, query url.Values) (page *listing, err error) {
	err = b.ask(ctx, request{method: "GET", wholeBucket: true, query: query}, maxListing, func(header http.Header, body []byte) error {
		if page, err = parseListing(body); err == nil {
			page.now = dateOf(header)
		}
		return err
	})
	return page, err
}

func parseListing(body []byte) (*listing, error) {
	var page listing
	return &page, xml.Unmarshal(body, &page)
}

// dateOf returns when an answer was made, by the clock of the store.
func dateOf(header http.Header) time.Time {
	if at, err := http.ParseTime(header.Get("Date")); err == nil {
		return at
	}
	return time.Now()
}
