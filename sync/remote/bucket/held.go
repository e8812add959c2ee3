package bucket

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// UploadLast is UploadIndexed for what is sent last before refs are moved. A small pack
// is named in the root together with them, by the next Update, since of all that a push
// does the swaps are what others wait for. Until then it is there for the caller alone;
// if there is no Update, nobody finds it, and it must be sent again. An Update that fails
// because a ref is elsewhere leaves that to the next one; after any other error Missing
// says what must be sent again.
func (r *Remote) UploadLast(ctx context.Context, p io.ReaderAt, size int64, index *pack.Index) error {
	if size > maxHeld {
		return r.UploadIndexed(ctx, p, size, index)
	}
	u, err := fromIndex(size, index)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	fresh, err := r.putFresh(ctx, p, u, whosever)
	if err == nil && fresh {
		r.hold(u)
	}
	return err
}

// maxHeld is up to what size it is no matter if a pack must be sent again.
const maxHeld = 1 << 20

// hold adds packs to those that are held, and returns all of them.
func (r *Remote) hold(more ...*upload) []*upload {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = append(r.held, more...)
	return slices.Clone(r.held)
}

// take returns the packs that are held, which are the caller's to enter. What does not
// enter is not there, and will be missed.
func (r *Remote) take() []*upload {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.held
	r.held = nil
	return held
}

// enterHeld enters what is held, without refs.
func (r *Remote) enterHeld(ctx context.Context) error {
	held := r.take()
	if len(held) == 0 {
		return nil
	}
	r.hold(held[1:]...)
	return r.enter(ctx, held[0]) // and the others with it
}

// without returns those of ids that are in none of some uploads, in a form that counts.
func without(ids []objects.ID, uploads []*upload, counts func(entry) bool) []objects.ID {
	if len(uploads) == 0 {
		return ids
	}
	there := map[objects.ID]bool{}
	for _, u := range uploads {
		for _, e := range u.entries {
			there[e.id] = there[e.id] || counts(e)
		}
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id objects.ID) bool { return there[id] })
}
