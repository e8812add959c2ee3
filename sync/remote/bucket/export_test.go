package bucket

import (
	"context"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

// Condemn condemns the packs that hold id, as gc will.
func Condemn(ctx context.Context, r *Remote, id objects.ID) error {
	return r.change(ctx, func(v *view, s *State) (bool, error) {
		err := r.find(ctx, v, []objects.ID{id}, true, func(_ int, p place) bool {
			s.Condemned[p.pack] = PackInfo{s.Packs[p.pack].Size, time.Now()}
			delete(s.Packs, p.pack)
			return false // all copies
		})
		return true, err
	})
}
