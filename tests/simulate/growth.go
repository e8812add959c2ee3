package simulate

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// A Grown bucket is one after so many pushes, and what the last one of them took.
type Grown struct {
	Pushes int
	Count
	Root int64 // bytes of the root
}

// Growth pushes one entry after the other, each to a branch of its own, and looks at
// some of the pushes. The last row is the first push after two gcs, hours apart.
func Growth(ctx context.Context, dir string, n Network, at []int) ([]Grown, error) {
	b := new(remotetest.Memory)
	var all []Grown
	push := func(i int) error {
		m, err := newMachine(ctx, filepath.Join(dir, fmt.Sprint(i)), b, n)
		if err != nil {
			return err
		}
		defer m.Close()
		branch := refs.Branch(fmt.Sprint("pr/", i))
		if err := m.put(ctx, branch, []string{fmt.Sprint(i)}); err != nil {
			return err
		}
		if err := m.push(ctx, branch); err != nil {
			return err
		}
		if i == at[len(all)%len(at)] || len(all) == len(at) {
			root, err := rootSize(ctx, b)
			all = append(all, Grown{Pushes: i, Count: m.take(), Root: root})
			return err
		}
		return nil
	}
	last := at[len(at)-1]
	for i := 1; i <= last; i++ {
		if err := push(i); err != nil {
			return all, err
		}
	}
	c, err := newCollector(ctx, filepath.Join(dir, "collector"), b, n)
	if err != nil {
		return all, err
	}
	defer c.Close()
	for range 2 {
		time.Sleep(2 * time.Hour)
		if err := c.collect(ctx, time.Hour); err != nil {
			return all, err
		}
	}
	return all, push(last + 1)
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
