package worktree

import (
	"context"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/repo/statcache"
)

// A job is something to make in a stage.
type job struct {
	unit *unit
	dir  *wantDir // that it is to be in
	want *want
	path string // in the stage

	stat statcache.Stat // once it is written, if it is a file
}

func (j *job) shown() string { return j.dir.shown(j.want.name) }

// A NoRoomError says that a file system has too little room for what is to be
// written. Nothing was changed.
type NoRoomError struct {
	Path       string
	Need, Have int64 // bytes, or files
	Files      bool  // it is files that there are too many of
}

func (e *NoRoomError) Error() string {
	unit := "bytes"
	if e.Files {
		unit = "files"
	}
	return fmt.Sprintf("restore to %s: wants room for %d %s, the file system has %d", e.Path, e.Need, unit, e.Have)
}

// Is makes it answer to ENOSPC.
func (e *NoRoomError) Is(target error) bool { return target == unix.ENOSPC }

// measure lists what has to be written, finds out how big it is, and refuses what
// the disk has no room for.
func (s *restore) measure(ctx context.Context) error {
	files := 0
	for _, u := range s.units {
		files += u.want.files()
	}
	s.jobs = make([]job, 0, files)
	for _, u := range s.units {
		s.assign(u)
		if u.want != nil {
			s.list(u, u.dir, u.want, u.slot)
		}
	}
	err := eachPart(ctx, s.o.Parallel, s.jobs, func(j *job) error { return s.sizeOf(ctx, j.dir, j.want) })
	if err != nil {
		return err
	}
	for i := range s.jobs {
		j := &s.jobs[i]
		j.unit.files++
		if j.unit.bytes += j.want.size; j.unit.bytes < 0 {
			return fmt.Errorf("restore %s: %w", j.unit.shown(), ErrTooBig)
		}
	}
	for i := range s.newDirs {
		s.newDirs[i].unit.dirs++
	}
	for _, u := range s.units {
		s.report.Written += u.files
		u.stage.files += int64(u.files + u.dirs)
		s.report.Bytes += u.bytes
		if u.stage.bytes += u.bytes; u.stage.bytes < 0 || s.report.Bytes < 0 {
			return fmt.Errorf("restore %s: %w", u.shown(), ErrTooBig)
		}
	}
	for _, st := range s.stages {
		if err := st.checkRoom(); err != nil {
			return err
		}
	}
	return nil
}

// files counts the files and links below a want, which may be nil.
func (w *want) files() (n int) {
	switch {
	case w == nil:
		return 0
	case w.dir == nil:
		return 1
	}
	for i := range w.dir.wants {
		n += w.dir.wants[i].files()
	}
	return n
}

// assign gives the unit a stage on the file system that it goes to.
func (s *restore) assign(u *unit) {
	m := u.dir.mount
	for _, st := range s.stages {
		if st.mount == m {
			u.stage = st
		}
	}
	if u.stage == nil {
		// The top of the target is the best place: it is there, and ours.
		dir := u.dir
		if top := dir.place.want.dir; !dir.above && top.mount == m {
			dir = top
		}
		u.stage = &stage{dir: dir, mount: m, fd: -1}
		s.stages = append(s.stages, u.stage)
	}
	u.slot = strconv.Itoa(u.stage.slots)
	u.stage.slots++
}

// list adds what is to be made for w, in d, which is to be called path.
func (s *restore) list(u *unit, d *wantDir, w *want, path string) {
	if w.leave {
		s.report.Skipped = append(s.report.Skipped, d.shown(w.name))
		return
	}
	if !w.mode.IsDir() {
		s.jobs = append(s.jobs, job{unit: u, dir: d, want: w, path: path})
		return
	}
	s.newDirs = append(s.newDirs, job{unit: u, dir: d, want: w, path: path})
	for i := range w.dir.wants {
		sub := &w.dir.wants[i]
		s.list(u, w.dir, sub, below(path, sub.name))
	}
}

// checkRoom compares what the stage will hold with what the disk does.
func (st *stage) checkRoom() error {
	fd := st.dir.place.ground
	if !st.dir.above {
		var err error
		if fd, err = st.dir.open(); err != nil {
			return pathError("open", st.dir.shown(""), err)
		}
		defer unix.Close(fd)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Blocks == 0 {
		return nil // it does not tell, as network file systems may
	}
	free := int64(fs.Bavail)
	if unix.Geteuid() == 0 {
		free = int64(fs.Bfree)
	}
	if have := free * int64(fs.Bsize); st.bytes > have {
		return &NoRoomError{Path: st.dir.shown(""), Need: st.bytes, Have: have}
	}
	if fs.Files > 0 && st.files > int64(fs.Ffree) {
		return &NoRoomError{Path: st.dir.shown(""), Need: st.files, Have: int64(fs.Ffree), Files: true}
	}
	return nil
}

// note tells of the changes that are about to be made.
func (s *restore) note() {
	for _, u := range s.units {
		if u.want == nil {
			s.report.Deleted++
		}
		if s.o.Note != nil {
			s.o.Note(Change{What: u.verb(), Path: u.shown(), Files: u.files, Bytes: u.bytes})
		}
	}
	for _, f := range s.right {
		s.noteFix(f)
	}
	for _, d := range s.dirs {
		s.noteFix(fix{want: d.want, dir: d, was: d.was})
	}
}

func (s *restore) noteFix(f fix) {
	if !f.needed() {
		return
	}
	s.report.Adjusted++
	if s.o.Note != nil {
		path := f.dir.shown(f.want.name)
		if f.want.mode.IsDir() {
			path = f.dir.shown("")
		}
		s.o.Note(Change{What: Adjust, Path: path})
	}
}
