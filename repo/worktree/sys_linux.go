package worktree

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A mount is a mounted file system: files can be renamed within it.
type mount struct {
	dev, id uint64
}

// mountOf returns the mount that the open directory is in. One device may be
// mounted at several places, and renames do not lead from one to the other.
func mountOf(fd int) (mount, error) {
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return mount{}, err
	}
	m := mount{dev: uint64(st.Dev)}
	var x unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &x); err == nil && x.Mask&unix.STATX_MNT_ID != 0 {
		m.id = x.Mnt_id
	}
	return m, nil
}

// openBeneath opens the directory path below fd. Links on the way are followed
// as long as they stay below fd (where the kernel can tell, Linux 5.6).
func openBeneath(fd int, path string) (int, error) {
	return openHow(fd, path, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
}

// openInside opens the directory path below fd, and follows no link at all.
func openInside(fd int, path string) (int, error) {
	return openHow(fd, path, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

func openHow(fd int, path string, resolve uint64) (int, error) {
	if path == "" {
		path = "."
	}
	if len(path) >= maxPath || oldKernel {
		return openSteps(fd, path)
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolve}
	for {
		f, err := unix.Openat2(fd, path, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN: // EAGAIN: something on the way was just moved
		case unix.ENOSYS, unix.EPERM, unix.E2BIG: // an old kernel, or a sandbox that knows only old ones
			return openSteps(fd, path)
		default:
			return f, err
		}
	}
}

// openSteps opens the directory path below fd name by name, and follows no link.
func openSteps(fd int, path string) (int, error) {
	at, err := openDir(fd, ".")
	for name := range strings.SplitSeq(path, "/") {
		if err != nil {
			return -1, err
		}
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			unix.Close(at)
			return -1, unix.EXDEV
		}
		var next int
		next, err = openDir(at, name)
		if err == unix.ENOTDIR {
			var st unix.Stat_t
			if lstatAt(at, name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
				err = unix.ELOOP
			}
		}
		unix.Close(at)
		at = next
	}
	return at, err
}

// timesFor leaves the time of the last access as it is.
func timesFor(mtime int64) []unix.Timespec {
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime)}
}

// setTime sets the modification time of the open file.
func setTime(fd int, mtime int64) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime)}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// renameNew renames unless there is something called to. The kernel or the file
// system may not know how: errNoSuchWay.
func renameNew(fromFd int, from string, toFd int, to string) error {
	if oldKernel {
		return errNoSuchWay
	}
	return knownWay(unix.Renameat2(fromFd, from, toFd, to, unix.RENAME_NOREPLACE))
}

// exchange gives two names each other's file.
func exchange(fromFd int, from string, toFd int, to string) error {
	if oldKernel {
		return errNoSuchWay
	}
	return knownWay(unix.Renameat2(fromFd, from, toFd, to, unix.RENAME_EXCHANGE))
}

func knownWay(err error) error {
	switch err {
	case unix.ENOSYS, unix.EINVAL, unix.EOPNOTSUPP:
		return errNoSuchWay
	}
	return err
}
