package replica

import (
	"context"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// Objects are all that the bucket has, through the cache, as Git clients are sent them.
type Objects struct {
	*odb.DB
	g *generation
}

// Objects returns what there is for one request, which calls done when it has ended.
func (r *Replica) Objects() (o *Objects, done func()) {
	g := r.cache.use()
	return &Objects{g.db, g}, g.release
}

// Warm brings the commits and trees that tips lead to and have do not.
func (o *Objects) Warm(ctx context.Context, tips, have []objects.ID, cut map[objects.ID]bool) error {
	return o.g.warm(ctx, tips, have, cut)
}
