package replica

import (
	"context"
	"io"
	"time"

	"github.com/cache-tool/cache-tool/objects/reach"
)

// broughtFor is for how long any replica knows what a client has brought to one of them.
const broughtFor = time.Hour

// UploadFor is Upload for one of whom other replicas are to know what he has brought.
func (s *Store) UploadFor(ctx context.Context, client string, p io.ReaderAt, size int64) error {
	return s.upload(ctx, p, size, func(ctx context.Context, p io.ReaderAt, size int64) error {
		return s.Remote.UploadFor(ctx, client, p, size)
	})
}

// Brought adds to ids what a client has brought lately, to whichever replica.
func (s *Store) Brought(ctx context.Context, client string, ids *reach.Set) error {
	return s.Remote.Brought(ctx, client, time.Now().Add(-broughtFor), ids)
}
