package worktree

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/repo/statcache"
)

// waitFrom is from how many files on it is worth waiting for the clock's next
// tick so that the stat cache can know them.
const waitFrom = 64

// recordMade tells the stat cache of the files in the stages. It is called when
// nobody else has seen them yet.
func (s *restore) recordMade() {
	if s.o.Cache == nil {
		return
	}
	youngest := int64(0)
	count := 0
	for i := range s.jobs {
		if j := &s.jobs[i]; j.want.mtime == noTime && j.path != j.unit.slot {
			youngest = max(youngest, j.stat.Ctime)
			count++
		}
	}
	for deadline := time.Now().Add(statcache.Racy); count >= waitFrom && statcache.Clock() <= youngest && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	now := statcache.Clock()
	for i := range s.jobs {
		if j := &s.jobs[i]; j.path != j.unit.slot {
			s.o.Cache.RecordMade(j.stat, j.want.id, now)
		}
	}
}

// recordMoved tells the stat cache of the files that were moved themselves: a
// rename changes the status.
func (s *restore) recordMoved() {
	if s.o.Cache == nil {
		return
	}
	var p publisher
	defer p.close()
	for i := range s.jobs {
		j := &s.jobs[i]
		if j.path != j.unit.slot || p.enter(j.dir) != nil {
			continue
		}
		var st unix.Stat_t
		if lstatAt(p.fd, j.want.name, &st) != nil {
			continue
		}
		// Only the ctime may be another: else it is not the file that was made.
		now := statcache.StatOf(&st)
		before := j.stat
		before.Ctime = now.Ctime
		if now == before {
			s.o.Cache.RecordMade(now, j.want.id, now.Ctime)
		}
	}
}

// finish cleans up, and sets what could not be set before.
func (s *restore) finish() error {
	s.recordMoved()
	var errs []error
	for _, st := range s.stages {
		errs = append(errs, st.remove())
	}
	for _, f := range s.right {
		if f.needed() {
			errs = append(errs, s.adjust(f))
		}
	}
	// The directories that were there, and those that were moved: the deepest
	// first, as adjusting one does not change those above.
	dirs := slices.Clone(s.dirs)
	for _, u := range s.units {
		if u.want != nil && u.want.dir != nil {
			dirs = append(dirs, u.want.dir)
		}
	}
	slices.SortFunc(dirs, func(a, b *wantDir) int { return -cmp.Compare(a.depth, b.depth) })
	for _, d := range dirs {
		errs = append(errs, s.adjustDir(d))
	}
	slices.Sort(s.report.Unset)
	return errors.Join(errs...)
}

// adjust sets permissions and time of a file or link that was right otherwise.
func (s *restore) adjust(f fix) error {
	fd, err := f.dir.open()
	if err != nil {
		return pathError("open", f.dir.shown(""), err)
	}
	defer unix.Close(fd)
	path := f.dir.shown(f.want.name)
	var st unix.Stat_t
	if err := lstatAt(fd, f.want.name, &st); err != nil || inodeOf(&st) != inodeOf(&f.was) || st.Mtim != f.was.Mtim {
		return nil // somebody has changed it meanwhile: it is his now
	}
	if f.want.wrongPerm(&st) {
		err = hooked("chmod", path, func() error { return chmodAt(fd, f.want.name, uint32(f.want.perm)) })
	}
	if err == nil && f.want.wrongTime(&st) {
		err = hooked("utimes", path, func() error { return setTimeAt(fd, f.want.name, f.want.mtime) })
	}
	if err != nil {
		return s.unset("adjust", path, err)
	}
	if err := lstatAt(fd, f.want.name, &st); err == nil && st.Size == f.was.Size {
		s.o.Cache.RecordMade(statcache.StatOf(&st), f.want.id, st.Ctim.Nano())
	}
	return nil
}

// adjustDir sets permissions and time of a directory, now that nothing is moved
// in it any more.
func (s *restore) adjustDir(d *wantDir) error {
	if !d.touched && !d.staged && !d.forced && !(fix{want: d.want, was: d.was}).needed() {
		return nil
	}
	path := d.shown("")
	fd, err := d.open()
	if err != nil {
		return pathError("open", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return pathError("stat", path, err)
	}
	mtime := d.want.mtime
	if mtime == noTime && !d.touched {
		mtime = d.was.Mtim.Nano() // only the stage has changed it
	}
	if mtime != noTime && mtime != st.Mtim.Nano() {
		err = hooked("utimes", path, func() error { return setTime(fd, mtime) })
	}
	if err == nil && d.want.wrongPerm(&st) {
		err = hooked("chmod", path, func() error { return unix.Fchmod(fd, uint32(d.want.perm)) })
	}
	return s.unset("adjust", path, err)
}

// unset notes what only its owner may set.
func (s *restore) unset(op, path string, err error) error {
	if err == unix.EPERM {
		s.report.Unset = append(s.report.Unset, path)
		return nil
	}
	return pathError(op, path, err)
}

// removeAll removes what is called name in the directory dir, and all that is in
// it, whatever the permissions are. It follows no link.
func removeAll(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	fd, openErr := openDir(dir, name)
	if openErr == unix.EACCES {
		if openErr = unix.Fchmodat(dir, name, 0o700, 0); openErr == nil {
			fd, openErr = openDir(dir, name)
		}
	}
	if openErr != nil {
		return err // it is no directory, then
	}
	defer unix.Close(fd)
	var names []string
	err = dirNames(fd, make([]byte, 8<<10), func(name string, _ uint8) { names = append(names, name) })
	for i, name := range names {
		if err != nil {
			return err
		}
		err = removeAll(fd, name)
		if err == unix.EACCES && i == 0 {
			if err = unix.Fchmod(fd, 0o700); err == nil {
				err = removeAll(fd, name)
			}
		}
	}
	if err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}
