package worktree

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A move says how a unit came to its place, and so how it gets back.
type move uint8

const (
	unmoved   move = iota
	added          // it was moved to its place
	exchanged      // it was moved, and the old one took its slot
	replaced       // the old one was moved away first, to slotOld, and then it came
	linked         // the old one got a second name, slotOld, and then it came
	removed        // the old one was moved to the slot
)

// slotOld is where the old one is kept if it could not take the slot.
func (u *unit) slotOld() string { return u.slot + ".old" }

// errRaced says that something has come or gone since it was compared.
var errRaced = errors.New("somebody else changes it at the same time")

// publish moves everything to its place, or nothing.
func (s *restore) publish(ctx context.Context) error {
	s.recordMade()
	var p publisher
	defer p.close()
	for i, u := range s.units {
		err := ctx.Err()
		if err == nil {
			err = p.publish(u)
		}
		if err != nil {
			return errors.Join(err, p.undo(s.units[:i+1]))
		}
	}
	return nil
}

// A publisher keeps open the directory that it works in.
type publisher struct {
	dir *wantDir
	fd  int
}

func (p *publisher) enter(d *wantDir) (err error) {
	if p.dir == d {
		return nil
	}
	p.close()
	if p.fd, err = d.open(); err != nil {
		return pathError("open", d.shown(""), err)
	}
	p.dir = d
	return nil
}

func (p *publisher) close() {
	if p.dir != nil {
		unix.Close(p.fd)
		p.dir = nil
	}
}

func (p *publisher) publish(u *unit) error {
	if err := p.enter(u.dir); err != nil {
		return err
	}
	u.dir.touched = true
	err := hooked("rename", u.shown(), func() error { return u.move(p.fd) })
	if (err == unix.EACCES || err == unix.EPERM) && !u.dir.forced && u.dir.force() == nil {
		err = u.move(p.fd)
	}
	if err == unix.EACCES && u.old {
		// A directory that leaves the one that it is in must be writable itself.
		if err = u.open(p.fd); err == nil {
			err = u.move(p.fd)
		}
	}
	switch {
	case err == unix.EEXIST && !u.old:
		err = u.inTheWay(p.fd)
	case err == unix.ENOENT:
		err = errRaced // what was there is gone
	}
	return pathError(string(u.verb()), u.shown(), err)
}

// move moves the unit to its name in dir.
func (u *unit) move(dir int) error {
	st := u.stage.fd
	switch {
	case u.want == nil:
		return u.step(removed, unix.Renameat(dir, u.name, st, u.slot))
	case !u.old:
		err := renameNew(st, u.slot, dir, u.name)
		if err == errNoSuchWay {
			var now unix.Stat_t
			if err = lstatAt(dir, u.name, &now); err == nil {
				return unix.EEXIST
			}
			err = unix.Renameat(st, u.slot, dir, u.name)
		}
		return u.step(added, err)
	}
	if err := exchange(st, u.slot, dir, u.name); err != errNoSuchWay {
		return u.step(exchanged, err)
	}
	if u.want.dir == nil && unix.Linkat(dir, u.name, st, u.slotOld(), 0) == nil {
		return u.step(linked, unix.Renameat(st, u.slot, dir, u.name))
	}
	// Links are not to be had everywhere, and never of directories.
	if err := unix.Renameat(dir, u.name, st, u.slotOld()); err != nil {
		return err
	}
	err := unix.Renameat(st, u.slot, dir, u.name)
	if err != nil {
		return errors.Join(err, unix.Renameat(st, u.slotOld(), dir, u.name))
	}
	return u.step(replaced, nil)
}

// open gives the owner all permissions in the old directory.
func (u *unit) open(dir int) error {
	var st unix.Stat_t
	if err := lstatAt(dir, u.name, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.EACCES
	}
	u.oldPerm = uint32(st.Mode) & permBits
	return unix.Fchmodat(dir, u.name, u.oldPerm|0o700, 0)
}

func (u *unit) step(m move, err error) error {
	if err == nil {
		u.moved = m
	}
	return err
}

// undo moves everything back, the last first.
func (p *publisher) undo(units []*unit) error {
	var errs []error
	for _, u := range slices.Backward(units) {
		if u.moved == unmoved {
			continue
		}
		err := p.enter(u.dir)
		if err == nil {
			err = u.moveBack(p.fd)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("put back %s: %w", u.shown(), err))
		}
	}
	return errors.Join(errs...)
}

func (u *unit) moveBack(dir int) (err error) {
	st := u.stage.fd
	switch u.moved {
	case added:
		err = unix.Renameat(dir, u.name, st, u.slot)
	case exchanged:
		err = exchange(st, u.slot, dir, u.name)
	case linked:
		err = unix.Renameat(st, u.slotOld(), dir, u.name)
	case replaced:
		if err = unix.Renameat(dir, u.name, st, u.slot); err == nil {
			err = unix.Renameat(st, u.slotOld(), dir, u.name)
		}
	case removed:
		err = unix.Renameat(st, u.slot, dir, u.name)
	}
	if err == nil && u.oldPerm != 0 {
		err = unix.Fchmodat(dir, u.name, u.oldPerm, 0)
	}
	return u.step(unmoved, err)
}

// inTheWay says what stands where nothing was when it was compared: the same
// name in another case, or something new.
func (u *unit) inTheWay(dir int) error {
	var here, other unix.Stat_t
	if lstatAt(dir, u.name, &here) == nil {
		for i := range u.dir.wants {
			w := &u.dir.wants[i]
			if w != u.want && lstatAt(dir, w.name, &other) == nil && inodeOf(&other) == inodeOf(&here) {
				return &CollisionError{Dir: u.dir.shown(""), Name: u.name, Name2: w.name}
			}
		}
	}
	return errRaced
}
