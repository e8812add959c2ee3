//go:build unix && !linux

package worktree

import (
	"strings"

	"golang.org/x/sys/unix"
)

// A mount is a mounted file system: files can be renamed within it.
type mount struct {
	dev uint64
}

func mountOf(fd int) (mount, error) {
	var st unix.Stat_t
	err := fstat(fd, &st)
	return mount{dev: uint64(st.Dev)}, err
}

func openBeneath(fd int, path string) (int, error) { return openInside(fd, path) }

// openInside opens the directory path below fd name by name, and follows no link.
func openInside(fd int, path string) (int, error) {
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
		unix.Close(at)
		at = next
	}
	return at, err
}

func timesFor(mtime int64) []unix.Timespec {
	t := unix.NsecToTimespec(mtime)
	return []unix.Timespec{t, t}
}

// setTime sets the modification time of the open file, to the microsecond.
func setTime(fd int, mtime int64) error {
	tv := unix.NsecToTimeval(mtime)
	return unix.Futimes(fd, []unix.Timeval{tv, tv})
}

func renameNew(fromFd int, from string, toFd int, to string) error { return errNoSuchWay }
func exchange(fromFd int, from string, toFd int, to string) error  { return errNoSuchWay }
