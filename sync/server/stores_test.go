package server_test

import (
	"testing"

	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

// eachStore runs a test over all that is served.
func eachStore(t *testing.T, run func(t *testing.T, open func() server.Store)) {
	t.Run("repository", func(t *testing.T) {
		store := servertest.NewStore(t)
		run(t, func() server.Store { return store })
	})
}
