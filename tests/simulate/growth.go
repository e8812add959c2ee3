package simulate

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// A Grown bucket is one after so many pushes.
type Grown struct {
	Shared bool // to one branch; else each to its own
	GCs    int  // after them
	Pushes int
	Count        // of the last push
	Root   int64 // bytes of the root
	Lazy   Count // of a lazy clone of the branch by a machine that has nothing
}

// Growth pushes one entry after the other and looks at the pushes at. Then it collects,
// twice, hours apart, and looks at one more.
func Growth(ctx context.Context, dir string, shared bool, at []int) ([]Grown, error) {
	g := &growth{dir: dir, shared: shared, bucket: new(remotetest.Memory)}
	var all []Grown
	look := func(i, gcs int) error {
		grown, err := g.look(ctx, i)
		grown.GCs = gcs
		all = append(all, grown)
		return err
	}
	var err error
	last := slices.Max(at)
	for i := 1; i <= last && err == nil; i++ {
		if slices.Contains(at, i) {
			err = look(i, 0)
		} else {
			_, err = g.push(ctx, i)
		}
	}
	if err != nil {
		return all, err
	}
	c, err := newCollector(ctx, filepath.Join(dir, "collector"), g.bucket, Network{})
	if err != nil {
		return all, err
	}
	defer c.Close()
	const gcs = 2
	for range gcs {
		time.Sleep(2 * time.Hour)
		if err := c.collect(ctx, time.Hour); err != nil {
			return all, err
		}
	}
	return all, look(last+1, gcs)
}

type growth struct {
	dir    string
	shared bool
	bucket *remotetest.Memory
}

func (g *growth) branch(i int) refs.Name {
	if g.shared {
		return main
	}
	return refs.Branch(fmt.Sprint("pr/", i))
}

// push pushes one entry: to a branch of its own from a machine of its own.
func (g *growth) push(ctx context.Context, i int) (Count, error) {
	name := "builder"
	if !g.shared {
		name = fmt.Sprint(i)
	}
	m, err := newMachine(ctx, filepath.Join(g.dir, name), g.bucket, Network{})
	if err != nil {
		return Count{}, err
	}
	defer m.Close()
	if err := m.put(ctx, g.branch(i), []string{fmt.Sprint(i)}); err != nil {
		return Count{}, err
	}
	err = m.push(ctx, g.branch(i))
	return m.take(), err
}

// look pushes, and looks at that and at what is there then.
func (g *growth) look(ctx context.Context, i int) (grown Grown, err error) {
	grown = Grown{Shared: g.shared, Pushes: i}
	if grown.Count, err = g.push(ctx, i); err != nil {
		return grown, err
	}
	if grown.Root, err = rootSize(ctx, g.bucket); err != nil {
		return grown, err
	}
	m, err := newMachine(ctx, filepath.Join(g.dir, fmt.Sprint("lazy", i)), g.bucket, Network{})
	if err != nil {
		return grown, err
	}
	defer func() { m.Close() }()
	if err := m.beLazy(ctx); err != nil {
		return grown, err
	}
	err = m.pull(ctx, g.branch(i))
	grown.Lazy = m.take()
	return grown, err
}

func rootSize(ctx context.Context, b *remotetest.Memory) (int64, error) {
	root, err := b.Root(ctx)
	if err != nil {
		return 0, err
	}
	for info, err := range b.List(ctx, "roots") {
		if err != nil || info.Name == "roots/"+root.Hash.String() {
			return info.Size, err
		}
	}
	return 0, remote.ErrNotFound
}
