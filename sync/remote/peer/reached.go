package peer

import (
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
)

// someBlobs is how many blobs are looked at together for their chunks.
const someBlobs = 8 << 10

// Reach adds to seen all that tips lead to: objects, and the chunks of big blobs.
// What is in seen before is not looked into. Visit, if it is not nil, is called
// for each object that is new there, and an error of it ends the walk. What is
// missing may get into seen or not.
func (r *Remote) Reach(ctx context.Context, tips []objects.ID, seen *reach.Set, visit func(objects.ID) error) error {
	shallow, err := r.cuts.Shallow()
	if err != nil {
		return err
	}
	if visit == nil {
		visit = func(objects.ID) error { return nil }
	}
	var blobs []objects.ID
	chunks := func() error {
		err := r.db.Chunks(ctx, blobs, func(_, chunk objects.ID) error {
			seen.Add(chunk) // no object has the id of a chunk
			return nil
		})
		blobs = blobs[:0]
		return err
	}
	err = reach.Walk(ctx, r.db, tips, reach.Options{
		Seen:       seen,
		Unplaced:   true,
		CheckBlobs: true, // a blob that is not there has no chunks
		Shallow:    func(id objects.ID) bool { return shallow[id] },
		Missing: func(m reach.Missing) error {
			if errors.Is(m, objects.ErrNotFound) {
				return nil
			}
			return visit(m.ID) // it is there, though not as what it is called
		},
		Visit: func(id objects.ID, k objects.Kind) error {
			if err := visit(id); err != nil || k != objects.Blob {
				return err
			}
			if blobs = append(blobs, id); len(blobs) == someBlobs {
				return chunks()
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	return chunks()
}

// Covers reports whether tips lead to all that the commits old lead to. It may say
// that they do not where they do.
func (r *Remote) Covers(ctx context.Context, tips, old []objects.ID) (bool, error) {
	shallow, err := r.cuts.Shallow()
	if err != nil {
		return false, err
	}
	beyond := errors.New("there is a commit beyond them")
	err = reach.Since(ctx, r.db, old, tips, reach.Options{
		Commits: true,
		Shallow: func(id objects.ID) bool { return shallow[id] },
		Visit:   func(objects.ID, objects.Kind) error { return beyond },
		Missing: func(reach.Missing) error { return beyond },
	})
	if errors.Is(err, beyond) {
		return false, nil
	}
	return err == nil, err
}
