//go:build unix && !linux

package worktree

import "golang.org/x/sys/unix"

func eachName(buf []byte, fn func(name string, kind uint8)) {
	_, _, names := unix.ParseDirent(buf, -1, nil)
	for _, name := range names {
		fn(name, unix.DT_UNKNOWN)
	}
}
