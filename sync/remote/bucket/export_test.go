package bucket

import (
	"bytes"
	"context"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// Condemn condemns the packs that hold id, whatever needs them.
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

// Age makes all packs older.
func Age(ctx context.Context, r *Remote, by time.Duration) error {
	return r.change(ctx, func(v *view, s *State) (bool, error) {
		for p, info := range v.Packs {
			s.Packs[p] = PackInfo{info.Size, info.Time.Add(-by)}
		}
		for p, info := range v.Condemned {
			s.Condemned[p] = PackInfo{info.Size, info.Time.Add(-by)}
		}
		return true, nil
	})
}

// PacksOf returns the live packs that hold id.
func PacksOf(ctx context.Context, r *Remote, id objects.ID) (packs []string, err error) {
	v, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	err = r.find(ctx, v, []objects.ID{id}, true, func(_ int, p place) bool {
		packs = append(packs, p.pack.file())
		return false
	})
	return packs, err
}

// Types counts the records in live packs.
func Types(ctx context.Context, r *Remote) (map[pack.Type]int, error) {
	v, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	t, err := r.tableOf(ctx, v, nil)
	if err != nil {
		return nil, err
	}
	defer t.close()
	types := map[pack.Type]int{}
	return types, t.each(ctx, func(_ objects.ID, copies []entry) error {
		for _, e := range copies {
			types[e.typ()]++
		}
		return nil
	})
}

// EnterLate puts a pack, and names it only after a while.
func EnterLate(ctx context.Context, r *Remote, p *bytes.Reader, late time.Duration) error {
	u, err := examine(p, p.Size())
	if err != nil {
		return err
	}
	if err := r.b.Put(ctx, u.name.file(), p, u.size); err != nil {
		return err
	}
	u.put = time.Now().Round(0).Add(-late)
	return r.enter(ctx, u)
}
