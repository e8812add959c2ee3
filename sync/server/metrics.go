package server

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/sync/wire"
)

// metrics count what is served. The zero metrics are none.
type metrics struct {
	mu       sync.Mutex
	running  int                        // guarded by mu
	requests map[outcome]uint64         // guarded by mu
	times    map[string]*[buckets]int64 // guarded by mu; by operation
	seconds  map[string]float64         // guarded by mu; the sum of times
	in, out  int64                      // guarded by mu; bytes
}

type outcome struct {
	op   string
	code int
}

// bounds are the limits of the histogram, in seconds. What takes longer is in the
// last bucket.
var bounds = [...]float64{0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300}

const buckets = len(bounds) + 1

func (m *metrics) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running++
}

func (m *metrics) end(op string, code int, in, out int64, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.requests == nil {
		m.requests, m.times, m.seconds = map[outcome]uint64{}, map[string]*[buckets]int64{}, map[string]float64{}
	}
	m.running--
	m.in, m.out = m.in+in, m.out+out
	m.requests[outcome{op, code}]++
	if m.times[op] == nil {
		m.times[op] = new([buckets]int64)
	}
	i := 0
	for i < len(bounds) && took.Seconds() > bounds[i] {
		i++
	}
	m.times[op][i]++
	m.seconds[op] += took.Seconds()
}

// text returns the metrics in the text format of Prometheus, version 0.0.4.
func (m *metrics) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	head := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP cache_tool_%s %s\n# TYPE cache_tool_%s %s\n", name, help, name, kind)
	}
	head("requests_total", "counter", "Requests answered, by operation and status code; 0 for none.")
	for _, o := range slices.SortedFunc(maps.Keys(m.requests), func(a, b outcome) int {
		return cmp.Or(cmp.Compare(a.op, b.op), cmp.Compare(a.code, b.code))
	}) {
		fmt.Fprintf(&b, "cache_tool_requests_total{operation=%q,code=\"%d\"} %d\n", o.op, o.code, m.requests[o])
	}
	head("requests_in_flight", "gauge", "Requests that are being answered.")
	fmt.Fprintf(&b, "cache_tool_requests_in_flight %d\n", m.running)
	head("received_bytes_total", "counter", "Bytes of the bodies of requests.")
	fmt.Fprintf(&b, "cache_tool_received_bytes_total %d\n", m.in)
	head("sent_bytes_total", "counter", "Bytes of the bodies of answers.")
	fmt.Fprintf(&b, "cache_tool_sent_bytes_total %d\n", m.out)
	head("request_seconds", "histogram", "How long requests took, by operation.")
	for _, op := range slices.Sorted(maps.Keys(m.times)) {
		total := int64(0)
		for i, n := range m.times[op] {
			total += n
			bound := "+Inf"
			if i < len(bounds) {
				bound = fmt.Sprint(bounds[i])
			}
			fmt.Fprintf(&b, "cache_tool_request_seconds_bucket{operation=%q,le=%q} %d\n", op, bound, total)
		}
		fmt.Fprintf(&b, "cache_tool_request_seconds_sum{operation=%q} %g\ncache_tool_request_seconds_count{operation=%q} %d\n", op, m.seconds[op], op, total)
	}
	return b.String()
}

// showMetrics answers whoever is known, even if he may read nothing else, or
// everybody if everybody may read something.
func (x *exchange) showMetrics() error {
	if x.r.Method != http.MethodGet {
		return wire.Errorf(wire.BadMethod, "metrics is a GET")
	}
	if err := x.identify(); err != nil {
		return err
	}
	if x.who.name == "" && x.who.rules.IsZero() {
		return x.refuse("may read nothing")
	}
	text := x.s.metrics.text()
	if more := x.s.o.Metrics; more != nil {
		text += more()
	}
	return x.text(text)
}
