//go:build !linux

package action

import "golang.org/x/sys/unix"

const setLock = unix.F_SETLK
