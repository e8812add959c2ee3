package peer

import (
	"context"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// NoteUses notes when entries were used, if the repository remembers that.
func (r *Remote) NoteUses(ctx context.Context, t uses.Table) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if noter, ok := r.cuts.(remote.UseNoter); ok {
		return noter.NoteUses(ctx, t)
	}
	return nil
}

var _ remote.UseNoter = (*Remote)(nil)
