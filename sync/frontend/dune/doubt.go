package dune

import (
	"context"
	"fmt"
	"time"
)

// Doubtful returns the keys of the entries that may lack something: they cannot be
// read, or were made before something was lost in the store. They are no reason not
// to collect the same once more.
func Doubtful(ctx context.Context, r Reader, entries []Found, lost time.Time) (map[Key]bool, error) {
	d := delivery{r: r, o: Options{}.withDefaults()}
	for _, f := range entries {
		d.parcels = append(d.parcels, &parcel{Found: f})
	}
	err := d.readTrees(ctx)
	if err == nil {
		err = d.readMetas(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("look for entries that may be incomplete: %w", err)
	}
	doubtful := map[Key]bool{}
	for _, p := range d.parcels {
		if p.err != nil || !p.meta.Created.After(lost) {
			doubtful[p.Key] = true
		}
	}
	return doubtful, nil
}
