package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

// rootKey is the object that says what the root is: its name, and LF.
const rootKey = "root"

// A version is a root as it was read.
type version struct {
	root remote.Root
	etag string // of the object; empty if the root is zero, and that of no other root
}

// Root returns the root.
func (b *Bucket) Root(ctx context.Context) (remote.Root, error) {
	v, err := b.readRoot(ctx)
	return v.root, err
}

func (b *Bucket) readRoot(ctx context.Context) (v version, err error) {
	if err := ctx.Err(); err != nil {
		return version{}, err
	}
	const most = 1 << 10
	err = b.ask(ctx, request{method: "GET", key: rootKey}, most, func(header http.Header, body []byte) error {
		v.etag = header.Get("ETag")
		if v.root, err = remote.ParseRoot(strings.TrimSuffix(string(body), "\n")); err == nil && v.etag == "" {
			err = errors.New("it has no ETag")
		}
		if err != nil {
			return fmt.Errorf("damaged: it should hold the name of a root: %w", err)
		}
		return nil
	})
	if errors.Is(err, remote.ErrNotFound) {
		return version{}, nil
	}
	if err != nil {
		return version{}, err
	}
	b.remember(v)
	return v, nil
}

func (b *Bucket) remember(v version) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = v
}

// known returns the version of a root that this bucket has seen last, or reads what is
// there now.
func (b *Bucket) known(ctx context.Context, root remote.Root) (version, error) {
	b.mu.Lock()
	last := b.last
	b.mu.Unlock()
	if last.root == root && last.etag != "" {
		return last, nil
	}
	return b.readRoot(ctx)
}

// Swap replaces the root.
func (b *Bucket) Swap(ctx context.Context, old, next remote.Root) error {
	if err := errors.Join(ctx.Err(), remote.CheckSwap(old, next)); err != nil {
		return err
	}
	is, err := b.known(ctx, old)
	if err != nil {
		return err
	}
	if is.root != old {
		return fmt.Errorf("swap of root %s: %w", old, remote.ErrLost)
	}
	if old.IsZero() {
		// It happens once in the life of a bucket: who has not said "remote add" finds
		// out here.
		if err := b.Probe(ctx); err != nil {
			return err
		}
	}
	return b.swap(ctx, is, next)
}

// swap puts the root until the store says what became of it.
func (b *Bucket) swap(ctx context.Context, old version, next remote.Root) error {
	doubt := false // an attempt of ours may have been done, or may still be
	for a := attempt.Begin(b.bounds); ; {
		err := b.putRoot(ctx, old, next)
		if err == nil {
			return nil
		}
		b.mu.Lock()
		b.last = version{}
		b.mu.Unlock()
		if statusOf(err) != 0 && !decided(err) && !transient(err) {
			return err // not done, and why
		}
		doubt = doubt || !decided(err)
		is, reading := b.settled(ctx)
		if reading != nil {
			return fmt.Errorf("%w; and what became of it: %w", err, reading)
		}
		done, lost := remote.Settle(old.root, next, is.root)
		switch {
		case done:
			return nil
		case lost != nil && !doubt:
			return fmt.Errorf("swap of root %s: %w", old.root, remote.ErrLost)
		case lost != nil:
			return fmt.Errorf("%w (%w)", lost, err)
		}
		if !transient(err) && !decided(err) {
			return err
		}
		old = is // the same root, perhaps with another ETag
		if err := b.rest(ctx, a, err); err != nil {
			return err
		}
	}
}

// putRoot puts the root once, in the place of old.
func (b *Bucket) putRoot(ctx context.Context, old version, next remote.Root) error {
	text := next.String() + "\n"
	req := request{
		method: "PUT", key: rootKey, body: strings.NewReader(text), size: int64(len(text)),
		header: map[string]string{"Content-Type": "text/plain", "Cache-Control": "no-store"},
	}
	if old.root.IsZero() {
		req.header["If-None-Match"] = "*"
	} else {
		req.header["If-Match"] = old.etag
	}
	resp, err := b.once(ctx, &req)
	if err != nil {
		return err
	}
	b.remember(version{next, resp.Header.Get("ETag")})
	attempt.Drop(resp.Body)
	return nil
}

// decided reports whether the store says itself that a condition did not hold, or that
// somebody else is at it, and that nothing was done.
func decided(err error) bool {
	switch statusOf(err) {
	case http.StatusPreconditionFailed, http.StatusConflict:
		return true
	case http.StatusNotFound:
		return errors.Is(err, remote.ErrNotFound)
	}
	return false
}

// settled reads the root, even if nobody waits for the swap any more: what happened
// decides what the caller is told.
func (b *Bucket) settled(ctx context.Context) (version, error) {
	if ctx.Err() == nil {
		return b.readRoot(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(b.bounds.Patience, 15*time.Second))
	defer cancel()
	return b.readRoot(ctx)
}
