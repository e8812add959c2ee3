package commands

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cache-tool/cache-tool/repo/worktree"
)

// A meter shows on a terminal how far long work is: one line, rewritten ten
// times a second, gone when the work ends. It costs nothing before the first
// tenth of a second, so short work never flickers. A nil meter shows nothing.
type meter struct {
	w     io.Writer
	label string
	unit  string // what is counted
	start time.Time

	files, bytes       atomic.Int64
	allFiles, allBytes atomic.Int64
	done               chan struct{}

	mu    sync.Mutex
	width int // characters on the line now; guarded by mu
}

// progress starts a meter if somebody can see it. Unit is what it counts.
func (s *session) progress(label, unit string) *meter {
	if s.quiet || s.noProgress || !isTerminal(s.err) {
		return nil
	}
	m := &meter{w: s.err, label: label, unit: unit, start: time.Now(), done: make(chan struct{})}
	go m.run()
	s.meter = m
	return m
}

// meter returns m as those who work want it: nothing, and not a nil pointer, if
// nobody looks.
func (m *meter) meter() worktree.Meter {
	if m == nil {
		return nil
	}
	return m
}

// Expect says that there is more to do. Safe for concurrent use.
func (m *meter) Expect(files int, bytes int64) {
	if m == nil {
		return
	}
	m.allFiles.Add(int64(files))
	m.allBytes.Add(bytes)
}

// Done counts what is done. Safe for concurrent use.
func (m *meter) Done(files int, bytes int64) {
	if m == nil {
		return
	}
	m.files.Add(int64(files))
	m.bytes.Add(bytes)
}

// stop ends the meter and clears its line.
func (m *meter) stop() {
	if m != nil {
		close(m.done)
		m.clear()
	}
}

func (m *meter) run() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-m.done:
			return
		case now := <-tick.C:
			m.show(now)
		}
	}
}

func (m *meter) show(now time.Time) {
	done, all := m.bytes.Load(), m.allBytes.Load()
	line := m.label + ":"
	switch n, all := m.files.Load(), m.allFiles.Load(); {
	case all > 0:
		line += fmt.Sprintf(" %d of %s", n, counted(all, m.unit))
	case n > 0:
		line += " " + counted(n, m.unit)
	}
	switch {
	case all > 0:
		line += fmt.Sprintf(" %s of %s (%d%%)", size(done), size(all), 100*done/all)
	case done > 0:
		line += " " + size(done)
	}
	if s := now.Sub(m.start).Seconds(); s > 1 && done > 0 {
		rate := float64(done) / s
		line += fmt.Sprintf(", %s/s", size(int64(rate)))
		if all > done {
			line += ", " + left(time.Duration(float64(all-done)/rate*float64(time.Second)))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.done:
		return
	default:
	}
	fmt.Fprintf(m.w, "\r%-*s", m.width, line)
	m.width = len(line)
}

// left says how long it will take, roughly.
func left(d time.Duration) string {
	if d >= time.Minute {
		return fmt.Sprintf("%d:%02d min left", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d s left", int(d.Seconds())+1)
}

// clear empties the line, for other output; the next tick writes it again.
func (m *meter) clear() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.width > 0 {
		fmt.Fprintf(m.w, "\r%*s\r", m.width, "")
		m.width = 0
	}
}
