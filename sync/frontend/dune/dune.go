// Package dune carries the shared cache of the build system Dune into a store and
// out of it.
//
// What it knows that no other package does: where that cache is, what Dune expects
// to find there, and what must never be found there. A cache is a directory:
//
//	meta/v4/ab/ab01…     what a rule of Dune 2 made: see Metadata
//	meta/v5/ab/ab01…     the same for Dune 3; both are called by the rule's digest
//	files/v4/ab/ab01…    what was made, called by its content and executable bit
//
// Dune links these files into build directories, and believes them. So nothing is
// written in place: a file gets its name when it is whole, and proven to be what
// the name says, files before the metadata that speaks of them. Until then it has
// one that is no digest; Dune passes over those.
//
// In a store each piece of metadata is an entry: see Collect.
package dune

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// Kind is that of the entries that are made of Dune's cache.
const Kind entry.Kind = "dune"

// versions are those of the metadata that this package knows.
var versions = []int{4, 5}

const metadataDir, filesDir = "meta", "files/v4"

// A Key names what one rule made. As text it is the path of the metadata, less the
// fan-out: "meta/v5/" and the digest of the rule.
type Key struct {
	Version int // of the metadata
	Rule    Digest
}

func (k Key) String() string { return fmt.Sprintf("%s/v%d/%s", metadataDir, k.Version, k.Rule) }

// ParseKey is the inverse of String.
func ParseKey(s string) (Key, bool) {
	for _, v := range versions {
		if rest, ok := strings.CutPrefix(s, fmt.Sprintf("%s/v%d/", metadataDir, v)); ok {
			rule, ok := parseDigest(rest)
			return Key{v, rule}, ok
		}
	}
	return Key{}, false
}

// A Found is an entry of a store.
type Found struct {
	Key Key
	ID  objects.ID
}

// Options say how Collect and Deliver work. The zero value works.
type Options struct {
	Parallel int         // goroutines; zero means one for each CPU
	Meter    Meter       // may be nil
	Warn     func(error) // is told what was left out; may be nil
}

// A Meter is told how the work goes on, from several goroutines at once.
type Meter interface {
	Expect(files int, bytes int64) // more work is known
	Done(files int, bytes int64)   // some of it is done
}

type noMeter struct{}

func (noMeter) Expect(int, int64) {}
func (noMeter) Done(int, int64)   {}

