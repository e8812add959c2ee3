package s3_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/remote/s3"
	"github.com/cache-tool/cache-tool/sync/remote/s3/s3test"
)

// TestEveryRequestFails lets each request fail, in each way: everything comes right by
// itself.
func TestEveryRequestFails(t *testing.T) {
	onServers(t, func(t *testing.T, server *s3test.Running) {
		for name, partSize := range map[string]int64{"whole": 0, "parts": 100} {
			t.Run(name, func(t *testing.T) {
				remotetest.RunEveryRequestFails(t, func(t *testing.T) func(remotetest.Network) remote.Bucket {
					at := server.NewBucket(t)
					return func(wrap remotetest.Network) remote.Bucket {
						return open(t, server, at, s3.Options{Pause: time.Millisecond, PartSize: partSize, Wrap: wrap})
					}
				})
			})
		}
	})
}

// TestRaceWithFaults lets clients race while a tenth of their requests fail in
// some way: whatever they were told, what was acknowledged is there.
func TestRaceWithFaults(t *testing.T) {
	onServers(t, func(t *testing.T, server *s3test.Running) {
		at := server.NewBucket(t)
		flaky := s3.Options{Pause: time.Millisecond, Wrap: remotetest.Flaky}
		remotetest.RaceWithFaults(t, func() remote.Bucket { return open(t, server, at, flaky) }, open(t, server, at, s3.Options{}))
	})
}

// TestKilled kills the server again and again while clients push.
func TestKilled(t *testing.T) {
	onServers(t, func(t *testing.T, server *s3test.Running) {
		at := server.NewBucket(t)
		endpoint := server.URL
		kill := func() { server.Stop(syscall.SIGKILL) }
		patient := s3.Options{Endpoint: endpoint, Tries: 12, Pause: 20 * time.Millisecond}
		impatient := func() remote.Bucket { return open(t, nil, at, s3.Options{Endpoint: endpoint}) }
		remotetest.RaceWithKills(t, kill, func() bool { return server.Run(t) }, impatient, open(t, nil, at, patient))
	})
}
