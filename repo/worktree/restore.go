package worktree

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// A Target is something to restore: what stands in a tree, and where it goes.
type Target struct {
	// Dir is the directory that must not be left. Links on the way to it are
	// followed; below it only those that stay in it. It is made if it is absent.
	Dir string

	// Name is the path below Dir: names as they are on disk, joined by slashes.
	// If it is empty the target is Dir itself.
	Name string

	Mode objects.Mode
	ID   objects.ID

	// Modes and Times are those of entry.Files. Where there are none, a file has
	// the permissions that its mode stands for, and the times of now.
	Modes []uint16
	Times []int64

	// WithGit says that .git right in the directory is a part of the target.
	// Without it nothing there that is called .git is changed. See Place.
	WithGit bool
}

// RestoreOptions say how to restore. The zero value works.
type RestoreOptions struct {
	Delete bool // remove what is in a target on disk and not in its tree
	DryRun bool // change nothing, but find out what would be

	// Keep are paths on disk that are never changed or removed, nor anything in
	// them: the repository that is being read from.
	Keep []string

	// Note is told of each change before it is made, or in a DryRun instead. It is
	// called by one goroutine at a time.
	Note func(Change)

	Cache    *statcache.Cache // may be nil; to be flushed afterwards
	Meter    Meter            // may be nil
	Parallel int              // goroutines; zero means one for each CPU
}

// A Change is one thing that a restore does to what is on disk.
type Change struct {
	What  Verb
	Path  string // a directory stands for all that is in it
	Files int    // files and links that come with it
	Bytes int64
}

// A Verb says what a Change does.
type Verb string

// What changes do.
const (
	Add     Verb = "add"
	Replace Verb = "replace"
	Delete  Verb = "delete"
	Adjust  Verb = "adjust" // permissions or times
)

// A Report says what Restore did, or would have done.
type Report struct {
	Written  int   // files and links
	Bytes    int64 // that they hold
	Kept     int   // files and links that were right already
	Adjusted int   // of those, whose permissions or times were not
	Deleted  int   // names that were removed; a directory counts once

	Skipped []string // what is in the tree but was not restored: see WithGit and Keep
	Unset   []string // whose permissions or times are another user's to set
}

// A Source is where objects come from.
type Source interface {
	objects.Reader
	Stat(ctx context.Context, id objects.ID) (objects.Kind, int64, error)
	ReadMany(ctx context.Context, ids []objects.ID, o odb.ManyOptions,
		fn func(i int, k objects.Kind, body []byte) error) error
}

// Restore makes the targets on disk what their trees say. Files that are right
// are left alone.
//
// All new content is written to directories of Restore's own, and proven, before
// anything is moved to its place. So an object that is missing or damaged
// (objects.ErrNotFound), a full disk and a cancelled context leave everything as
// it was. What was moved when a later move fails is moved back.
func Restore(ctx context.Context, r Source, targets []Target, o RestoreOptions) (Report, error) {
	for try := 1; ; try++ {
		report, err := restoreOnce(ctx, r, targets, o)
		if !errors.Is(err, errRaced) || try == attempts {
			return report, err
		}
		// Somebody else restores to the same place. Most of it will be right now.
	}
}

func restoreOnce(ctx context.Context, r Source, targets []Target, o RestoreOptions) (Report, error) {
	s := &restore{o: o, r: r, meter: meterOr(o.Meter), keep: newKeeper(o.Keep)}
	defer s.close()
	for _, t := range targets {
		if err := s.openTarget(t); err != nil {
			return Report{}, err
		}
	}
	if err := s.load(ctx); err != nil {
		return Report{}, err
	}
	if err := s.compare(ctx); err != nil {
		return Report{}, err
	}
	if err := s.measure(ctx); err != nil {
		return Report{}, err
	}
	s.note()
	if o.DryRun {
		return s.report, nil
	}
	err := s.apply(ctx)
	return s.report, err
}

// restore is one Restore.
type restore struct {
	o      RestoreOptions
	r      Source
	meter  Meter
	keep   *keeper
	places []*target
	ways   []*way
	findings

	newDirs []job // directories that have to be made, each before those in it
	jobs    []job // files and links that have to be written
	stages  []*stage
	report  Report
}

func (s *restore) close() {
	for _, t := range s.places {
		if t.top >= 0 {
			unix.Close(t.top)
		}
	}
	for _, w := range s.ways {
		w.close()
	}
}

// apply does what was found to be necessary.
func (s *restore) apply(ctx context.Context) error {
	err := s.prepare(ctx)
	if err == nil {
		err = s.write(ctx)
	}
	if err == nil {
		err = s.publish(ctx)
	}
	if err != nil {
		s.abandon()
		return err
	}
	// From here on there is no way back, and nothing that would need one.
	return s.finish()
}

// abandon leaves everything as it was.
func (s *restore) abandon() {
	for _, st := range s.stages {
		_ = st.remove()
	}
	for _, w := range slices.Backward(s.ways) {
		w.unmake()
	}
	for _, d := range slices.Backward(s.dirs) {
		if d.forced {
			_ = d.chmod(uint32(d.was.Mode) & permBits)
		}
	}
}
