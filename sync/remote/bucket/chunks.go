package bucket

import (
	"cmp"
	"context"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// Chunks calls fn for each chunk of those of ids that are big blobs: of all recipes of
// a blob, since nobody knows which one a fetch will choose. It returns those of ids
// that are no blobs, and says nothing of what is not there or damaged. What it reads
// are the recipes, and no chunk.
func (r *Remote) Chunks(ctx context.Context, ids []objects.ID, fn func(blob, chunk objects.ID) error) (others []objects.ID, err error) {
	_, err = r.again(ctx, r.known, func(v *view) error {
		others = others[:0]
		recipes := map[spot]*wanted{}
		err := r.find(ctx, v, ids, false, func(_ int, p place) (enough bool) {
			switch p.typ() {
			case pack.Blob, pack.Chunk:
			case pack.Recipe:
				at := spot{p.pack, p.at.off}
				if recipes[at] == nil {
					recipes[at] = &wanted{spot: at, size: int64(p.at.size)}
				}
				recipes[at].ids = append(recipes[at].ids, p)
			default:
				others = append(others, p.id)
			}
			return false
		})
		if err != nil {
			return err
		}
		return r.readRecipes(ctx, recipes, fn)
	})
	return others, err
}

func (r *Remote) readRecipes(ctx context.Context, recipes map[spot]*wanted, fn func(blob, chunk objects.ID) error) error {
	var blocks []wanted
	for _, b := range recipes {
		blocks = append(blocks, *b)
	}
	slices.SortFunc(blocks, func(a, b wanted) int { return cmp.Or(a.pack.compare(b.pack), cmp.Compare(a.off, b.off)) })
	ctx, cancel := context.WithCancel(ctx)
	f := fetch{r: r}
	defer f.readers.Wait()
	defer cancel()
	next := f.read(ctx, ranges(blocks))
	for {
		c, ok := next()
		if !ok || c.err != nil {
			return c.err
		}
		for _, b := range c.blocks {
			if f.data.Decode(c.data[b.off-c.off:][:b.size]) != nil {
				continue
			}
			for _, p := range b.ids {
				chunks, _ := partsOf(p.entry, &f.data)
				for _, id := range chunks {
					if err := fn(p.id, id); err != nil {
						return err
					}
				}
			}
		}
	}
}
