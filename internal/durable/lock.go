package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A Lock is held on a file until Unlock, or until the process dies. It keeps
// out other goroutines as it does other processes. The file itself means
// nothing and stays: who removes it splits the lock in two.
type Lock struct{ f *os.File }

// ErrLocked says that TryExclusive found the lock taken.
var ErrLocked = errors.New("locked by another process")

// LockShared waits for a lock that any number may hold at once, as long as
// nobody holds it exclusively.
func LockShared(ctx context.Context, name string) (*Lock, error) {
	return lock(ctx, name, unix.LOCK_SH)
}

// LockExclusive waits for a lock that nobody else holds.
func LockExclusive(ctx context.Context, name string) (*Lock, error) {
	return lock(ctx, name, unix.LOCK_EX)
}

// TryExclusive is LockExclusive for those who will not wait: ErrLocked.
func TryExclusive(name string) (*Lock, error) {
	f, err := openLock(name)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return &Lock{f}, nil
}

// Unlock gives the lock back. A second Unlock, or one of nil, does nothing.
func (l *Lock) Unlock() {
	if l == nil {
		return
	}
	// Said aloud: a child that was forked, and has not come to exec, holds the
	// open file too.
	_ = flock(l.f, unix.LOCK_UN)
	l.f.Close()
}

func openLock(name string) (*os.File, error) {
	f, err := openMake(name, os.O_RDWR)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return os.Open(name) // enough to hold a lock on somebody else's repository
	}
	return f, err
}

func lock(ctx context.Context, name string, how int) (*Lock, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	f, err := openLock(name)
	if err != nil {
		return nil, err
	}
	err = flock(f, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return wait(ctx, f, how)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return &Lock{f}, nil
}

// wait lets the kernel wait, which is fair and wakes at once, in a goroutine of
// its own: flock(2) cannot be called off. Whoever is no longer wanted gives the
// lock back the moment it is granted.
func wait(ctx context.Context, f *os.File, how int) (*Lock, error) {
	granted := make(chan error, 1)
	go func() { granted <- flock(f, how) }()
	select {
	case err := <-granted:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return &Lock{f}, nil
	case <-ctx.Done():
		go func() {
			<-granted
			f.Close()
		}()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), ctx.Err())
	}
}

func flock(f *os.File, how int) error {
	for {
		// Go's own signals interrupt a waiting thread.
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
