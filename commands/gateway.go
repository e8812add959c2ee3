package commands

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/frontend"
	"github.com/cache-tool/cache-tool/sync/frontend/bazel"
	"github.com/cache-tool/cache-tool/sync/frontend/ccache"
	"github.com/cache-tool/cache-tool/sync/frontend/goprog"
	"github.com/cache-tool/cache-tool/sync/frontend/gradle"
)

// A gateway serves one branch to build tools that run on this machine. What they put is
// staged: to commit it is up to who has started the gateway.
type gateway struct {
	// Env are variables with which build tools find their cache: NAME=VALUE. Those that
	// somebody has set already are not among them.
	Env []string

	values *repo.Values
	server *frontend.Server
	dir    string // for what build tools read and write; nobody else may
	stop   context.CancelFunc
	ended  chan error
	goes   frontend.Stats // of helpers of the go command, after Close
}

// A gatewayStats says how a gateway's clients fared: together, and each.
type gatewayStats struct {
	Hits    int   `json:"hits"`
	Misses  int   `json:"misses"`
	Puts    int   `json:"puts"`
	Bytes   int64 `json:"bytes"` // of hits
	Clients map[entry.Kind]frontend.Stats
}

const goStats = "go.stats"

// startGateway serves a branch, and what it is read through, on a port of this machine
// until Close. Who is to get in needs the token, which is in Env and in files that only
// this user may read.
func (s *session) startGateway(ctx context.Context, r *repo.Repo, branch refs.Name) (*gateway, error) {
	values, err := r.Values(ctx, branch, repo.ValuesOptions{})
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	dir, err := os.MkdirTemp("", programName+"-gateway")
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("gateway: %w", err)
	}
	token := rand.Text()
	g := &gateway{
		values: values, dir: dir, ended: make(chan error, 1),
		server: frontend.New(frontend.Options{
			Store: values, Token: token, Spool: dir,
			Clients: []frontend.Client{ccache.Client, bazel.Client, gradle.Client},
		}),
	}
	if err := g.setEnv("http://"+l.Addr().String()+"/"+token+"/", r, branch); err != nil {
		l.Close()
		os.RemoveAll(dir)
		return nil, fmt.Errorf("gateway: %w", err)
	}
	var serving context.Context
	serving, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() { g.ended <- g.server.Serve(serving, l, gatewayGrace) }()
	return g, nil
}

// gatewayGrace is for how long requests may go on when the command has ended that they
// should belong to.
const gatewayGrace = 5 * time.Second

// setEnv says how build tools find the gateway at url.
func (g *gateway) setEnv(url string, r *repo.Repo, branch refs.Name) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bazelrc := filepath.Join(g.dir, "bazelrc")
	if err := os.WriteFile(bazelrc, []byte(bazel.Settings(url+string(bazel.Client.Kind))), 0o600); err != nil {
		return err
	}
	script := filepath.Join(g.dir, "init.gradle")
	if err := os.WriteFile(script, []byte(gradle.Script(url+string(gradle.Client.Kind))), 0o600); err != nil {
		return err
	}
	for _, v := range [][2]string{
		{"CCACHE_REMOTE_STORAGE", ccache.Storage(url + string(ccache.Client.Kind))},
		{"GOCACHEPROG", commandLine(self, "--repo", r.Dir, "--branch", branch.Short(), "goprog", "--stats", filepath.Join(g.dir, goStats))},
		{"CACHE_TOOL_BAZELRC", bazelrc},
		{"CACHE_TOOL_GRADLE", script},
	} {
		if os.Getenv(v[0]) == "" {
			g.Env = append(g.Env, v[0]+"="+v[1])
		}
	}
	return nil
}

// commandLine joins words as the go command splits them.
func commandLine(words ...string) string {
	for i, w := range words {
		switch {
		case !strings.ContainsAny(w, " \t\r\n'\""):
		case !strings.Contains(w, "'"):
			words[i] = "'" + w + "'"
		default: // and not both: there is no way to write that
			words[i] = `"` + w + `"`
		}
	}
	return strings.Join(words, " ")
}

// Stats returns how the clients fared so far, also after Close.
func (g *gateway) Stats() gatewayStats {
	all := gatewayStats{Clients: g.server.Stats()}
	if goes := g.goes.Add(g.goStats()); goes != (frontend.Stats{}) {
		all.Clients[goprog.Kind] = goes
	}
	for _, c := range all.Clients {
		all.Hits += c.Hits
		all.Misses += c.Misses
		all.Puts += c.Puts
		all.Bytes += c.Out
	}
	return all
}

// goStats adds up what the helpers of the go command have noted.
func (g *gateway) goStats() (sum frontend.Stats) {
	data, err := os.ReadFile(filepath.Join(g.dir, goStats))
	if err != nil {
		return sum // there were none
	}
	for line := range strings.Lines(string(data)) {
		var one frontend.Stats
		if json.Unmarshal([]byte(line), &one) == nil {
			sum = sum.Add(one)
		}
	}
	return sum
}

// Close lets requests end that are under way, and waits until what was put is staged.
func (g *gateway) Close(ctx context.Context) error {
	g.stop()
	err := <-g.ended
	if failed := g.values.Close(ctx); err == nil {
		err = failed
	}
	g.goes = g.goStats()
	os.RemoveAll(g.dir)
	if err != nil {
		err = fmt.Errorf("gateway: %w", err)
	}
	return err
}
