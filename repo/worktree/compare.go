package worktree

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// A unit is what is moved in one step: a file, a link, or a directory that was
// not there before, with all that is in it.
type unit struct {
	dir  *wantDir // where it goes
	name string
	want *want // nil if something is only to go
	old  bool  // something has the name now

	files, dirs int   // that come with it
	bytes       int64 // that the files hold

	stage *stage
	slot  string // its name in the stage, and then that of what it replaces
	moved move

	oldPerm uint32 // if they had to be changed to move it
}

func (u *unit) shown() string { return u.dir.shown(u.name) }

func (u *unit) verb() Verb {
	switch {
	case u.want == nil:
		return Delete
	case u.old:
		return Replace
	}
	return Add
}

// A fix is a file or link on disk with the right content.
type fix struct {
	dir  *wantDir
	want *want
	was  unix.Stat_t
}

// needed reports whether permissions or times are to be set.
func (f fix) needed() bool { return f.want.wrongPerm(&f.was) || f.want.wrongTime(&f.was) }

func (w *want) wrongPerm(st *unix.Stat_t) bool {
	return w.mode != objects.ModeSymlink && uint16(st.Mode)&permBits != w.perm
}

func (w *want) wrongTime(st *unix.Stat_t) bool {
	return w.mtime != noTime && st.Mtim.Nano() != w.mtime
}

// findings are what a comparison has found.
type findings struct {
	units   []*unit
	dirs    []*wantDir // that exist
	right   []fix      // files with the right content
	unknown []fix      // files that may have the right content
	skipped []string
}

func (f *findings) add(other *findings) {
	f.units = append(f.units, other.units...)
	f.dirs = append(f.dirs, other.dirs...)
	f.right = append(f.right, other.right...)
	f.unknown = append(f.unknown, other.unknown...)
	f.skipped = append(f.skipped, other.skipped...)
}

// compare finds out what is on disk, and what is to be done about it.
func (s *restore) compare(ctx context.Context) error {
	todo := newStack[*wantDir]()
	top := &comparer{restore: s}
	for _, t := range s.places {
		if err := top.target(t); err != nil {
			return err
		}
	}
	todo.push(top.sub...)
	var mu sync.Mutex
	err := todo.drain(ctx, parallel(s.o.Parallel), func() func(*wantDir) error {
		c := &comparer{restore: s, buf: make([]byte, 64<<10)}
		return func(d *wantDir) error {
			err := c.compare(d)
			todo.push(c.sub...)
			mu.Lock()
			defer mu.Unlock()
			top.add(&c.findings)
			c.findings, c.sub = findings{}, c.sub[:0]
			return err
		}
	})
	s.findings = top.findings
	if err != nil {
		return err
	}
	if err := s.checkUnknown(ctx); err != nil {
		return err
	}
	slices.SortFunc(s.units, compareUnits)
	s.report.Kept, s.report.Skipped = len(s.right), s.skipped
	slices.Sort(s.report.Skipped)
	return nil
}

