package worktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
)

// Targets returns the targets that bring an entry back: for each of files what
// stands there in the payload, and goes into the directory that dirs has for the
// first part of its path. Files for whose first part dirs has nothing are left
// out.
func Targets(ctx context.Context, r objects.Reader, payload objects.Entries, files []entry.Files, dirs map[string]string) ([]Target, error) {
	var targets []Target
	for _, f := range files {
		first, rest, _ := strings.Cut(f.Path, "/")
		dir, ok := dirs[first]
		if !ok {
			continue
		}
		e, ok := payload.Find(first)
		if ok && rest != "" {
			var err error
			if e, err = trees.Lookup(ctx, r, e.ID, rest); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Path, err)
			}
		} else if !ok {
			return nil, fmt.Errorf("%s: %w", f.Path, objects.ErrNotFound)
		}
		names := strings.Split(rest, "/")
		for i, name := range names {
			names[i] = entry.UnescapeName(name)
		}
		targets = append(targets, Target{
			Dir: dir, Name: strings.Join(names, "/"), Mode: e.Mode, ID: e.ID, Modes: f.Modes, Times: f.Times,
		})
	}
	return targets, nil
}

// A target is a Target on its way.
type target struct {
	Target
	want  want     // what is to stand there
	above *wantDir // where it has its name

	base    int      // Dir, or -1 if it is absent
	parent  int      // the directory that the target has its name in, or -1 if it is absent
	ground  int      // the nearest directory to parent that is there
	mount   mount    // of ground
	missing []string // names on the way from base to parent, if that is absent
	name    string   // in parent; of no use to a Dir that exists, which is never replaced
	top     int      // the target itself if it is a directory now, else -1
	made    []string // directories made on the way
}

// shown is what errors call a path below the target.
func (t *target) shown(path string) string {
	return filepath.Join(t.Dir, t.Name, path)
}

// openTarget opens what there is of the way to the target.
func openTarget(t Target) (*target, error) {
	p := &target{Target: t, base: -1, parent: -1, ground: -1, top: -1}
	if !t.Mode.Valid() {
		return p, fmt.Errorf("restore %s: mode %o", p.shown(""), t.Mode)
	}
	p.Dir = filepath.Clean(t.Dir)
	if t.Name == "" {
		if !t.Mode.IsDir() {
			return p, fmt.Errorf("restore to %s: a file wants a name in a directory", t.Dir)
		}
		return p, p.openDir()
	}
	names := strings.Split(t.Name, "/")
	for _, name := range names {
		if err := objects.CheckName(name); err != nil {
			return p, fmt.Errorf("restore to %s below %s: %w", t.Name, t.Dir, err)
		}
	}
	last := len(names) - 1
	p.name = names[last]
	return p, p.openWay(names[:last])
}

// openDir is for a target that is Dir itself.
func (t *target) openDir() (err error) {
	t.name = filepath.Base(t.Dir)
	if t.top, err = openAny(t.Dir); err == nil {
		return t.stand(t.top)
	} else if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if t.parent, err = openAny(filepath.Dir(t.Dir)); err == nil {
		return t.stand(t.parent)
	} else if !errors.Is(err, unix.ENOENT) {
		return err
	}
	return t.findGround(filepath.Dir(t.Dir))
}

// openWay is for a target below Dir. Names lead to the directory it is in.
func (t *target) openWay(names []string) (err error) {
	if t.base, err = openAny(t.Dir); errors.Is(err, unix.ENOENT) {
		t.missing = names
		return t.findGround(t.Dir)
	} else if err != nil {
		return err
	}
	t.parent, err = openBeneath(t.base, strings.Join(names, "/"))
	switch {
	case err == nil:
		return t.stand(t.parent)
	case errors.Is(err, unix.ENOENT):
		t.parent, t.missing = -1, names
		return t.stand(t.base)
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP):
		return fmt.Errorf("restore %s: a symbolic link on the way leads out of %s", t.Name, t.Dir)
	}
	return pathError("open", filepath.Join(t.Dir, filepath.Join(names...)), err)
}

// findGround looks upwards from dir for a directory that exists.
func (t *target) findGround(dir string) error {
	for {
		fd, err := openAny(dir)
		if err == nil {
			defer unix.Close(fd)
			return t.stand(fd)
		}
		up := filepath.Dir(dir)
		if !errors.Is(err, unix.ENOENT) || up == dir {
			return err
		}
		dir = up
	}
}

func (t *target) stand(fd int) (err error) {
	if t.ground, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		t.ground = -1
		return pathError("open", t.shown(""), err)
	}
	t.mount, err = mountOf(fd)
	return pathError("stat", t.shown(""), err)
}

// openAny opens a directory to which any links may lead. It returns -1 for none.
func openAny(dir string) (int, error) {
	fd, err := openAt(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, pathError("open", dir, err)
	}
	return fd, nil
}

// makeWay makes what is missing of the directories that lead to the target.
func (t *target) makeWay() (err error) {
	if t.top >= 0 || t.parent >= 0 {
		return nil
	}
	if t.Name == "" {
		if err := t.mkdirAll(filepath.Dir(t.Dir)); err != nil {
			return err
		}
		t.parent, err = openAny(filepath.Dir(t.Dir))
		return err
	}
	if t.base < 0 {
		if err := t.mkdirAll(t.Dir); err != nil {
			return err
		}
		if t.base, err = openAny(t.Dir); err != nil {
			return err
		}
	}
	// Name by name: the first ones may exist, as links even.
	for i, name := range t.missing {
		above, err := openBeneath(t.base, strings.Join(t.missing[:i], "/"))
		if err != nil {
			return pathError("open", filepath.Join(t.Dir, filepath.Join(t.missing[:i]...)), err)
		}
		made := filepath.Join(t.Dir, filepath.Join(t.missing[:i+1]...))
		err = hooked("mkdir", made, func() error { return unix.Mkdirat(above, name, 0o777) })
		unix.Close(above)
		if err == nil {
			t.made = append(t.made, made)
		} else if err != unix.EEXIST {
			return pathError("mkdir", made, err)
		}
	}
	if t.parent, err = openBeneath(t.base, strings.Join(t.missing, "/")); err != nil {
		return pathError("open", filepath.Dir(t.shown("")), err)
	}
	return nil
}

// mkdirAll is os.MkdirAll, but remembers what it has made.
func (t *target) mkdirAll(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if up := filepath.Dir(dir); up != dir {
		if err := t.mkdirAll(up); err != nil {
			return err
		}
	}
	err := hooked("mkdir", dir, func() error { return unix.Mkdir(dir, 0o777) })
	if err == nil {
		t.made = append(t.made, dir)
	} else if err == unix.EEXIST {
		return nil // if it is no directory, whoever opens it will say so
	}
	return pathError("mkdir", dir, err)
}

// unmakeWay removes the directories that makeWay has made, if they are empty.
func (t *target) unmakeWay() {
	for i := len(t.made) - 1; i >= 0; i-- {
		_ = unix.Rmdir(t.made[i])
	}
	t.made = nil
}

func (t *target) close() {
	for _, fd := range [...]int{t.base, t.parent, t.ground, t.top} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
