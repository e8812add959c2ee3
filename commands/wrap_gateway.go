package commands

import (
	"context"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// A wrapGateway answers build tools while a command runs.
type wrapGateway struct {
	env   []string // with which they find it
	stats func() gatewayCounts
	close func(context.Context) error
}

// gatewayCounts are what it was asked for.
type gatewayCounts struct {
	hits, misses int
	sent         int64 // bytes, to build tools
}

// openGateway starts the gateway for one build. There is none yet.
func (s *session) openGateway(ctx context.Context, r *repo.Repo, branch refs.Name) (*wrapGateway, error) {
	return nil, nil
}
