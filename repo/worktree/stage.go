package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A stage is a directory in which new files wait, on the file system that they
// will be on, and afterwards what they have replaced.
type stage struct {
	dir   *wantDir // where it is
	mount mount
	slots int   // names given out
	files int64 // that it will hold, and directories
	bytes int64

	at   int // d, open
	name string
	fd   int // -1 until it is made
}

// hook, if it is set, is asked before each step that changes the disk. It is for
// tests, which let steps fail.
var hook func(op, path string) error

func hooked(op, path string, do func() error) error {
	if hook != nil {
		if err := hook(op, path); err != nil {
			return err
		}
	}
	return do()
}

// prepare makes the stages, and in them the directories that are new.
func (s *restore) prepare(ctx context.Context) error {
	for _, w := range s.ways {
		if err := w.make(); err != nil {
			return err
		}
	}
	for _, st := range s.stages {
		if err := st.make(); err != nil {
			return err
		}
	}
	// One level after the other: what is on the same level can be made at once.
	slices.SortStableFunc(s.newDirs, func(a, b job) int { return cmp.Compare(a.want.dir.depth, b.want.dir.depth) })
	for rest := s.newDirs; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].want.dir.depth == rest[0].want.dir.depth {
			n++
		}
		if err := s.mkdirs(ctx, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// mkdirs makes directories with all permissions for the owner: what is to be in
// them comes first.
func (s *restore) mkdirs(ctx context.Context, jobs []job) error {
	return eachPart(ctx, s.o.Parallel, jobs, func(j *job) error {
		err := hooked("mkdir", j.shown(), func() error {
			return mkdirAt(j.unit.stage.fd, j.path, uint32(j.want.perm)&0o777|0o700)
		})
		if err == unix.EEXIST {
			return j.collision()
		}
		return pathError("mkdir", j.shown(), err)
	})
}

// A CollisionError says that two names of a tree are one to the file system, as
// where it folds case.
type CollisionError struct {
	Dir         string
	Name, Name2 string
}

func (e *CollisionError) Error() string {
	return fmt.Sprintf("restore to %s: %q and %q are the same name on this file system", e.Dir, e.Name, e.Name2)
}

// collision is what it means that something in the stage is called like j.
func (j *job) collision() error {
	e := &CollisionError{Dir: j.dir.shown(""), Name: j.want.name, Name2: j.want.name}
	var here, other unix.Stat_t
	parent := strings.TrimSuffix(strings.TrimSuffix(j.path, j.want.name), "/")
	if lstatAt(j.unit.stage.fd, j.path, &here) != nil {
		return e
	}
	for i := range j.dir.wants {
		w := &j.dir.wants[i]
		if w == j.want || lstatAt(j.unit.stage.fd, below(parent, w.name), &other) != nil {
			continue
		}
		if inodeOf(&other) == inodeOf(&here) {
			e.Name2 = w.name
			return e
		}
	}
	return e
}

// staleAfter is how old a stage is at least that nobody holds: younger ones may
// be about to be locked.
var staleAfter = time.Minute // a variable for tests

// make makes the stage.
func (st *stage) make() (err error) {
	if st.at, err = st.dir.open(); err != nil {
		return pathError("open", st.dir.shown(""), err)
	}
	st.removeStale()
	st.name = stagePrefix + strconv.FormatUint(rand.Uint64(), 36)
	mkdir := func() error { return unix.Mkdirat(st.at, st.name, 0o700) }
	err = hooked("mkdir", st.name, mkdir)
	if err == unix.EACCES && st.dir.force() == nil {
		err = mkdir()
	}
	if err != nil {
		err = pathError("mkdir", st.dir.place.shown(below(st.dir.path, st.name)), err)
		st.close()
		return err
	}
	st.dir.staged = true
	if st.fd, err = openDir(st.at, st.name); err != nil {
		return pathError("open", st.name, err)
	}
	// Held as long as this process lives: see removeStale.
	_ = unix.Flock(st.fd, unix.LOCK_EX|unix.LOCK_NB)
	return nil
}

// removeStale removes the stages that killed processes have left beside this one.
func (st *stage) removeStale() {
	var stale []string
	_ = dirNames(st.at, make([]byte, 8<<10), func(name string, _ uint8) {
		if strings.HasPrefix(name, stagePrefix) {
			stale = append(stale, name)
		}
	})
	for _, name := range stale {
		fd, err := openDir(st.at, name)
		if err != nil {
			continue
		}
		var s unix.Stat_t
		if fstat(fd, &s) == nil && time.Since(time.Unix(s.Ctim.Unix())) > staleAfter &&
			unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = removeAll(st.at, name)
		}
		unix.Close(fd)
	}
}

// remove removes the stage and all that is in it.
func (st *stage) remove() error {
	if st.fd < 0 {
		return nil
	}
	err := removeAll(st.at, st.name)
	st.close()
	return pathError("remove", st.dir.place.shown(below(st.dir.path, st.name)), err)
}

func (st *stage) close() {
	unix.Close(st.at)
	if st.fd >= 0 {
		unix.Close(st.fd)
		st.fd = -1
	}
}

// timeDirs gives the new directories their times, but for those that are units:
// these have to be moved first.
func (s *restore) timeDirs(ctx context.Context) error {
	return eachPart(ctx, s.o.Parallel, s.newDirs, func(j *job) error {
		if j.path == j.unit.slot || j.want.mtime == noTime {
			return nil
		}
		return pathError("set time of", j.shown(), setTimeAt(j.unit.stage.fd, j.path, j.want.mtime))
	})
}

// closeDirs sets the permissions of new directories, from the bottom up: who takes
// his own permission to search a directory reaches nothing in it any more.
func (s *restore) closeDirs() error {
	for i := range slices.Backward(s.newDirs) {
		j := &s.newDirs[i]
		if j.path == j.unit.slot {
			continue
		}
		var st unix.Stat_t
		if err := lstatAt(j.unit.stage.fd, j.path, &st); err != nil {
			return pathError("stat", j.shown(), err)
		}
		if !j.want.wrongPerm(&st) {
			continue
		}
		if err := chmodAt(j.unit.stage.fd, j.path, uint32(j.want.perm)); err != nil {
			return pathError("chmod", j.shown(), err)
		}
	}
	return nil
}

var errNoSuchWay = errors.New("the file system cannot do that")
