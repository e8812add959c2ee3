package worktree

import (
	"context"
	"io"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// A Place is something to save: a file, a symbolic link or a directory with all
// that is in it.
type Place struct {
	Name string // where it goes in the tree, such as "base/target"; as on disk, not escaped
	Path string // where it is on disk

	// WithGit says that .git right in the directory is to be saved, too: it is
	// that of something that was cloned. Without it .git is taken for the
	// repository of the work tree that is being saved from.
	WithGit bool
}

// SnapshotOptions say how to take a snapshot. The zero value works.
type SnapshotOptions struct {
	// Exclude holds patterns of what not to save, with * and ** and {a,b}. One
	// with a slash in front is matched with the path on disk; one with a slash
	// elsewhere with the name of the place, less its first part, and the path
	// below the place; one without a slash with names alone.
	Exclude []string

	// Keep are paths on disk that are not to be saved wherever they turn up:
	// the repository that is being written to, a work tree's .git.
	Keep []string

	// Prev is the payload of an earlier snapshot. What stands in it is known to be
	// stored, so it must not have been collected since.
	Prev objects.Entries

	Cache    *statcache.Cache // may be nil; to be flushed once the objects are committed
	Meter    Meter            // may be nil
	NoTimes  bool             // keep no modification times
	Parallel int              // goroutines; zero means one for each CPU
}

// A Snapshot is what Take has found and done.
type Snapshot struct {
	Payload objects.Entries // the first names of the places, in order, with what is below
	Files   []entry.Files   // of each place, in the order of their names

	Count int   // files and links
	Bytes int64 // that they hold

	Read      int   // files and links that had to be read
	ReadBytes int64 // that they hold

	Skipped []Skipped
}

// Skipped is something that a tree cannot hold.
type Skipped struct {
	Path string
	What string // "socket", "fifo", "device"
}

// A Store tells what is stored already.
type Store interface {
	objects.Reader
	objects.Prober
}

// A Writer takes the objects of a snapshot. Its methods may be called
// concurrently. PutTree may store the tree as a difference from base, an earlier
// version of it, which may be zero.
type Writer interface {
	PutTree(body []byte, base objects.ID) (objects.ID, error)
	Lane() Lane
}

// A Lane takes blobs one after the other, from one goroutine.
type Lane interface {
	Space(n int) ([]byte, error)   // room for n bytes, at most odb.MaxSpace
	Add(n int) (objects.ID, error) // makes a blob of the first n bytes of the last Space
	PutReader(ctx context.Context, size int64, r io.Reader) (objects.ID, error)
	Close() error
}

// Take writes to w what the places hold and r does not have. A place that lies
// in another is part of that.
//
// A file that cannot be read is an error that names it; one that changes each
// time that it is read is a *ChangedError. Whoever then drops w has saved
// nothing.
func Take(ctx context.Context, w Writer, r Store, places []Place, o SnapshotOptions) (Snapshot, error) {
	patterns, err := cleanPatterns(o.Exclude)
	if err != nil {
		return Snapshot{}, err
	}
	o.Exclude = patterns
	s := &snapshot{o: o, w: w, r: r, meter: meterOr(o.Meter), root: &dir{}}
	defer s.close()
	walker := &walker{o: &s.o, keep: newKeeper(o.Keep)}
	if err := s.open(places, walker); err != nil {
		return Snapshot{}, err
	}
	if err := walker.walk(ctx, s.dirs); err != nil {
		return Snapshot{}, err
	}
	if err := s.prove(ctx); err != nil {
		return Snapshot{}, err
	}
	s.collect(s.root)
	if err := s.readFiles(ctx); err != nil {
		return Snapshot{}, err
	}
	if err := s.putTrees(s.root); err != nil {
		return Snapshot{}, err
	}
	s.result.Skipped = walker.skipped
	s.result.Payload = s.root.entries()
	s.result.Files = s.columns()
	return s.result, nil
}

type snapshot struct {
	o     SnapshotOptions
	w     Writer
	r     Store
	meter Meter

	root   *dir     // no directory on disk: it holds the first names of the places
	placed []placed // what was found at the places
	tops   []*top
	dirs   []*dir // those of the places that are directories
	files  []file // what has to be read, in the order of the tree
	result Snapshot
}

func (s *snapshot) close() {
	for _, t := range s.tops {
		unix.Close(t.fd)
	}
}

// collect lists what has to be read below d, and counts all that there is.
func (s *snapshot) collect(d *dir) {
	for i := range d.nodes {
		n := &d.nodes[i]
		if n.dir != nil {
			s.collect(n.dir)
			continue
		}
		s.result.Count++
		s.result.Bytes += n.stat.Size
		if n.known {
			continue
		}
		f := file{node: n, top: n.top, path: n.disk}
		if f.top == nil {
			f.top, f.path = d.top, below(d.path, n.disk)
		}
		s.files = append(s.files, f)
		s.result.Read++
		s.result.ReadBytes += n.stat.Size
	}
}
