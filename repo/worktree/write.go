package worktree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// write writes the files and links that are new into the stages.
func (s *restore) write(ctx context.Context) error {
	s.meter.Expect(s.report.Written, s.report.Bytes)
	ids := make([]objects.ID, len(s.jobs))
	for i := range s.jobs {
		ids[i] = s.jobs[i].want.id
	}
	o := odb.ManyOptions{
		Parallel: parallel(s.o.Parallel),
		Big: func(i int, id objects.ID, _ int64) error {
			return s.writeBig(ctx, &s.jobs[i])
		},
		Lost: func(i int, _ objects.ID, err error) error {
			return fmt.Errorf("restore %s: %w", s.jobs[i].shown(), err)
		},
	}
	err := s.r.ReadMany(ctx, ids, o, func(i int, k objects.Kind, body []byte) error {
		return s.writeSmall(ctx, &s.jobs[i], k, body)
	})
	if err != nil {
		return err
	}
	if err := s.timeDirs(ctx); err != nil {
		return err
	}
	return s.closeDirs()
}

func (s *restore) writeSmall(ctx context.Context, j *job, k objects.Kind, body []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if k != objects.Blob {
		return fmt.Errorf("restore %s: %s is a %s, want a blob", j.shown(), j.want.id, k)
	}
	var err error
	if j.want.mode == objects.ModeSymlink {
		err = j.link(body)
	} else {
		err = j.file(func(fd int) error { return writeFull(fd, j, body) })
	}
	s.meter.Done(1, j.want.size)
	return err
}

// writeBig writes a file that does not come whole. Its content is proven when it
// has ended; until then it is in the stage, where nobody looks.
func (s *restore) writeBig(ctx context.Context, j *job) error {
	o, err := s.r.Open(ctx, j.want.id)
	if err != nil {
		return fmt.Errorf("restore %s: %w", j.shown(), err)
	}
	defer o.Body.Close()
	if j.want.mode == objects.ModeSymlink {
		return fmt.Errorf("restore %s: a link's target has %d bytes", j.shown(), o.Size)
	}
	err = j.file(func(fd int) error {
		buf := buffers.Get().(*bufio.Writer)
		defer buffers.Put(buf)
		buf.Reset(&fileWriter{fd, j, ctx})
		n, err := io.Copy(struct{ io.Writer }{buf}, o.Body)
		if err == nil {
			err = buf.Flush()
		}
		if err == nil && n != j.want.size {
			err = &objects.DamagedError{ID: j.want.id, Reason: fmt.Sprintf("%d bytes, want %d", n, j.want.size)}
		}
		return err
	})
	s.meter.Done(1, j.want.size)
	return err
}

// buffers bring the chunks of big files together. Page by page, the kernel takes
// twice as long to write them.
var buffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 256<<10) }}

type fileWriter struct {
	fd  int
	job *job
	ctx context.Context // of one copy
}

func (w *fileWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if err := writeFull(w.fd, w.job, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func writeFull(fd int, j *job, p []byte) error {
	if hook != nil {
		if err := hook("write", j.shown()); err != nil {
			return err
		}
	}
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// file makes the file with what fill writes to it.
func (j *job) file(fill func(fd int) error) error {
	fd, err := j.create()
	if err == unix.EEXIST {
		return j.collision()
	} else if err != nil {
		return pathError("create", j.shown(), err)
	}
	err = fill(fd)
	if err == nil {
		err = j.settle(fd)
	}
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr // some file systems report a full disk only here
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return pathError("write", j.shown(), err)
	} else if err != nil {
		return fmt.Errorf("restore %s: %w", j.shown(), err)
	}
	return nil
}

func (j *job) create() (int, error) {
	if hook != nil {
		if err := hook("create", j.shown()); err != nil {
			return -1, err
		}
	}
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
	return openAt(j.unit.stage.fd, j.path, flags, uint32(j.want.perm)&0o777)
}

// settle gives the open file its permissions and its time, and notes its status.
func (j *job) settle(fd int) error {
	if j.want.mtime != noTime {
		if err := setTime(fd, j.want.mtime); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return err
	}
	if j.want.wrongPerm(&st) { // the umask took some, or there are special ones
		if err := unix.Fchmod(fd, uint32(j.want.perm)); err != nil {
			return err
		}
		if err := fstat(fd, &st); err != nil {
			return err
		}
	}
	j.stat = statcache.StatOf(&st)
	return nil
}

// link makes the symbolic link to target.
func (j *job) link(target []byte) error {
	fd := j.unit.stage.fd
	err := hooked("symlink", j.shown(), func() error { return symlinkAt(string(target), fd, j.path) })
	if err == unix.EEXIST {
		return j.collision()
	}
	if err == nil && j.want.mtime != noTime {
		err = setTimeAt(fd, j.path, j.want.mtime)
	}
	if err != nil {
		return pathError("symlink", j.shown(), err)
	}
	var st unix.Stat_t
	if err := lstatAt(fd, j.path, &st); err != nil {
		return pathError("stat", j.shown(), err)
	}
	j.stat = statcache.StatOf(&st)
	return nil
}
