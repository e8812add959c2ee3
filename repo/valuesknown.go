package repo

import (
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/repo/known"
)

// findIn returns the entry at path below root.
func (v *Values) findIn(ctx context.Context, root objects.ID, path string) (objects.ID, error) {
	id, ok := v.known.Find(root, path)
	switch {
	case ok && id.IsZero():
		return id, trees.ErrNoPath
	case ok:
		return id, nil
	}
	e, err := v.repo.findPath(ctx, root, path)
	if err == nil || errors.Is(err, trees.ErrNoPath) && root != objects.EmptyTree {
		v.known.NoteFound(root, path, e.ID)
	}
	return e.ID, err
}

// holds returns what an entry holds, once all of it is here: its meta, and its body,
// which is zero if the entry is no value.
func (v *Values) holds(ctx context.Context, id objects.ID) (meta entry.Meta, body objects.ID, size int64, err error) {
	if e, ok := v.known.Entry(id); ok && v.isHere(ctx, id) && v.isHere(ctx, e.Body) {
		if meta, err = entry.ParseMeta([]byte(e.Meta)); err == nil {
			return meta, e.Body, e.Size, nil
		}
	}
	payload, meta, err := entry.Read(ctx, v.repo.DB, id)
	if err != nil {
		return meta, body, 0, err
	}
	e, ok := payload.Find(entry.BodyName)
	if !ok {
		return meta, body, 0, nil
	}
	if _, size, err = v.repo.DB.Stat(ctx, e.ID); err != nil {
		return meta, body, 0, err
	}
	// While there is a limit to how long that may take.
	if err := v.repo.bring(ctx, id); err != nil {
		return meta, body, 0, err
	}
	v.noteEntry(id, meta, e.ID, size)
	return meta, e.ID, size, nil
}

// isHere reports whether an index shows an object.
func (v *Values) isHere(ctx context.Context, id objects.ID) bool {
	_, err := v.repo.DB.KindOf(odb.Local(ctx), id)
	return err == nil
}

func (v *Values) noteEntry(id objects.ID, meta entry.Meta, body objects.ID, size int64) {
	if v.known != nil {
		v.known.NoteEntry(id, known.Entry{Meta: string(meta.Encode()), Body: body, Size: size})
	}
}
