package frontend

import (
	"sync/atomic"
	"time"
)

// Stats say how a client fared.
type Stats struct {
	Hits    int           `json:"hits"`
	Misses  int           `json:"misses"`
	Puts    int           `json:"puts"`
	Dropped int           `json:"dropped,omitempty"` // values that were not kept
	Out     int64         `json:"out"`               // bytes of hits
	In      int64         `json:"in"`                // bytes of puts
	Time    time.Duration `json:"time"`              // that the client waited, all requests together
}

// Add adds what happened elsewhere.
func (s Stats) Add(other Stats) Stats {
	s.Hits += other.Hits
	s.Misses += other.Misses
	s.Puts += other.Puts
	s.Dropped += other.Dropped
	s.Out += other.Out
	s.In += other.In
	s.Time += other.Time
	return s
}

// counts are Stats that many goroutines count.
type counts struct {
	hits, misses, puts, dropped, out, in, time atomic.Int64
}

func (c *counts) hit(bytes int64) {
	c.hits.Add(1)
	c.out.Add(bytes)
}

func (c *counts) put(bytes int64) {
	c.puts.Add(1)
	c.in.Add(bytes)
}

func (c *counts) stats() Stats {
	return Stats{
		Hits: int(c.hits.Load()), Misses: int(c.misses.Load()), Puts: int(c.puts.Load()), Dropped: int(c.dropped.Load()),
		Out: c.out.Load(), In: c.in.Load(), Time: time.Duration(c.time.Load()),
	}
}
