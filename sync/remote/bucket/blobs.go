package bucket

import (
	"context"
	"errors"
	"io"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// Blobs calls fn with those of ids that are blobs in one piece, as they come. It may
// keep nothing of them. What stands beside them, which a fetch would bring along, is
// left out.
func (r *Remote) Blobs(ctx context.Context, ids []objects.ID, fn func(id objects.ID, body []byte) error) error {
	wanted := make(map[objects.ID]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	body, err := r.Fetch(ctx, remote.Request{Want: ids})
	if err != nil {
		return err
	}
	defer body.Close()
	blocks := body.(pack.Source)
	var data pack.Data
	var buf []byte
	for {
		buf, err = blocks.Next(buf[:0])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = data.Decode(buf)
		}
		if err != nil {
			return err
		}
		for i := range data.Len() {
			t, body := data.Record(i)
			if t != pack.Blob {
				continue
			}
			if id := objects.Sum(objects.Blob, body); wanted[id] {
				if err := fn(id, body); err != nil {
					return err
				}
			}
		}
	}
}
