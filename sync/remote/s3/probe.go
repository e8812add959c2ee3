package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

// Probe finds out whether the store keeps to conditions, on an object of its own. One
// that does not is ErrNoConditions: two who push at the same time would both win
// there, and what one of them pushed would be lost.
func (b *Bucket) Probe(ctx context.Context) error {
	for a := attempt.Begin(b.bounds); ; {
		// Each attempt has its own object: of a PUT that is sent again because a reply was
		// lost nobody could tell who is refused.
		err := b.probeOnce(ctx, fmt.Sprintf("%s%016x", remote.Pending, rand.Uint64()))
		if err == nil || ctx.Err() != nil {
			return err
		}
		if a.Failed == 0 && b.learn(err) {
			a.Failed++
			continue
		}
		if errors.Is(err, ErrNoConditions) || !transient(err) {
			return err
		}
		if err := b.rest(ctx, a, err); err != nil {
			return err
		}
	}
}

func (b *Bucket) probeOnce(ctx context.Context, key string) error {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(b.bounds.Patience, 5*time.Second))
		defer cancel()
		if resp, err := b.once(ctx, &request{method: "DELETE", key: key}); err == nil {
			attempt.Drop(resp.Body)
		}
	}()
	first, err := b.putIf(ctx, key, "first", "If-None-Match", "*")
	if err != nil {
		return refusesConditions(err)
	}
	if err := wantRefused(b.putIf(ctx, key, "second", "If-None-Match", "*")); err != nil {
		return err
	}
	second, err := b.putIf(ctx, key, "third", "If-Match", first)
	if err != nil {
		return refusesConditions(err)
	}
	if second == first {
		return fmt.Errorf("%w: other bytes have the same ETag", ErrNoConditions)
	}
	return wantRefused(b.putIf(ctx, key, "fourth", "If-Match", first))
}

// putIf puts an object on a condition, once.
func (b *Bucket) putIf(ctx context.Context, key, text, condition, value string) (etag string, err error) {
	resp, err := b.once(ctx, &request{
		method: "PUT", key: key, body: strings.NewReader(text), size: int64(len(text)), header: map[string]string{condition: value},
	})
	if err != nil {
		return "", err
	}
	attempt.Drop(resp.Body)
	return resp.Header.Get("ETag"), nil
}

// wantRefused wants the answer to be that a condition does not hold.
func wantRefused(_ string, err error) error {
	if err == nil {
		return ErrNoConditions
	}
	if c := statusOf(err); c == http.StatusPreconditionFailed || c == http.StatusConflict {
		return nil
	}
	return refusesConditions(err)
}

// refusesConditions says of a store that does not take conditions at all that it
// does not keep to them.
func refusesConditions(err error) error {
	var status *StatusError
	if !errors.As(err, &status) {
		return err
	}
	switch status.Reason {
	case "NotImplemented", "InvalidArgument", "InvalidRequest", "PreconditionFailed":
		return fmt.Errorf("%w: %w", ErrNoConditions, err)
	}
	if status.Code == http.StatusNotImplemented || status.Code == http.StatusPreconditionFailed {
		return fmt.Errorf("%w: %w", ErrNoConditions, err)
	}
	return err
}
