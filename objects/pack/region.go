package pack

import (
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// mapFrom is the size from which on mapping a file is cheaper than reading it.
const mapFrom = 32 << 10

// A region is the content of a file: mapped, or read if it is small. A mapping
// lasts as long as the region's owner is reachable, so whoever uses bytes must
// keep the owner alive.
type region struct {
	bytes  []byte
	mapped *mapping
}

type mapping struct{ bytes []byte }

func openRegion(name string) (r region, err error) {
	fd, err := openRead(name)
	if err != nil {
		return r, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return r, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	switch {
	case st.Size > 1<<40:
		return r, fmt.Errorf("%s: %d bytes are too many", name, st.Size)
	case st.Size < mapFrom:
		r.bytes = make([]byte, st.Size)
		if err := preadFull(fd, r.bytes, 0); err != nil {
			return r, &os.PathError{Op: "read", Path: name, Err: err}
		}
		return r, nil
	}
	p, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return r, &os.PathError{Op: "mmap", Path: name, Err: err}
	}
	r = region{bytes: p, mapped: &mapping{p}}
	runtime.AddCleanup(r.mapped, func(p []byte) { _ = unix.Munmap(p) }, p)
	return r, nil
}

// openRead is os.Open without what makes an os.File fit for sockets: a lookup
// may open many packs.
func openRead(name string) (int, error) {
	for {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR:
		default:
			return -1, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

func preadFull(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pread(fd, p, off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
