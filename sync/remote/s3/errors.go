package s3

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

// What can be wrong with more than one request.
var (
	// ErrNoBucket says that the object store has no such bucket, or not any more.
	ErrNoBucket = errors.New("there is no such bucket")

	// ErrRegion says that the bucket is in another region.
	ErrRegion = errors.New("wrong region")

	// ErrKey says that the store does not know the key, or that its secret is another.
	ErrKey = errors.New("the store does not accept the key")

	// ErrClock says that the clock of this machine is too far from that of the store.
	ErrClock = errors.New("the clock is wrong")

	// ErrThrottled says that the store wants fewer requests.
	ErrThrottled = errors.New("the store is asked too much")

	// ErrNoStore says that something else answers.
	ErrNoStore = errors.New("this is no S3 store")

	// ErrNoConditions says that the store does not keep to conditions.
	ErrNoConditions = errors.New("the store ignores conditions (If-None-Match, If-Match)")
)

// A StatusError is an answer that is not the one that was hoped for.
type StatusError struct {
	Code    int
	Reason  string        // the store's word for it, such as NoSuchKey
	Message string        // what it says about it, shortened
	Region  string        // where the bucket is, if the store says so
	Wait    time.Duration // before trying again, if the store says so

	asked string        // the region of the request
	skew  time.Duration // by how much this machine is ahead of the store
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%d %s", e.Code, http.StatusText(e.Code))
	if e.Reason != "" {
		s = fmt.Sprintf("%d %s", e.Code, e.Reason)
	}
	switch {
	case e.is(ErrClock):
		return fmt.Sprintf("%s: the clock of this machine is %v %s", s, max(e.skew, -e.skew).Round(time.Second), aheadOrBehind(e.skew))
	case e.is(ErrRegion) && e.Region != "":
		return fmt.Sprintf("%s: the bucket is in the region %s, and not in %s", s, e.Region, e.asked)
	case e.is(ErrNoStore):
		return s + ": " + ErrNoStore.Error()
	case e.Message != "":
		s += ": " + e.Message
	}
	return s
}

func aheadOrBehind(skew time.Duration) string {
	if skew < 0 {
		return "behind that of the store"
	}
	return "ahead of that of the store"
}

// Is makes the usual words answer to what callers ask for.
func (e *StatusError) Is(target error) bool { return e.is(target) }

func (e *StatusError) is(target error) bool {
	switch target {
	case remote.ErrNotFound:
		return e.Code == http.StatusNotFound && e.Reason == "NoSuchKey"
	case remote.ErrDenied:
		return e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden || e.is(ErrKey)
	case ErrNoBucket:
		return e.Reason == "NoSuchBucket" || e.Reason == "InvalidBucketName"
	case ErrRegion:
		return e.Reason == "AuthorizationHeaderMalformed" || e.Reason == "PermanentRedirect" || e.Reason == "IllegalLocationConstraintException" ||
			e.Code == http.StatusMovedPermanently || e.Code == http.StatusTemporaryRedirect && e.Reason != ""
	case ErrKey:
		switch e.Reason {
		case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired",
			"XAdminUserNotFound": // versitygw
			return true
		}
	case ErrClock:
		return e.Reason == "RequestTimeTooSkewed"
	case ErrThrottled:
		return e.throttles()
	case ErrNoStore:
		return e.Reason == "" && e.Code < http.StatusInternalServerError && e.Code != http.StatusPreconditionFailed && e.Code != http.StatusTooManyRequests
	case syscall.ENOSPC:
		return e.Code == http.StatusInsufficientStorage || e.Reason == "QuotaExceeded" || e.Reason == "XMinioStorageFull"
	}
	return false
}

func (e *StatusError) throttles() bool {
	return e.Code == http.StatusTooManyRequests || e.Code == http.StatusServiceUnavailable || strings.HasPrefix(e.Reason, "SlowDown")
}

// passes reports whether there is sense in asking once more.
func (e *StatusError) passes() bool {
	switch e.Code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return !e.is(syscall.ENOSPC)
	}
	switch e.Reason {
	case "RequestTimeout", "OperationAborted", // and what was changed on its way
		"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody":
		return true
	}
	return false
}

// maxError is how much is read of what a store says about an error.
const maxError = 64 << 10

// statusError makes an error of an answer, and closes that. One that breaks off says
// nothing, but for a condition that did not hold: the code says all of that.
func statusError(resp *http.Response, region string) error {
	defer attempt.Drop(resp.Body)
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil && resp.StatusCode != http.StatusPreconditionFailed {
		return fmt.Errorf("%s, and why got lost: %w", resp.Status, err)
	}
	e := parseError(text)
	e.Code, e.asked = resp.StatusCode, region
	if e.Region == "" {
		e.Region = resp.Header.Get("X-Amz-Bucket-Region")
	}
	e.Wait = attempt.RetryAfter(resp.Header.Get("Retry-After"))
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		e.skew = time.Since(at)
	}
	return e
}

// parseError reads the body of an error. One that is none leaves all empty.
func parseError(text []byte) *StatusError {
	var said struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
		Region  string
	}
	if xml.Unmarshal(text, &said) != nil {
		return &StatusError{}
	}
	return &StatusError{Reason: oneLine(said.Code, 60), Message: oneLine(said.Message, 200), Region: oneLine(said.Region, 60)}
}

// oneLine makes of what a stranger says something that can be printed.
func oneLine(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
