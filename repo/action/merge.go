package action

import (
	"context"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// A MergeStore is what MergeDeps reads from and writes to.
type MergeStore interface {
	objects.Reader
	entry.Writer
}

// MergeDeps makes one "deps" entry of two for the same key, with the sets of
// both, and returns its id.
func MergeDeps(ctx context.Context, s MergeStore, ours, theirs objects.ID) (objects.ID, error) {
	var bodies [2][]byte
	var meta entry.Meta
	for i, id := range []objects.ID{theirs, ours} {
		payload, m, err := entry.Read(ctx, s, id)
		if err != nil {
			return objects.ID{}, err
		}
		body, _ := payload.Find(entry.BodyName)
		if bodies[i], err = objects.ReadKind(ctx, s, body.ID, objects.Blob); err != nil {
			return objects.ID{}, err
		}
		meta = m
	}
	merged, err := MergeSets(bodies[1], bodies[0])
	if err != nil {
		return objects.ID{}, fmt.Errorf("merge sets of inputs: %w", err)
	}
	id, err := s.PutBytes(objects.Blob, merged)
	if err != nil {
		return objects.ID{}, err
	}
	return entry.Write(s, meta, objects.Entries{{Mode: objects.ModeFile, Name: entry.BodyName, ID: id}}, ours)
}
