package durable

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tmpPrefix begins the names of pending files. Nothing else may be called so.
const tmpPrefix = "tmp-"

// writeBackEvery is after how many bytes the kernel is told to start writing.
// Left alone it waits for the sync at the end, and the disk idles until then.
const writeBackEvery = 8 << 20

// ErrFinished says that a pending file was committed or aborted before.
var ErrFinished = errors.New("pending file is already finished")

// A File is pending: it has no name that anybody looks for until CommitAs gives
// it one. WriteAt and ReadAt may be called from many goroutines at once, the
// other methods only by one at a time.
type File struct {
	f    *os.File
	path string
	off  int64 // where Write goes on
	done bool  // committed or aborted

	unstarted atomic.Int64 // bytes written since write-back was last started
}

// Create starts a pending file in dir, which should be the directory that
// CommitAs will name it in: a rename does not leave a file system.
func Create(dir string) (*File, error) { return CreatePerm(dir, 0o666) }

// CreatePerm is Create for a file that has these permissions from the start, less
// the umask. One that nobody may write to is written all the same, until it is
// committed.
func CreatePerm(dir string, perm fs.FileMode) (*File, error) {
	for range 100 {
		path := filepath.Join(dir, tmpPrefix+strconv.FormatUint(rand.Uint64(), 36))
		var f *os.File
		err := step(Step{Op: OpCreate, Path: path}, func(s Step) (err error) {
			f, err = os.OpenFile(s.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
			return err
		})
		switch {
		case err == nil:
			// Held until the file is closed, or the process dies: RemoveStale
			// leaves it alone so long. Where flock is not to be had, age decides.
			_ = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
			return &File{f: f, path: path}, nil
		case f != nil:
			f.Close()
			return nil, err
		case !errors.Is(err, fs.ErrExist):
			return nil, err
		}
	}
	return nil, &fs.PathError{Op: "create", Path: filepath.Join(dir, tmpPrefix+"*"), Err: fs.ErrExist}
}

// Name returns where the file is while it is pending.
func (f *File) Name() string { return f.path }

// Size returns how many bytes Write has written.
func (f *File) Size() int64 { return f.off }

// Write adds p to the end of what Write has written.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.off)
	f.off += int64(n)
	return n, err
}

// WriteAt writes p at off.
func (f *File) WriteAt(p []byte, off int64) (n int, err error) {
	if hook.Load() == nil {
		n, err = f.f.WriteAt(p, off)
	} else {
		n, err = f.hookedWriteAt(p, off)
	}
	if f.unstarted.Add(int64(n)) >= writeBackEvery {
		f.unstarted.Store(0)
		startWriteBack(f.f)
	}
	return n, err
}

func (f *File) hookedWriteAt(p []byte, off int64) (n int, err error) {
	err = step(Step{Op: OpWrite, Path: f.path, File: f.f, Off: off, Data: p}, func(s Step) (err error) {
		n, err = f.f.WriteAt(s.Data, off)
		return err
	})
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// ReadAt reads what was written.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// Sync returns when all that was written survives a power cut. CommitAs with
// Synced does it too; this is for those who name many files and sync their
// directory once.
func (f *File) Sync() error { return SyncFile(f.f) }

// CommitAs gives the file its name, in place of any other that has it. If it
// returns nil, the file survives what sync says; if not, then either nothing is
// called name that was not before, or all of the file is.
func (f *File) CommitAs(name string, sync Sync) error {
	return f.commit(name, sync, Rename)
}

// CommitNew is CommitAs for a name that nothing has yet. If something has, it is
// left as it is: the error is fs.ErrExist.
func (f *File) CommitNew(name string, sync Sync) error {
	return f.commit(name, sync, RenameNew)
}

func (f *File) commit(name string, sync Sync, rename func(from, to string, sync Sync) error) error {
	if f.done {
		return ErrFinished
	}
	if sync == Synced {
		if err := SyncFile(f.f); err != nil {
			f.Abort()
			return err
		}
	}
	// Closed first: some file systems report a failed write only then.
	if err := f.f.Close(); err != nil {
		f.Abort()
		return err
	}
	if err := rename(f.path, name, NoSync); err != nil {
		f.Abort()
		return err
	}
	f.done = true
	if sync == NoSync {
		return nil
	}
	return SyncDir(filepath.Dir(name))
}

// Abort drops the file. After CommitAs or another Abort it does nothing.
func (f *File) Abort() {
	if f.done {
		return
	}
	f.done = true
	f.f.Close()
	_ = Remove(f.path) // if that fails, RemoveStale comes by
}

// IsPending reports whether name, without directory, is that of a pending file.
func IsPending(name string) bool { return strings.HasPrefix(name, tmpPrefix) }

// RemoveStale removes the pending files in dir that no living process holds and
// that nobody has written to for longer than age. (Age alone does not do: a
// build can run for hours with a file half written. The lock alone does not
// either: a file is made before it is locked.)
func RemoveStale(dir string, age time.Duration) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !IsPending(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		if err := removeStale(filepath.Join(dir, e.Name()), age); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func removeStale(name string, age time.Duration) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || time.Since(fi.ModTime()) < age {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	return Remove(name)
}
