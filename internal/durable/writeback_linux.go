package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteBack tells the kernel to begin writing what f holds, and does not
// wait for it. It promises nothing: only a sync does.
func startWriteBack(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
