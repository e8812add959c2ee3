package action

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// lockFile is locked byte by byte: each key has its own, so that nothing has to
// be cleaned up, and runs of different actions never meet.
const lockFile = "runs.lock"

// A keyLock is held while a result is made, so that identical runs at the same
// time make it once. It dies with the process.
type keyLock struct {
	f    *os.File
	lock unix.Flock_t
}

// lockKey takes the lock of key, and waits for it at most so long. It returns
// nil, and no error, if somebody holds it still. Waited says that somebody did.
func lockKey(ctx context.Context, dir string, key objects.ID, wait time.Duration, waiting func()) (l *keyLock, waited bool, err error) {
	f, err := durable.OpenUpdate(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, false, err
	}
	// 62 bits of the key: the offset must not overflow with its length.
	offset := int64(binary.BigEndian.Uint64(key[:]) >> 2)
	l = &keyLock{f: f, lock: unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: offset, Len: 1}}
	deadline := time.Now().Add(wait)
	for pause := time.Millisecond; ; pause = min(2*pause, 25*time.Millisecond) {
		lock := l.lock
		switch err := unix.FcntlFlock(f.Fd(), setLock, &lock); {
		case err == nil:
			return l, waited, nil
		case err == unix.EINTR:
			continue
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES):
			f.Close()
			return nil, waited, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		if !waited {
			waited = true
			waiting()
		}
		if time.Now().After(deadline) {
			f.Close()
			return nil, true, nil
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, true, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// unlock gives the lock back. Of nil it does nothing.
func (l *keyLock) unlock() {
	if l == nil {
		return
	}
	l.lock.Type = unix.F_UNLCK
	_ = unix.FcntlFlock(l.f.Fd(), setLock, &l.lock)
	l.f.Close()
}
