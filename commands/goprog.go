package commands

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/gc"
	"github.com/cache-tool/cache-tool/sync/frontend"
	"github.com/cache-tool/cache-tool/sync/frontend/goprog"
)

func goprogCommand(s *session) *cli.Command {
	var stats string
	return &cli.Command{
		Name:     "goprog",
		Category: categoryCache,
		Usage:    "be the cache of the go command (GOCACHEPROG)",
		Description: text(`
The go command starts it, if GOCACHEPROG says so, and talks to it over standard input
and output: it is not to be run by hand. What Go has compiled is staged for the current
branch; a later commit takes it along. What the branch has, or one that it is read
through, is not compiled again. "wrap" sets GOCACHEPROG by itself.

Outputs are proven to be what they are called before Go sees them. They are plain files
in the repository, too, as Go wants them; the setting files.maxSize bounds these.
Whatever is wrong with the repository is a miss.`, `
GOCACHEPROG='cache-tool goprog' go build ./...`),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "stats", Usage: "append a line of JSON to `FILE`: hits, misses, bytes", Destination: &stats},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			if s.json {
				return usagef("--json: standard output belongs to the go command")
			}
			return s.goprog(c.Context, stats)
		},
	}
}

// goprog serves the go command until it says that it is done. A signal is no reason to
// end before: the go command gets it, too, and says what is to be done.
func (s *session) goprog(ctx context.Context, stats string) error {
	ctx = context.WithoutCancel(ctx)
	debug.SetGCPercent(200) // a build without changes is over before there is a collection
	o, err := s.goprogOptions(ctx)
	if err != nil {
		s.warn("not cached: %v", err)
		dir, err := os.MkdirTemp("", programName)
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	done, err := goprog.Serve(ctx, s.in, s.stdout, o)
	s.detail("go: %s (%s), %s, %d kept", counted(done.Hits, "hit"), size(done.Out), plural(done.Misses, "miss", "misses"), done.Puts)
	if stats != "" {
		noteStats(stats, done)
	}
	return err
}

// goprogOptions opens the repository.
func (s *session) goprogOptions(ctx context.Context) (o goprog.Options, err error) {
	r, err := s.openToWrite(ctx)
	if err != nil {
		return o, err
	}
	branch, err := s.branch(ctx, r)
	if err != nil {
		return o, err
	}
	dir := filepath.Join(r.Dir, "files", "go")
	values, err := r.Values(ctx, branch, repo.ValuesOptions{Known: filepath.Join(dir, "known")})
	if err != nil {
		return o, err
	}
	setting, err := r.Config.Get("files.maxSize")
	if err != nil {
		return o, err
	}
	max, err := gc.ParseSize(setting)
	if err != nil {
		return o, err
	}
	return goprog.Options{
		Store: values, Local: !r.IsLazy(), Close: values.Close,
		Dir: dir, MaxSize: max,
	}, nil
}

// noteStats adds a line to a file that others may add to at the same time. Without it
// only a number is wrong.
func noteStats(name string, stats frontend.Stats) {
	line, err := json.Marshal(stats)
	if err != nil {
		return
	}
	f, err := durable.OpenAppend(name)
	if err != nil {
		return
	}
	defer f.Close()
	_ = durable.Append(f, append(line, 0x0a))
}
