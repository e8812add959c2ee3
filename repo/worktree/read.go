package worktree

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A file is a node that has to be read.
type file struct {
	node *node
	top  *top
	path string
}

func (f file) shown() string { return f.top.shown(f.path) }

// runBytes is how much one goroutine reads before it looks for more: files that
// stand together come into the same blocks, and are restored together.
const (
	runBytes = 4 << 20
	runFiles = 4096
)

// bigFile is the size from which on files are read first, one at a time: the
// biggest must not be left to one goroutine at the end. Smaller ones keep their
// place among their likes.
const bigFile = 16 << 20

// attempts is how often a file that changes is read.
const attempts = 5

// readFiles reads s.files and sets their ids.
func (s *snapshot) readFiles(ctx context.Context) error {
	if len(s.files) == 0 {
		return nil
	}
	s.meter.Expect(s.result.Read, s.result.ReadBytes)
	var big, small []file
	for _, f := range s.files {
		if f.node.stat.Size >= bigFile {
			big = append(big, f)
		} else {
			small = append(small, f)
		}
	}
	bringTogether(small)
	runs := cutRuns(small)
	var nextBig, nextRun atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(parallel(s.o.Parallel), len(big)+len(runs)) {
		g.Go(func() error {
			r := reader{snapshot: s, lane: s.w.Lane()}
			err := r.work(ctx, big, &nextBig, runs, &nextRun)
			return errors.Join(err, r.lane.Close())
		})
	}
	return g.Wait()
}

// bringTogether puts files that are alike next to each other: that makes blocks
// smaller. Names say it best; but where a name is a hash, as in the caches of Go,
// npm and Bazel, it says nothing, and what was written at the same time is alike.
func bringTogether(files []file) {
	hashed := func(f *file) bool { return f.node.mode != objects.ModeSymlink && looksHashed(f.node.disk) }
	slices.SortStableFunc(files, func(a, b file) int {
		x, y := hashed(&a), hashed(&b)
		switch {
		case !x && !y:
			return 0
		case x != y:
			if x {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.node.stat.Mtime, b.node.stat.Mtime), cmp.Compare(a.node.stat.Size, b.node.stat.Size))
	})
}

// looksHashed reports whether a name begins with what hexadecimal or base32 digits
// make of a hash.
func looksHashed(name string) bool {
	const least, leastDigits = 24, 4
	digits := 0
	for i := range len(name) {
		switch c := name[i] | 0x20; {
		case c >= '0' && c <= '9':
			digits++
		case c < 'a' || c > 'v':
			return i >= least && digits >= leastDigits
		}
	}
	return len(name) >= least && digits >= leastDigits
}

func cutRuns(files []file) (runs [][]file) {
	for len(files) > 0 {
		n, bytes := 0, int64(0)
		for n < len(files) && n < runFiles && (n == 0 || bytes+files[n].node.stat.Size <= runBytes) {
			bytes += files[n].node.stat.Size
			n++
		}
		runs = append(runs, files[:n])
		files = files[n:]
	}
	return runs
}

// A reader is one goroutine that reads files.
type reader struct {
	*snapshot
	lane Lane
}

// work reads big files while there are any, then runs of small ones.
func (r *reader) work(ctx context.Context, big []file, nextBig *atomic.Int64, runs [][]file, nextRun *atomic.Int64) error {
	for i := int(nextBig.Add(1)) - 1; i < len(big); i = int(nextBig.Add(1)) - 1 {
		if err := r.run(ctx, big[i:i+1]); err != nil {
			return err
		}
	}
	for i := int(nextRun.Add(1)) - 1; i < len(runs); i = int(nextRun.Add(1)) - 1 {
		if err := r.run(ctx, runs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) run(ctx context.Context, files []file) error {
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := f.node.stat.Size
		if err := r.read(ctx, f); err != nil {
			return err
		}
		r.meter.Done(1, size)
	}
	return nil
}

// read stores what the file holds. The status that it had in the walk is what it
// has to have after it was read; if not, it is read again, against the new one.
func (r *reader) read(ctx context.Context, f file) error {
	n := f.node
	for try := range attempts {
		if err := pause(ctx, try); err != nil {
			return err
		}
		started := time.Now()
		id, after, err := r.once(ctx, f)
		switch {
		case isGone(err), errors.Is(err, unix.EISDIR):
			return &ChangedError{f.shown()}
		case err != nil:
			return pathError("read", f.shown(), err)
		}
		now, ok := newNode(n.disk, &after)
		if !ok || now.mode.IsDir() || (now.mode == objects.ModeSymlink) != (n.mode == objects.ModeSymlink) {
			return &ChangedError{f.shown()}
		}
		if !id.IsZero() && now.stat == n.stat {
			n.id, n.mode, n.perm = id, now.mode, now.perm
			r.o.Cache.Record(n.stat, id, started)
			return nil
		}
		n.stat = now.stat
	}
	return &ChangedError{f.shown()}
}

// pause waits before all attempts but the first two, longer each time.
func pause(ctx context.Context, try int) error {
	if try < 2 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(5 * time.Millisecond << try):
		return nil
	}
}

// once stores what the file holds now, and returns its status afterwards. The id
// is zero if the file is shorter than it was.
func (r *reader) once(ctx context.Context, f file) (id objects.ID, after unix.Stat_t, err error) {
	if f.node.mode == objects.ModeSymlink {
		return r.link(f)
	}
	// O_NONBLOCK: a fifo may have taken the file's place.
	fd, err := openAt(f.top.fd, f.path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return id, after, unix.ENOENT // now it is a link
	} else if err != nil {
		return id, after, err
	}
	defer unix.Close(fd)
	size := f.node.stat.Size
	if size > odb.MaxSpace {
		id, err = r.stream(ctx, fd, size)
	} else {
		id, err = r.small(fd, int(size))
	}
	if err != nil {
		return id, after, err
	}
	return id, after, fstat(fd, &after)
}

func (r *reader) small(fd, size int) (objects.ID, error) {
	space, err := r.lane.Space(size)
	if err != nil {
		return objects.ID{}, err
	}
	n, err := readFull(fd, space)
	if err != nil || n < size {
		return objects.ID{}, err
	}
	return r.lane.Add(size)
}

func (r *reader) stream(ctx context.Context, fd int, size int64) (objects.ID, error) {
	body := &fileBody{fd: fd, left: size}
	id, err := r.lane.PutReader(ctx, size, body)
	if body.err == io.ErrUnexpectedEOF {
		return objects.ID{}, nil
	}
	return id, err
}

func (r *reader) link(f file) (id objects.ID, after unix.Stat_t, err error) {
	target, err := readlinkAt(f.top.fd, f.path)
	if errors.Is(err, unix.EINVAL) {
		return id, after, unix.ENOENT // no link any more
	} else if err != nil {
		return id, after, err
	}
	space, err := r.lane.Space(len(target))
	if err != nil {
		return id, after, err
	}
	if id, err = r.lane.Add(copy(space, target)); err != nil {
		return id, after, err
	}
	return id, after, lstatAt(f.top.fd, f.path, &after)
}

// A fileBody is the first bytes of an open file. That there are fewer is an
// io.ErrUnexpectedEOF.
type fileBody struct {
	fd   int
	left int64
	err  error
}

func (b *fileBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.err != nil {
		return 0, b.err
	}
	p = p[:min(int64(len(p)), b.left)]
	n, err := readFull(b.fd, p)
	b.left -= int64(n)
	if err == nil && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return n, err
}
