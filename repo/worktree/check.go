package worktree

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// checkUnknown reads the files that the stat cache does not know, if they have
// at least the right size.
func (s *restore) checkUnknown(ctx context.Context) error {
	var mu sync.Mutex
	err := each(ctx, parallel(s.o.Parallel), len(s.unknown), func(ctx context.Context, i int) error {
		f := &s.unknown[i]
		right, err := s.checkOne(ctx, f)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if right {
			s.right = append(s.right, *f)
		} else {
			s.units = append(s.units, &unit{dir: f.dir, name: f.want.name, want: f.want, old: true})
		}
		return nil
	})
	s.unknown = nil
	return err
}

// checkOne reports whether the file has the right content. It may have changed
// since it was compared: then it has not.
func (s *restore) checkOne(ctx context.Context, f *fix) (bool, error) {
	fd, err := f.dir.open()
	if err != nil {
		return false, pathError("open", f.dir.shown(""), err)
	}
	defer unix.Close(fd)
	if f.want.mode == objects.ModeSymlink {
		target, err := readlinkAt(fd, f.want.name)
		return err == nil && objects.Sum(objects.Blob, target) == f.want.id, nil
	}
	if err := s.sizeOf(ctx, f.dir, f.want); err != nil {
		return false, err
	}
	if f.want.size != f.was.Size {
		return false, nil
	}
	started := time.Now()
	file, err := openAt(fd, f.want.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, nil // unreadable is not right: it is replaced
	}
	defer unix.Close(file)
	id, err := hashOpen(file, f.was.Size)
	var after unix.Stat_t
	if err != nil || fstat(file, &after) != nil || statcache.StatOf(&after) != statcache.StatOf(&f.was) {
		return false, nil
	}
	s.o.Cache.Record(statcache.StatOf(&after), id, started)
	return id == f.want.id, nil
}

// sizeOf sets the size of a want.
func (s *restore) sizeOf(ctx context.Context, d *wantDir, w *want) error {
	k, size, err := s.r.Stat(ctx, w.id)
	if err == nil && (k != objects.Blob || size < 0) {
		err = fmt.Errorf("%s: is a %s, want a blob", w.id, k)
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", d.shown(w.name), err)
	}
	w.size = size
	return nil
}

// hashOpen returns the id of the first size bytes, zero if there are fewer.
func hashOpen(fd int, size int64) (objects.ID, error) {
	h := objects.NewHasher(objects.Blob, size)
	body := &fileBody{fd: fd, left: size}
	_, err := io.CopyBuffer(struct{ io.Writer }{h}, body, make([]byte, min(max(size, 1), 256<<10)))
	if body.err == io.ErrUnexpectedEOF {
		return objects.ID{}, nil
	} else if err != nil {
		return objects.ID{}, err
	}
	return h.ID()
}
