package bucket

import (
	"context"
	"fmt"
	"io"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// UploadLast is UploadIndexed for what is sent last before refs are moved. A small pack
// is named in the root together with them, by the next Update, since of all that a push
// does the swaps are what others wait for. If there is no Update, nobody finds the pack,
// and it must be sent again.
func (r *Remote) UploadLast(ctx context.Context, p io.ReaderAt, size int64, index *pack.Index) error {
	if size > maxHeld {
		return r.UploadIndexed(ctx, p, size, index)
	}
	u, err := fromIndex(size, index)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	return r.upload(ctx, p, u, func(_ context.Context, u *upload) error {
		r.hold(u)
		return nil
	})
}

// maxHeld is up to what size it is no matter if a pack must be sent again.
const maxHeld = 1 << 20

func (r *Remote) hold(all ...*upload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = append(r.held, all...)
}

// take returns the packs that are held, which are the caller's to enter.
func (r *Remote) take() []*upload {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.held
	r.held = nil
	return held
}

// enterHeld enters what is held, for those who do something else than to move refs. What
// cannot enter is not there, and will be missed.
func (r *Remote) enterHeld(ctx context.Context) {
	for _, u := range r.take() {
		_ = r.enter(ctx, u)
	}
}

// without returns those of ids that are in none of some uploads.
func without(ids []objects.ID, uploads []*upload) []objects.ID {
	if len(uploads) == 0 {
		return ids
	}
	there := map[objects.ID]bool{}
	for _, u := range uploads {
		for _, e := range u.entries {
			there[e.id] = true
		}
	}
	var others []objects.ID
	for _, id := range ids {
		if !there[id] {
			others = append(others, id)
		}
	}
	return others
}
