package worktree

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Everything is reached from an open directory by a path below it. Signals may
// interrupt system calls on some file systems; these take up again.

// oldKernel makes tests go the ways that other kernels and file systems need.
var oldKernel bool

// maxPath is a length up to which every kernel takes a path. Longer ones are
// walked in pieces: nothing limits how deep a tree is.
const maxPath = 1000

// reach returns a directory and a path from there that lead where path leads from
// fd, short enough for the kernel. If the directory is not fd it is the caller's
// to close: see leave.
func reach(fd int, path string) (at int, rest string, err error) {
	at, rest = fd, path
	for len(rest) >= maxPath {
		cut := strings.LastIndexByte(rest[:maxPath], '/')
		if cut < 0 {
			cut = strings.IndexByte(rest, '/')
		}
		if cut < 0 {
			break // one name, and too long: the kernel says so
		}
		next, err := openDir(at, rest[:cut])
		leave(fd, at)
		if err != nil {
			return -1, "", err
		}
		at, rest = next, rest[cut+1:]
	}
	return at, rest, nil
}

// leave closes at, unless it is fd.
func leave(fd, at int) {
	if at != fd {
		unix.Close(at)
	}
}

// openDir opens the directory path, whose last name must not be a link.
func openDir(fd int, path string) (int, error) {
	return openAt(fd, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

func openAt(fd int, path string, flags int, perm uint32) (int, error) {
	if path == "" {
		path = "."
	}
	at, rest, err := reach(fd, path)
	if err != nil {
		return -1, err
	}
	defer leave(fd, at)
	for {
		f, err := unix.Openat(at, rest, flags|unix.O_CLOEXEC, perm)
		if err != unix.EINTR {
			return f, err
		}
	}
}

// lstatAt tells what path is, if it is a link of the link itself.
func lstatAt(fd int, path string, st *unix.Stat_t) error {
	if path == "" {
		return fstat(fd, st)
	}
	at, rest, err := reach(fd, path)
	if err != nil {
		return err
	}
	defer leave(fd, at)
	for {
		if err := unix.Fstatat(at, rest, st, unix.AT_SYMLINK_NOFOLLOW); err != unix.EINTR {
			return err
		}
	}
}

func fstat(fd int, st *unix.Stat_t) error {
	for {
		if err := unix.Fstat(fd, st); err != unix.EINTR {
			return err
		}
	}
}

// maxLink is more than the longest target of a symbolic link.
const maxLink = 64 << 10

func readlinkAt(fd int, path string) ([]byte, error) {
	at, rest, err := reach(fd, path)
	if err != nil {
		return nil, err
	}
	defer leave(fd, at)
	for size := 256; ; {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(at, rest, buf)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n < size:
			return buf[:n], nil
		case size >= maxLink:
			return nil, unix.ENAMETOOLONG
		default:
			size *= 16
		}
	}
}

// readFull reads until p is full or the file ends.
func readFull(fd int, p []byte) (n int, err error) {
	for n < len(p) {
		k, err := unix.Read(fd, p[n:])
		switch {
		case err == unix.EINTR:
		case err != nil || k == 0:
			return n, err
		default:
			n += k
		}
	}
	return n, nil
}

// dirNames calls fn for each name in the directory fd. Type is a DT_ constant,
// or DT_UNKNOWN.
func dirNames(fd int, buf []byte, fn func(name string, kind uint8)) error {
	for {
		n, err := unix.ReadDirent(fd, buf)
		switch {
		case err == unix.EINTR:
		case err != nil || n <= 0:
			return err
		default:
			eachName(buf[:n], fn)
		}
	}
}

// pathError is err with the act and the path that it is about.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// below joins a path below a directory; either may be empty.
func below(dir, name string) string {
	switch {
	case dir == "":
		return name
	case name == "":
		return dir
	}
	return dir + "/" + name
}

// isGone reports whether an error means that there is nothing.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
}

func mkdirAt(fd int, path string, perm uint32) error {
	at, rest, err := reach(fd, path)
	if err != nil {
		return err
	}
	defer leave(fd, at)
	return unix.Mkdirat(at, rest, perm)
}

// chmodAt must not be used on links.
func chmodAt(fd int, path string, perm uint32) error {
	if path == "" {
		return unix.Fchmod(fd, perm)
	}
	at, rest, err := reach(fd, path)
	if err != nil {
		return err
	}
	defer leave(fd, at)
	return unix.Fchmodat(at, rest, perm, 0)
}

func symlinkAt(target string, fd int, path string) error {
	at, rest, err := reach(fd, path)
	if err != nil {
		return err
	}
	defer leave(fd, at)
	return unix.Symlinkat(target, at, rest)
}

// setTimeAt sets the modification time of path, if it is a link of the link.
func setTimeAt(fd int, path string, mtime int64) error {
	at, rest, err := reach(fd, path)
	if err != nil {
		return err
	}
	defer leave(fd, at)
	return unix.UtimesNanoAt(at, rest, timesFor(mtime), unix.AT_SYMLINK_NOFOLLOW)
}
