package httpremote

import (
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// NoteUses tells the server when entries were used. It asks once, however that ends,
// and a server that does not know what to do with it need not.
func (r *Remote) NoteUses(ctx context.Context, t uses.Table) error {
	if err := ctx.Err(); err != nil || len(t) == 0 {
		return err
	}
	err := r.doOnce(ctx, wire.Uses, asBody(wire.EncodeUses(t.Newest(wire.MaxUses))))
	if said := (*wire.Error)(nil); errors.As(err, &said) && said.Code == wire.NoOperation {
		return nil
	}
	return err
}

var _ remote.UseNoter = (*Remote)(nil)
