package gitpack

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects"
)

// maxAtOnce is up to what size an object is read as a whole, one per worker.
const maxAtOnce = 1 << 20

// A ManyReader hands out many small objects in the order in which they are
// stored, and calls fn from several goroutines at once. It returns which of ids
// are too big for that: they are left to Open.
type ManyReader interface {
	ReadSmall(ctx context.Context, ids []objects.ID, fn func(i int, k objects.Kind, body []byte) error) (big []int, err error)
}

// Write writes the objects ids to w as one pack, while it reads them: to a Git client
// that waits for it, as a rule. An r that is a ManyReader is asked for many at once.
func Write(ctx context.Context, r objects.Reader, w io.Writer, ids []objects.ID, o Options) error {
	p, err := NewWriter(w, len(ids))
	if err != nil {
		return err
	}
	p.unindexed = true
	if err := fill(ctx, r, p, ids, o); err != nil {
		return err
	}
	_, err = p.Close()
	return err
}

// fill adds the objects ids to p, in any order.
func fill(ctx context.Context, r objects.Reader, p *Writer, ids []objects.ID, o Options) error {
	// The empty tree need not be stored by anybody: its id says it all.
	if i := slices.Index(ids, objects.EmptyTree); i >= 0 {
		if err := p.AddBytes(objects.EmptyTree, objects.Tree, nil); err != nil {
			return err
		}
		ids = slices.Delete(slices.Clone(ids), i, i+1)
	}
	if many, ok := r.(ManyReader); ok {
		big, err := many.ReadSmall(ctx, ids, func(i int, k objects.Kind, body []byte) error {
			return o.addBytes(p, ids[i], k, body)
		})
		if err != nil {
			return err
		}
		for _, i := range big {
			if err := o.addOpen(ctx, r, p, ids[i]); err != nil {
				return err
			}
		}
		return nil
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(o.parallel())
	for _, id := range ids {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error { return o.addOpen(inner, r, p, id) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (o Options) added() {
	if o.Added != nil {
		o.Added()
	}
}

func (o Options) parallel() int {
	return cmp.Or(o.Parallel, runtime.GOMAXPROCS(0))
}

// addOpen adds one object by itself.
func (o Options) addOpen(ctx context.Context, r objects.Reader, p *Writer, id objects.ID) error {
	x, err := r.Open(ctx, id)
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	defer x.Body.Close()
	if x.Size > maxAtOnce {
		o.added()
		return p.Add(id, x)
	}
	var body bytes.Buffer
	body.Grow(int(x.Size) + bytes.MinRead)
	if _, err := body.ReadFrom(x.Body); err != nil {
		return fmt.Errorf("%s %s: %w", x.Kind, id, err)
	}
	if int64(body.Len()) != x.Size {
		return fmt.Errorf("%s %s: body has %d bytes, announced were %d", x.Kind, id, body.Len(), x.Size)
	}
	return o.addBytes(p, id, x.Kind, body.Bytes())
}

func (o Options) addBytes(p *Writer, id objects.ID, k objects.Kind, body []byte) error {
	o.added()
	return p.AddBytes(id, k, body)
}