func (o Options) withDefaults() Options {
	if o.Parallel <= 0 {
		o.Parallel = max(2, runtime.GOMAXPROCS(0))
	}
	if o.Meter == nil {
		o.Meter = noMeter{}
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	return o
}

// A Report says what was carried.
type Report struct {
	Entries int
	Files   int   // those that were not there already
	Bytes   int64 // that they hold
	Skipped int   // entries that were left out
}

// A Cache is Dune's cache of one user.
type Cache struct {
	roots map[int]string // by version of the metadata
}

// Find returns the cache that Dune uses in the environment that getenv knows. It
// need not exist. Where two places are possible, version is asked for what
// "dune --version" prints; it may answer nothing.
//
//	Dune 2           $XDG_CACHE_HOME/dune/db
//	Dune 3           the same, if DUNE_CACHE_ROOT is not set
//	up to Dune 3.21  $DUNE_CACHE_ROOT
//	from 3.22 on     $DUNE_CACHE_ROOT/db
func Find(getenv func(string) string, version func() string) (*Cache, error) {
	home := getenv("XDG_CACHE_HOME")
	if home == "" && getenv("HOME") != "" {
		home = filepath.Join(getenv("HOME"), ".cache")
	}
	root := getenv("DUNE_CACHE_ROOT")
	switch {
	case home == "" && root == "":
		return nil, errors.New("find dune's cache: none of DUNE_CACHE_ROOT, XDG_CACHE_HOME and HOME is set")
	case root != "" && !filepath.IsAbs(root):
		return nil, fmt.Errorf("find dune's cache: DUNE_CACHE_ROOT is %q, not an absolute path", root)
	}
	c := &Cache{roots: map[int]string{}}
	if home != "" {
		home, err := filepath.Abs(home)
		if err != nil {
			return nil, fmt.Errorf("find dune's cache: %w", err)
		}
		for _, v := range versions {
			c.roots[v] = filepath.Join(home, "dune", "db")
		}
	}
	if root != "" {
		c.roots[5] = chooseRoot(root, version())
	}
	return c, nil
}

// chooseRoot returns which directory a Dune of that version means by
// DUNE_CACHE_ROOT. Without a Dune it is the one that is there, else the newer.
func chooseRoot(root, version string) string {
	newer := filepath.Join(root, "db")
	if major, minor, ok := parseVersion(version); ok && major >= 3 {
		if major == 3 && minor < 22 {
			return root
		}
		return newer
	}
	if isDir(filepath.Join(root, metadataDir)) && !isDir(filepath.Join(newer, metadataDir)) {
		return root
	}
	return newer
}

// parseVersion reads "3.22.0", or "3.22.0~alpha1-5-g0123456".
func parseVersion(s string) (major, minor int, ok bool) {
	first, rest, _ := strings.Cut(strings.TrimSpace(s), ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	return major, minor, err1 == nil && err2 == nil
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}

// Roots returns the directories that the cache is in: mostly one.
func (c *Cache) Roots() []string {
	var roots []string
	for _, v := range versions {
		if root, ok := c.roots[v]; ok && (len(roots) == 0 || roots[0] != root) {
			roots = append(roots, root)
		}
	}
	return roots
}

// metadataPlace returns where the metadata of k is.
func (c *Cache) metadataPlace(k Key) string { return place(c.metadata(k.Version), k.Rule) }

// metadata returns the directory of the metadata of a version.
func (c *Cache) metadata(version int) string {
	return filepath.Join(c.roots[version], metadataDir, "v"+strconv.Itoa(version))
}

// files returns the directory of the files that go with a version of metadata.
func (c *Cache) files(version int) string { return filepath.Join(c.roots[version], filesDir) }

// place returns where d stands in a directory with the fan-out that Dune has.
func place(dir string, d Digest) string {
	name := d.String()
	return filepath.Join(dir, name[:2], name)
}

// Keys returns the keys of all that is in the cache. It reads directories only.
func (c *Cache) Keys() (map[Key]bool, error) {
	keys := map[Key]bool{}
	for v := range c.roots {
		err := list(c.metadata(v), func(d Digest) { keys[Key{v, d}] = true })
		if err != nil {
			return nil, fmt.Errorf("look into dune's cache: %w", err)
		}
	}
	return keys, nil
}

// list calls fn for all that stands in a directory with Dune's fan-out, and passes
// over what is called otherwise. It removes what killed deliveries left behind.
func list(dir string, fn func(Digest)) error {
	fans, err := readNames(dir)
	if err != nil {
		return err
	}
	for _, fan := range fans {
		if len(fan) != 2 {
			continue
		}
		names, err := readNames(filepath.Join(dir, fan))
		if err != nil {
			return err
		}
		pending := false
		for _, name := range names {
			if d, ok := parseDigest(name); ok && name[:2] == fan {
				fn(d)
			}
			pending = pending || durable.IsPending(name)
		}
		if pending {
			_ = durable.RemoveStale(filepath.Join(dir, fan), time.Hour)
		}
	}
	return nil
}

// readNames returns the names in dir, none if it is not there.
func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	return names, err
}

// A warner passes on the first few of many warnings.
type warner struct {
	warn func(error)
	n    int
}

const shownWarnings = 5

func (w *warner) add(err error) {
	if w.n++; w.n <= shownWarnings {
		w.warn(err)
	}
}

// end says how many there were besides.
func (w *warner) end() {
	if more := w.n - shownWarnings; more > 0 {
		w.warn(fmt.Errorf("and %d more", more))
	}
}

// each calls fn for the numbers below n from some goroutines, until it fails.
func each(ctx context.Context, parallel, n int, fn func(i int) error) error {
	const batch = 64 // a counter that all fight for costs more than a small file
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(parallel, (n+batch-1)/batch) {
		group.Go(func() error {
			for {
				from := int(next.Add(batch)) - batch
				if from >= n {
					return nil
				}
				for i := from; i < min(from+batch, n); i++ {
					if err := ctx.Err(); err != nil {
						return err
					}
					if err := fn(i); err != nil {
						return err
					}
				}
			}
		})
	}
	return group.Wait()
}