// compareUnits puts removals first: they may make room for the same name in
// another case.
func compareUnits(a, b *unit) int {
	if a.want == nil != (b.want == nil) {
		if a.want == nil {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.shown(), b.shown())
}

// A comparer compares directories, one after the other.
type comparer struct {
	*restore
	findings
	buf   []byte
	names []string
	sub   []*wantDir // to be compared next
}

// target compares what has the target's name.
func (c *comparer) target(t *target) error {
	if t.top >= 0 {
		if err := fstat(t.top, &t.want.dir.was); err != nil {
			return pathError("stat", t.shown(""), err)
		}
		c.sub = append(c.sub, t.want.dir)
		return nil
	}
	if t.parent < 0 {
		c.units = append(c.units, &unit{dir: t.above, name: t.name, want: &t.want})
		return nil
	}
	return c.name(t.above, t.parent, &t.want)
}

// compare compares a directory that exists.
func (c *comparer) compare(d *wantDir) error {
	fd, err := c.open(d)
	if err != nil {
		return pathError("open", d.shown(""), err)
	}
	defer unix.Close(fd)
	if d.mount, err = mountOf(fd); err != nil {
		return pathError("stat", d.shown(""), err)
	}
	c.dirs = append(c.dirs, d)
	c.names = c.names[:0]
	err = dirNames(fd, c.buf, func(name string, _ uint8) { c.names = append(c.names, name) })
	if err != nil {
		return pathError("read", d.shown(""), err)
	}
	slices.Sort(c.names)
	wanted := make([]bool, len(c.names))
	for i := range d.wants {
		w := &d.wants[i]
		at, there := slices.BinarySearch(c.names, w.name)
		if there {
			wanted[at] = true
		}
		switch {
		case w.leave:
			c.skipped = append(c.skipped, d.shown(w.name))
		case there:
			err = c.name(d, fd, w)
		default:
			c.units = append(c.units, &unit{dir: d, name: w.name, want: w})
		}
		if err != nil {
			return err
		}
	}
	if !c.o.Delete {
		return nil
	}
	return c.extra(d, fd, wanted)
}

// open opens a directory that was there when the one above it was compared.
func (c *comparer) open(d *wantDir) (int, error) {
	fd, err := d.open()
	if !errors.Is(err, unix.EACCES) || c.o.DryRun {
		return fd, err
	}
	if err := d.force(); err != nil {
		return -1, err
	}
	return d.open()
}

// open opens the directory where it is on disk, and follows no link.
func (d *wantDir) open() (int, error) {
	switch t := d.place; {
	case d.above:
		return openDir(t.parent, "")
	case t.top >= 0:
		return openInside(t.top, d.path)
	default:
		return openInside(t.parent, below(t.name, d.path))
	}
}

// force gives the owner all permissions in the directory.
func (d *wantDir) force() error {
	at, path := d.place.top, d.path
	if at < 0 {
		at, path = d.place.parent, below(d.place.name, d.path)
	}
	if d.above {
		return unix.EACCES
	}
	d.forced = true
	return chmodAt(at, path, uint32(d.was.Mode)&permBits|0o700)
}

func (d *wantDir) chmod(perm uint32) error {
	fd, err := d.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, perm)
}

// name compares what is called as want says in d, which fd is.
func (c *comparer) name(d *wantDir, fd int, w *want) error {
	var st unix.Stat_t
	err := lstatAt(fd, w.name, &st)
	switch {
	case isGone(err):
		c.units = append(c.units, &unit{dir: d, name: w.name, want: w})
		return nil
	case err != nil:
		return pathError("stat", d.shown(w.name), err)
	case c.keep.keeps(&st):
		c.skipped = append(c.skipped, d.shown(w.name))
		return nil
	}
	now, known := modeOf(uint32(st.Mode))
	isLink := w.mode == objects.ModeSymlink
	switch {
	case !known || now.IsDir() != w.mode.IsDir() || (now == objects.ModeSymlink) != isLink:
	case w.dir != nil:
		w.dir.was = st
		c.sub = append(c.sub, w.dir)
		return nil
	default:
		if id, ok := c.o.Cache.Lookup(statcache.StatOf(&st)); !ok {
			c.unknown = append(c.unknown, fix{d, w, st})
			return nil
		} else if id == w.id {
			c.right = append(c.right, fix{d, w, st})
			return nil
		}
	}
	if c.keep.keepsIn(&st) {
		c.skipped = append(c.skipped, d.shown(w.name))
		return nil
	}
	c.units = append(c.units, &unit{dir: d, name: w.name, want: w, old: true})
	return nil
}

// extra finds what is in d, and is not wanted.
func (c *comparer) extra(d *wantDir, fd int, wanted []bool) error {
	for i, name := range c.names {
		if wanted[i] || strings.HasPrefix(name, stagePrefix) || name == gitDir && d.path == "" && !d.place.WithGit {
			continue
		}
		var st unix.Stat_t
		if err := lstatAt(fd, name, &st); isGone(err) {
			continue
		} else if err != nil {
			return pathError("stat", d.shown(name), err)
		}
		if !c.keep.keepsIn(&st) {
			c.units = append(c.units, &unit{dir: d, name: name, old: true})
		}
	}
	return nil
}
