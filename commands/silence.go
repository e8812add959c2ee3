package commands

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http/httptrace"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// errNoAnswer is why a context has ended that untilSilent made.
var errNoAnswer = remote.Unreachable(errors.New("nobody answers"))

// untilSilent returns a context for talks with a remote that end if nobody is there:
// if for so long nothing gets nearer to a first answer. Somebody far away takes
// longer than that, and is heard of meanwhile. After the first answer it is up to the
// remote's patience.
func untilSilent(ctx context.Context, m remoteStore, silence time.Duration) (context.Context, func()) {
	if m.isPath() {
		return ctx, func() {} // a file system has its own idea of that
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(silence, func() { cancel(errNoAnswer) })
	heard := func(err error) {
		if err == nil && timer.Stop() {
			timer.Reset(silence)
		}
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSDone:              func(i httptrace.DNSDoneInfo) { heard(i.Err) },
		ConnectDone:          func(_, _ string, err error) { heard(err) },
		TLSHandshakeDone:     func(_ tls.ConnectionState, err error) { heard(err) },
		GotFirstResponseByte: func() { timer.Stop() },
	})
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}
