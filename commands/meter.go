package commands

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A meter shows on a terminal how far long work is: one line, rewritten ten
// times a second, gone when the work ends. It costs nothing before the first
// tenth of a second, so short work never flickers. A nil meter shows nothing.
type meter struct {
	w     io.Writer
	label string
	start time.Time

	files, bytes atomic.Int64
	totalBytes   atomic.Int64 // 0 while it is unknown
	done         chan struct{}

	mu    sync.Mutex
	width int // characters on the line now; guarded by mu
}

// progress starts a meter if somebody can see it.
func (s *session) progress(label string) *meter {
	if s.quiet || s.noProgress || !isTerminal(s.err) {
		return nil
	}
	m := &meter{w: s.err, label: label, start: time.Now(), done: make(chan struct{})}
	go m.run()
	s.meter = m
	return m
}

// Add counts files and bytes that are done. Safe for concurrent use.
func (m *meter) Add(files int, bytes int64) {
	if m != nil {
		m.files.Add(int64(files))
		m.bytes.Add(bytes)
	}
}

// Total says how many bytes there will be.
func (m *meter) Total(bytes int64) {
	if m != nil {
		m.totalBytes.Store(bytes)
	}
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
	done, total := m.bytes.Load(), m.totalBytes.Load()
	line := fmt.Sprintf("%s: %s, %s", m.label, counted(m.files.Load(), "file"), size(done))
	if total > 0 {
		line += fmt.Sprintf(" (%d%%)", 100*done/total)
	}
	if s := now.Sub(m.start).Seconds(); s > 1 {
		line += fmt.Sprintf(", %s/s", size(int64(float64(done)/s)))
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
