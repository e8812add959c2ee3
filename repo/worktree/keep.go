package worktree

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), uint64(st.Ino)} }

// A keeper knows the paths that are neither saved nor changed, by what they are
// and not by what they are called.
type keeper struct {
	kept  []inode
	above []inode // directories that a kept path lies in
}

func newKeeper(paths []string) *keeper {
	k := &keeper{}
	for _, path := range paths {
		var st unix.Stat_t
		if lstatAt(unix.AT_FDCWD, path, &st) != nil {
			continue
		}
		k.kept = append(k.kept, inodeOf(&st))
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			real, err = filepath.Abs(real)
		}
		if err != nil || unix.Lstat(real, &st) != nil {
			continue
		}
		k.kept = append(k.kept, inodeOf(&st)) // path may be a link
		for dir := filepath.Dir(real); ; dir = filepath.Dir(dir) {
			if unix.Lstat(dir, &st) == nil {
				k.above = append(k.above, inodeOf(&st))
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return k
}

// keeps reports whether st is that of a kept path.
func (k *keeper) keeps(st *unix.Stat_t) bool { return slices.Contains(k.kept, inodeOf(st)) }

// keepsIn reports whether st is that of a kept path, or of a directory that one
// lies in.
func (k *keeper) keepsIn(st *unix.Stat_t) bool {
	return k.keeps(st) || isDir(st) && slices.Contains(k.above, inodeOf(st))
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// holds reports whether the open directory is, or lies in, a kept path.
func (k *keeper) holds(fd int) (bool, error) {
	if len(k.kept) == 0 {
		return false, nil
	}
	at := fd
	defer func() { leave(fd, at) }()
	for last := (inode{}); ; {
		var st unix.Stat_t
		if err := fstat(at, &st); err != nil {
			return false, err
		}
		if k.keeps(&st) {
			return true, nil
		}
		if inodeOf(&st) == last {
			return false, nil // the root is its own parent
		}
		last = inodeOf(&st)
		up, err := openAt(at, "..", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err == unix.EACCES {
			return false, nil // whoever may not look there has nothing to keep there
		} else if err != nil {
			return false, err
		}
		leave(fd, at)
		at = up
	}
}
