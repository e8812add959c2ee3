package commands

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestMeterShows(t *testing.T) {
	begin := time.Now()
	for _, tt := range []struct {
		expect, done [2]int64 // objects, bytes
		after        time.Duration
		want         string
	}{
		{[2]int64{}, [2]int64{3, 500}, time.Second, "push: 3 objects 500 B"},
		{[2]int64{10, 4000}, [2]int64{5, 1000}, 2 * time.Second, "push: 5 of 10 objects 1.0 kB of 4.0 kB (25%), 500 B/s, 7 s left"},
		{[2]int64{10, 400_000}, [2]int64{5, 1000}, 2 * time.Second, "push: 5 of 10 objects 1.0 kB of 400.0 kB (0%), 500 B/s, 13:18 min left"},
		{[2]int64{10, 4000}, [2]int64{10, 4000}, 2 * time.Second, "push: 10 of 10 objects 4.0 kB of 4.0 kB (100%), 2.0 kB/s"},
	} {
		var out bytes.Buffer
		m := &meter{w: &out, label: "push", unit: "object", start: begin, done: make(chan struct{})}
		m.Expect(int(tt.expect[0]), tt.expect[1])
		m.Done(int(tt.done[0]), tt.done[1])
		m.show(begin.Add(tt.after))
		if got := strings.TrimSpace(out.String()); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
