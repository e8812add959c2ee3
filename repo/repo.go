// Package repo is one store on disk: the room where objects, refs, the stage,
// the stat cache and the settings of a repository meet.
//
// A repository is a directory:
//
//	config          settings, as git-config(1) writes them; config.sum: what they were when we wrote them
//	HEAD            the default branch
//	refs/ logs/     branches and tags, and what they pointed to before
//	stage/          entries added since the last commit, a journal per branch
//	shallow         commits whose parents were cut off; shallow.lock: held by who edits it
//	packs/          objects
//	files/          outputs as plain files, for tools that take nothing else; any may go at any time
//	runs            the last runs: hits, misses, keys
//	lock            held while the repository is made and while config is written
package repo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/stage"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// DirName is the name of a repository inside the directory that it belongs to.
const DirName = ".cache-tool"

// DefaultBranch is what HEAD names in a new repository.
const DefaultBranch = "main"

// Repo is an open repository. Its methods may be called concurrently, and any
// number of processes may have the same repository open.
type Repo struct {
	Dir    string
	DB     *odb.DB
	Refs   *refs.Files
	Config *Config

	warn    func(error)
	stat    func() *statcache.Cache
	promise Promise // nil if the repository is not lazy

	mu     sync.Mutex
	stages map[refs.Name]*stage.Stage // guarded by mu
}

// Options are what Open and Init want to know. The zero value works.
type Options struct {
	// Warn is told of damage that was got around. Nil drops the warnings.
	Warn func(error)

	// Promise is asked, in a lazy repository, for what brings the objects of a
	// remote. Without it they are missing.
	Promise func(remote string) Promise

	// Began is when the command began that all is done for: it bounds what is tidied up
	// in passing. See odb.Options.
	Began time.Time
}

// Find returns the directory of the repository to use: flag if it is set, else
// $CACHE_TOOL_REPO, else the nearest .cache-tool from the working directory
// upwards, else cache-tool in the user's cache directory. It need not exist.
func Find(flag string) (string, error) {
	if flag != "" {
		return filepath.Abs(flag)
	}
	if env := os.Getenv("CACHE_TOOL_REPO"); env != "" {
		return filepath.Abs(env)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		candidate := filepath.Join(dir, DirName)
		if _, err := os.Stat(filepath.Join(candidate, "config")); err == nil {
			return candidate, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			break
		}
		dir = parent
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w (set CACHE_TOOL_REPO)", err)
	}
	return filepath.Join(cache, "cache-tool"), nil
}

// ErrExists says that Init was given a directory that holds something else.
var ErrExists = errors.New("directory is not empty and holds no repository")

// Init makes a repository at dir, or opens the one that is there. Any number of
// processes may do it at once. The new repository is durable on return.
func Init(ctx context.Context, dir string, o Options) (*Repo, error) {
	if _, err := os.Stat(filepath.Join(dir, "config")); err == nil {
		return Open(ctx, dir, o)
	}
	if err := create(ctx, dir); err != nil {
		return nil, fmt.Errorf("make repository %s: %w", dir, err)
	}
	return Open(ctx, dir, o)
}

func create(ctx context.Context, dir string) error {
	if err := checkVacant(dir); err != nil {
		return err
	}
	if err := durable.MkdirAll(dir, durable.Synced); err != nil {
		return err
	}
	lock, err := durable.LockExclusive(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	config := filepath.Join(dir, "config")
	if _, err := os.Stat(config); err == nil {
		return nil // another process was first
	}
	for _, sub := range []string{"stage", "packs"} {
		if err := durable.MkdirAll(filepath.Join(dir, sub), durable.Synced); err != nil {
			return err
		}
	}
	if _, err := refs.Init(ctx, dir, refs.Branch(DefaultBranch), refs.Options{}); err != nil {
		return err
	}
	// The config comes last: a directory with one is a whole repository.
	text := fmt.Sprintf("[core]\n\trepositoryversion = %d\n\tid = %s\n", formatVersion, newID())
	if err := durable.WriteFile(config, []byte(text), durable.Synced); err != nil {
		return err
	}
	noteConfig(config, []byte(text))
	return nil
}

// checkVacant refuses to make a repository among somebody's files. What a
// crashed Init left behind does not count.
func checkVacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case "lock", "HEAD", "refs", "refs.lock", "stage", "packs", "config": // that is the last: another process made it just now
		default:
			if !durable.IsPending(e.Name()) {
				return fmt.Errorf("%w: it has %q", ErrExists, e.Name())
			}
		}
	}
	return nil
}

func newID() string {
	var id [8]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// Open opens the repository at dir. It is cheap: no index and no cache is read
// before it is needed. ErrNotRepository says that there is none.
func Open(ctx context.Context, dir string, o Options) (*Repo, error) {
	config, err := openConfig(dir)
	if err != nil {
		return nil, err
	}
	warn := o.Warn
	if warn == nil {
		warn = func(error) {}
	}
	r := &Repo{Dir: dir, Config: config, warn: warn, stages: map[refs.Name]*stage.Stage{}}
	objects := odb.Options{Warn: warn, Began: o.Began, NoMerge: config.get("gc.auto") == "false"}
	if name := config.lazyRemote(); name != "" && o.Promise != nil {
		r.promise = o.Promise(name)
		objects.Fetch = r.promise.Fetch
	}
	r.DB, err = odb.Open(r.path("packs"), objects)
	if err != nil {
		return nil, err
	}
	r.Refs = refs.Open(dir, refs.Options{Who: r.identity(time.Time{})})
	r.stat = sync.OnceValue(func() *statcache.Cache { return statcache.Open(r.statPath()) })
	return r, nil
}

// OpenOrInit opens the repository at dir, which is made if there is none.
func OpenOrInit(ctx context.Context, dir string, o Options) (*Repo, error) {
	r, err := Open(ctx, dir, o)
	if errors.Is(err, ErrNotRepository) {
		return Init(ctx, dir, o)
	}
	return r, err
}

// Close releases what the repository holds. Nothing is lost without it.
func (r *Repo) Close() error { return r.DB.Close() }

// Stat returns the stat cache, opened at the first call.
func (r *Repo) Stat() *statcache.Cache { return r.stat() }

// statPath is cache-tool.stat in the user's cache directory: inodes are those of
// this machine, and ids of contents the same in every repository. Where there is
// no such directory it is stat in the repository.
func (r *Repo) statPath() string {
	dir, err := os.UserCacheDir()
	if err != nil || os.MkdirAll(dir, 0o700) != nil || unix.Access(dir, unix.W_OK) != nil {
		return r.path("stat")
	}
	return filepath.Join(dir, "cache-tool.stat")
}

// ID returns the random name that Init gave the repository. A copy of a
// repository keeps it.
func (r *Repo) ID() string {
	id, _ := r.Config.raw("core", "", "id")
	return id
}

func (r *Repo) path(name string) string { return filepath.Join(r.Dir, name) }

func (r *Repo) stageLimit() int {
	n, _ := strconv.Atoi(r.Config.get("stage.limit")) // the setting was checked
	return n
}
