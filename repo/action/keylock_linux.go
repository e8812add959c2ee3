package action

import "golang.org/x/sys/unix"

// setLock locks for the open file, not for the process: goroutines keep each
// other out as well.
const setLock = unix.F_OFD_SETLK
