package statcache

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock returns the time with which local file systems stamp what is changed
// now, in nanoseconds since 1970. It moves in ticks: a stamp below Clock is
// never given again.
func Clock() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		return time.Now().Add(-Racy).UnixNano()
	}
	return now.Nano()
}
