// Package durable is the one home of durability: every file of a repository is
// created, written, synced, renamed, removed and locked through it.
//
// What it knows that no other package does: in which order that must happen so
// that after kill -9 or a power cut the old state is there or the new one,
// whole, and never a name that leads to half a file. Data first, name last:
//
//	f, err := durable.Create(dir)        // dir/tmp-…, which nobody reads
//	f.Write(…)
//	f.CommitAs(name, durable.Synced)     // sync file, rename, sync directory
//
// Every change it makes to the disk is a Step that passes through one hook, so
// that tests can fail it, cut it short, kill the process there, or forget what
// was not synced. See SetHook, and package internal/test for plans made of it.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sync says what a change survives once the call returns.
type Sync uint8

const (
	NoSync Sync = iota // kill -9, but not a power cut
	Synced             // both
)

// WriteFile replaces the file name with one that holds data, or makes it. A
// reader sees the old content or the new, never a mixture, whenever it looks.
func WriteFile(name string, data []byte, sync Sync) error {
	f, err := Create(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.CommitAs(name, sync)
}

// OpenAppend opens the file name for reading and for Append, and makes it if it
// is not there. Its name is not durable before SyncDir.
func OpenAppend(name string) (*os.File, error) {
	return openMake(name, os.O_RDWR|os.O_APPEND)
}

// OpenUpdate opens the file name for reading and for WriteAt, and makes it if it
// is not there. It is for files that may be lost or torn, such as caches of
// what can be computed again, and for those whose reader can tell.
func OpenUpdate(name string) (*os.File, error) {
	return openMake(name, os.O_RDWR)
}

// openMake opens a file that mostly exists: only making it is a step.
func openMake(name string, flag int) (*os.File, error) {
	f, err := os.OpenFile(name, flag, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	err = step(Step{Op: OpCreate, Path: name}, func(s Step) error {
		f, err = os.OpenFile(s.Path, flag|os.O_CREATE, 0o666)
		return err
	})
	if err != nil && f != nil {
		f.Close()
	}
	return f, err
}

// Append adds record to the end of f, which must come from OpenAppend, in one
// write(2), so that records of several processes never mix. If it fails, some
// first part of record may stand in the file: whoever reads it must be able to
// tell a whole record from a piece of one.
func Append(f *os.File, record []byte) error {
	return write(f, OpAppend, record, -1)
}

// WriteAt writes p into f at off.
func WriteAt(f *os.File, p []byte, off int64) error {
	return write(f, OpWrite, p, off)
}

// write is pwrite(2), or write(2) where off is negative.
func write(f *os.File, op Op, p []byte, off int64) error {
	if hook.Load() != nil {
		return hookedWrite(f, op, p, off)
	}
	_, err := rawWrite(f, p, off)
	return err
}

func hookedWrite(f *os.File, op Op, p []byte, off int64) error {
	return step(Step{Op: op, Path: f.Name(), File: f, Off: off, Data: p}, func(s Step) error {
		_, err := rawWrite(f, s.Data, off)
		return err
	})
}

func rawWrite(f *os.File, p []byte, off int64) (int, error) {
	if off < 0 {
		return f.Write(p)
	}
	return f.WriteAt(p, off)
}

// Truncate cuts f to size bytes, or extends it with zeros.
func Truncate(f *os.File, size int64) error {
	return step(Step{Op: OpTruncate, Path: f.Name(), File: f, Off: size}, func(Step) error {
		return f.Truncate(size)
	})
}

// SyncFile returns when all that was written to f survives a power cut. The
// file's name does only after SyncDir.
func SyncFile(f *os.File) error {
	return step(Step{Op: OpSync, Path: f.Name(), File: f}, func(Step) error { return f.Sync() })
}

// SyncDir returns when the names in dir, as they are now, survive a power cut.
func SyncDir(dir string) error {
	return step(Step{Op: OpSyncDir, Path: dir}, func(s Step) error {
		d, err := os.Open(s.Path)
		if err != nil {
			return err
		}
		defer d.Close()
		// Some file systems cannot sync a directory and say EINVAL. There is
		// nothing better to be had from them.
		if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
			return err
		}
		return nil
	})
}

// Rename moves a file or a directory; what is called to is replaced.
func Rename(from, to string, sync Sync) error {
	return rename(from, to, sync, os.Rename)
}

// RenameNew is Rename for a name that nothing has yet. If something has, it stays
// and the error is fs.ErrExist.
func RenameNew(from, to string, sync Sync) error {
	return rename(from, to, sync, renameNew)
}

func rename(from, to string, sync Sync, how func(from, to string) error) error {
	err := step(Step{Op: OpRename, Path: from, To: to}, func(s Step) error {
		return how(s.Path, s.To)
	})
	if err != nil || sync == NoSync {
		return err
	}
	if err := SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	if filepath.Dir(from) == filepath.Dir(to) {
		return nil
	}
	return SyncDir(filepath.Dir(from))
}

// linkNew is renameNew where there is no such system call, for files.
func linkNew(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// Remove removes a file or an empty directory. That it is gone is durable only
// after SyncDir.
func Remove(name string) error {
	return step(Step{Op: OpRemove, Path: name}, func(s Step) error { return os.Remove(s.Path) })
}

// RemoveDir removes an empty directory, and nothing else.
func RemoveDir(name string) error {
	return step(Step{Op: OpRemove, Path: name}, func(s Step) error {
		if err := unix.Rmdir(s.Path); err != nil {
			return &fs.PathError{Op: "rmdir", Path: s.Path, Err: err}
		}
		return nil
	})
}

// Link gives the file from a second name. It is an error if that exists.
func Link(from, to string) error {
	return step(Step{Op: OpLink, Path: from, To: to}, func(s Step) error {
		return os.Link(s.Path, s.To)
	})
}

// MkdirAll makes dir and what it lacks of its parents. If they are all there it
// is one stat(2), and syncs nothing.
func MkdirAll(dir string, sync Sync) error {
	switch fi, err := os.Stat(dir); {
	case err == nil && fi.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return fmt.Errorf("mkdir %s: no such root", dir)
	}
	if err := MkdirAll(parent, sync); err != nil {
		return err
	}
	err := step(Step{Op: OpMkdir, Path: dir}, func(s Step) error { return os.Mkdir(s.Path, 0o777) })
	// Somebody else may have made it meanwhile; it may not be durable yet, so
	// the parent is synced all the same.
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if sync == NoSync {
		return nil
	}
	return SyncDir(parent)
}
