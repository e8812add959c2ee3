package remotetest_test

import (
	"testing"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

func TestMemory(t *testing.T) {
	remotetest.RunBucket(t, func(*testing.T) func() remote.Bucket {
		b := new(remotetest.Memory)
		return func() remote.Bucket { return b }
	})
}

func TestStrict(t *testing.T) {
	remotetest.RunBucket(t, func(t *testing.T) func() remote.Bucket {
		b := remotetest.NewStrict(t)
		return func() remote.Bucket { return b }
	})
}
