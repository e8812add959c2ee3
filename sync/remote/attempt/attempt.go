// Package attempt bounds what it may take to get something done on another
// machine: how long a request waits for the other side, and how often it is sent.
package attempt

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// Options say what is too much. The zero Options work.
type Options struct {
	// Patience is how long a server may be silent. Zero is a minute.
	Patience time.Duration

	// Tries is how often a request is sent, at most, as long as all of them together
	// have not taken twice Patience. Zero is 5.
	Tries int

	// Pause is how long to wait, on average, before a request is sent a second
	// time; then longer. Zero is 200 ms.
	Pause time.Duration
}

// OrDefault returns o with what its zeros stand for.
func (o Options) OrDefault() Options {
	return Options{cmp.Or(o.Patience, time.Minute), cmp.Or(o.Tries, 5), cmp.Or(o.Pause, 200*time.Millisecond)}
}

// Attempts are those to get one thing done.
type Attempts struct {
	Failed int // so far

	o     Options
	begun time.Time
}

// Begin begins to count. The options have no zeros.
func Begin(o Options) *Attempts { return &Attempts{o: o, begun: time.Now()} }

// Rest waits before another attempt, longer each time and as long as the server
// says; never as long as others do. If there were enough of them, or they took too
// long, that is its error.
func (a *Attempts) Rest(ctx context.Context, cause error, serverSays time.Duration) error {
	a.Failed++
	if a.Failed >= a.o.Tries || time.Since(a.begun) > 2*a.o.Patience {
		return remote.Unreachable(cause)
	}
	wait := min(30*time.Second, a.o.Pause<<min(a.Failed-1, 10))
	wait = wait/2 + rand.N(wait)
	wait = max(wait, min(serverSays, a.o.Patience))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w, after: %w", ctx.Err(), cause)
	case <-timer.C:
		return nil
	}
}

// IsTLS reports whether an error is that certificates are wrong: that does not pass.
func IsTLS(err error) bool {
	return strings.Contains(err.Error(), "x509: ") || strings.Contains(err.Error(), "tls: ")
}

// RetryAfter reads the header of that name: seconds, or a date.
func RetryAfter(s string) time.Duration {
	if seconds, err := strconv.Atoi(s); err == nil {
		return time.Duration(min(max(seconds, 0), 3600)) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
