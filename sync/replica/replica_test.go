package replica_test

import (
	"sync/atomic"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/replica"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

var (
	_ server.Store    = (*replica.Store)(nil)
	_ server.Register = (*replica.Store)(nil)
)

// newReplica makes one with a cache that is soon full.
func newReplica(t *testing.T, b remote.Bucket, size int64) *replica.Replica {
	t.Helper()
	r, err := replica.New(replica.Options{
		Bucket: b, Dir: test.Dir(t), Size: size,
		Warn: func(err error) { t.Log(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRemote(t *testing.T) {
	for name, size := range map[string]int64{"room": 1 << 30, "no room": 1} {
		t.Run(name, func(t *testing.T) {
			remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
				b := new(remotetest.Memory)
				r := newReplica(t, b, size)
				return func() remote.Remote { return r.Store() }
			})
		})
	}
}

// TestReplicas talks to three of them in turn, over HTTP.
func TestReplicas(t *testing.T) {
	remotetest.RunRemote(t, func(t *testing.T) func() remote.Remote {
		b := new(remotetest.Memory)
		var servers []*servertest.Server
		for range 3 {
			r := newReplica(t, b, 1<<20)
			servers = append(servers, servertest.Start(t, server.Options{Open: func() server.Store { return r.Store() }}))
		}
		var n atomic.Int64
		return func() remote.Remote {

			s := servers[n.Add(1)%3]
			return s.Client(s.Admin(), httpremote.Options{})
		}
	})
}
