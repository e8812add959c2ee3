package server_test

import (
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/replica"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

// eachStore runs a test over all that is served: a repository, a bucket through one
// replica, and through one that begins anew with each request.
func eachStore(t *testing.T, run func(t *testing.T, open func() server.Store)) {
	t.Run("repository", func(t *testing.T) {
		store := servertest.NewStore(t)
		run(t, func() server.Store { return store })
	})
	t.Run("bucket", func(t *testing.T) {
		r := newReplica(t, new(remotetest.Memory))
		run(t, func() server.Store { return r.Store() })
	})
	t.Run("bucket without cache", func(t *testing.T) {
		b := new(remotetest.Memory)
		run(t, func() server.Store { return newReplica(t, b).Store() })
	})
}

func newReplica(t *testing.T, b remote.Bucket) *replica.Replica {
	t.Helper()
	r, err := replica.New(replica.Options{Bucket: b, Dir: test.Dir(t), Warn: func(err error) { t.Log(err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
