package attempt

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// Range returns the header that asks for n bytes from off on, all if n is negative; nil
// if that is the whole.
func Range(off, n int64) map[string]string {
	switch {
	case n > 0:
		return map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", off, off+n-1)}
	case off > 0:
		return map[string]string{"Range": fmt.Sprintf("bytes=%d-", off)}
	}
	return nil
}

// Ranged returns these bytes out of an answer, whether the server knows ranges or has
// sent all there is. What stands in errors.
func Ranged(resp *http.Response, what string, off, n int64) (io.ReadCloser, error) {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if want := fmt.Sprintf("bytes %d-", off); !strings.HasPrefix(resp.Header.Get("Content-Range"), want) {
			resp.Body.Close()
			return nil, fmt.Errorf("GET %s: asked for %s, got %q", what, want, resp.Header.Get("Content-Range"))
		}
	case http.StatusOK:
		if _, err := io.CopyN(io.Discard, resp.Body, off); err != nil && err != io.EOF {
			resp.Body.Close()
			return nil, err
		}
	}
	return remote.Exactly(resp.Body, n), nil
}
