package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A way leads to the directory that targets have their names in: from a
// directory that any links may lead to, along a path that must not leave it. It
// may be missing in part.
type way struct {
	dir, path string

	opened bool
	base   int      // dir, or -1 if it is absent
	parent int      // where the way ends, or -1 if that is absent
	ground int      // the last directory on it that is there
	mount  mount    // of ground
	made   []string // directories that were made
}

// wayTo returns the way along path from dir. Targets side by side share one.
func (s *restore) wayTo(dir, path string) *way {
	if n := len(s.ways); n > 0 && s.ways[n-1].dir == dir && s.ways[n-1].path == path {
		return s.ways[n-1]
	}
	w := &way{dir: dir, path: path, base: -1, parent: -1, ground: -1}
	s.ways = append(s.ways, w)
	return w
}

// open opens what there is of the way.
func (w *way) open() (err error) {
	w.opened = true
	if w.base, err = openAny(w.dir); errors.Is(err, unix.ENOENT) {
		return w.findGround(w.dir)
	} else if err != nil {
		return err
	}
	if w.parent, err = w.openTo(w.path); err == nil {
		return w.standOn(w.parent)
	} else if errors.Is(err, unix.ENOENT) {
		return w.standOn(w.base)
	}
	return err
}

// openTo opens a directory on the way.
func (w *way) openTo(path string) (int, error) {
	fd, err := openBeneath(w.base, path)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ELOOP) {
		return -1, fmt.Errorf("restore %s: a symbolic link leads out of %s", filepath.Join(w.dir, path), w.dir)
	} else if err != nil {
		return -1, pathError("open", filepath.Join(w.dir, path), err)
	}
	return fd, nil
}

// findGround looks upwards from dir for a directory that is there.
func (w *way) findGround(dir string) error {
	for {
		fd, err := openAny(dir)
		if err == nil {
			defer unix.Close(fd)
			return w.standOn(fd)
		}
		up := filepath.Dir(dir)
		if !errors.Is(err, unix.ENOENT) || up == dir {
			return err
		}
		dir = up
	}
}

func (w *way) standOn(fd int) (err error) {
	if w.ground, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		w.ground = -1
		return pathError("open", w.dir, err)
	}
	w.mount, err = mountOf(fd)
	return pathError("stat", w.dir, err)
}

// openAny opens a directory to which any links may lead. It returns -1 for none.
func openAny(dir string) (int, error) {
	fd, err := openAt(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, pathError("open", dir, err)
	}
	return fd, nil
}

// make makes what is missing of the way.
func (w *way) make() (err error) {
	if !w.opened || w.parent >= 0 {
		return nil
	}
	if w.base < 0 {
		if err := w.mkdirAll(w.dir); err != nil {
			return err
		}
		if w.base, err = openAny(w.dir); err != nil {
			return err
		}
	}
	// Name by name: the first ones may be there, as links even.
	done := ""
	for _, name := range splitPath(w.path) {
		above, err := w.openTo(done)
		if err != nil {
			return err
		}
		done = below(done, name)
		made := filepath.Join(w.dir, done)
		err = hooked("mkdir", made, func() error { return unix.Mkdirat(above, name, 0o777) })
		unix.Close(above)
		if err == nil {
			w.made = append(w.made, made)
		} else if err != unix.EEXIST {
			return pathError("mkdir", made, err)
		}
	}
	w.parent, err = w.openTo(w.path)
	return err
}

func splitPath(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// mkdirAll is os.MkdirAll, but remembers what it has made.
func (w *way) mkdirAll(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if up := filepath.Dir(dir); up != dir {
		if err := w.mkdirAll(up); err != nil {
			return err
		}
	}
	err := hooked("mkdir", dir, func() error { return unix.Mkdir(dir, 0o777) })
	if err == nil {
		w.made = append(w.made, dir)
	} else if err == unix.EEXIST {
		return nil // if it is no directory, whoever opens it will say so
	}
	return pathError("mkdir", dir, err)
}

// unmake removes the directories that make has made, if they are empty.
func (w *way) unmake() {
	for _, dir := range slices.Backward(w.made) {
		_ = unix.Rmdir(dir)
	}
	w.made = nil
}

func (w *way) close() {
	for _, fd := range [...]int{w.base, w.parent, w.ground} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
