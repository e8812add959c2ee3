package peer

import (
	"context"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
)

// someBlobs is how many blobs are looked at together for their chunks.
const someBlobs = 8 << 10

// Reached returns all that tips lead to: objects, and the chunks of big blobs.
// What is missing may be in it or not. It costs as much as there is.
func (r *Remote) Reached(ctx context.Context, tips []objects.ID) (*reach.Set, error) {
	shallow, err := r.shallow()
	if err != nil {
		return nil, err
	}
	reached := new(reach.Set)
	var blobs []objects.ID
	look := func() error {
		err := r.db.Chunks(ctx, blobs, func(_, chunk objects.ID) error {
			reached.Add(chunk) // no object has the id of a chunk
			return nil
		})
		blobs = blobs[:0]
		return err
	}
	err = reach.Walk(ctx, r.db, tips, reach.Options{
		Seen:       reached,
		Unplaced:   true,
		CheckBlobs: true, // a blob that is not there has no chunks
		Shallow:    func(id objects.ID) bool { return shallow[id] },
		Missing:    func(reach.Missing) error { return nil },
		Visit: func(id objects.ID, k objects.Kind) error {
			if k != objects.Blob {
				return nil
			}
			if blobs = append(blobs, id); len(blobs) == someBlobs {
				return look()
			}
			return nil
		},
	})
	if err == nil {
		err = look()
	}
	return reached, err
}
