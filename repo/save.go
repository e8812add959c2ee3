package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

// SaveOptions say how to save. The zero value works.
type SaveOptions struct {
	Base    string   // what paths are relative to; the working directory if empty
	Exclude []string // as in worktree.SnapshotOptions
	NoTimes bool
	Stage   bool   // add it to the stage, make no commit yet
	Message string // of the commit; one is made if empty
	Meter   worktree.Meter
}

// Saved is what Save did.
type Saved struct {
	Entry    objects.ID
	Tip      objects.ID // of the branch; zero if it was staged
	Staged   bool       // and no commit made of it
	Changed  bool       // false if the branch had the same payload under this key
	Snapshot worktree.Snapshot
}

// Save keeps the files and directories at paths as the entry save/key of branch.
// A commit is durable on return. Where the same payload is there already (times
// and provenance aside) nothing is written.
func (r *Repo) Save(ctx context.Context, branch refs.Name, key string, paths []string, o SaveOptions) (Saved, error) {
	layout, err := newPlaces(o.Base)
	if err != nil {
		return Saved{}, err
	}
	places, err := layout.find(paths)
	if err != nil {
		return Saved{}, err
	}
	c, err := r.Change(ctx, branch, odb.BatchOptions{BlockSize: odb.BigBlock})
	if err != nil {
		return Saved{}, err
	}
	defer c.Close()
	// Not before: what is found now cannot be collected any more.
	found, payload, err := r.earlier(ctx, branch, key)
	if err != nil {
		return Saved{}, err
	}
	earlier := found.ID
	snapshot, err := worktree.Take(ctx, batchWriter{c.Batch}, r.DB, places, worktree.SnapshotOptions{
		Exclude: o.Exclude, Keep: []string{r.Dir}, Prev: payload, Cache: r.Stat(), Meter: o.Meter, NoTimes: o.NoTimes,
	})
	if err != nil {
		return Saved{}, err
	}
	source := ReadSource(layout.base)
	id, err := entry.Write(c.Batch, entry.Meta{
		Kind: entry.Save, Key: key, Created: time.Now(),
		Commit: source.Commit, Branch: source.Branch, Extra: extentOf(snapshot), Files: snapshot.Files,
	}, snapshot.Payload, earlier)
	if err != nil {
		return Saved{}, err
	}
	saved := Saved{Entry: id, Snapshot: snapshot}
	if same, err := r.unchanged(ctx, c.Batch, earlier, id); err != nil {
		return Saved{}, err
	} else if same {
		saved.Entry = earlier
		if !found.Staged || o.Stage { // what is staged is committed by who asks for a commit
			r.flushStat(ctx)
			return saved, nil
		}
	}
	c.Set(entry.Save, key, saved.Entry)
	if o.Stage {
		saved.Changed, saved.Staged, err = true, true, c.Stage(ctx)
	} else {
		saved.Tip, saved.Changed, saved.Staged, err = c.CommitOrStage(ctx, o.Message)
	}
	if err != nil {
		return Saved{}, err
	}
	r.flushStat(ctx)
	return saved, nil
}

// flushStat keeps what the stat cache learned. Without it the next save or
// restore only reads more.
func (r *Repo) flushStat(ctx context.Context) {
	if err := r.Stat().Flush(ctx); err != nil {
		r.warn(fmt.Errorf("stat cache: %w", err))
	}
}

// earlier returns the entry that branch itself has under the key, and its
// payload: zero and nothing if there is none that can be read, or one that may
// lack something.
func (r *Repo) earlier(ctx context.Context, branch refs.Name, key string) (Found, objects.Entries, error) {
	found, err := r.Lookup(ctx, []refs.Name{branch}, entry.Save, key)
	if errors.Is(err, objects.ErrNotFound) {
		return Found{}, nil, nil
	} else if err != nil {
		return Found{}, nil, err
	}
	payload, meta, err := entry.Read(ctx, r.DB, found.ID)
	if err != nil {
		r.warn(fmt.Errorf("earlier version of %s: %w", key, err))
		return Found{}, nil, nil
	}
	if r.MayLack(meta.Created) {
		return Found{}, nil, nil
	}
	return found, payload, nil
}

func (r *Repo) unchanged(ctx context.Context, batch *odb.Batch, earlier, now objects.ID) (bool, error) {
	if earlier.IsZero() {
		return false, nil
	}
	return entry.Same(ctx, batch, earlier, now)
}

// batchWriter is a Batch as package worktree wants it.
type batchWriter struct{ *odb.Batch }

func (w batchWriter) Lane() worktree.Lane { return w.Batch.Lane() }

// places knows where paths go in an entry, and where an entry's parts go back to:
//
//	base/…  below the base directory
//	home/…  below the home directory
//	abs/…   anywhere else
type places struct {
	base, home string
}

func newPlaces(base string) (places, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return places{}, err
	}
	p := places{base: base}
	if home, err := os.UserHomeDir(); err == nil { // without one there are no such places
		p.home = filepath.Clean(home)
	}
	return p, nil
}

// find returns the place of each path. A leading ~/ is the home directory, for
// those who write where no shell expands it.
func (p places) find(paths []string) ([]worktree.Place, error) {
	found := make([]worktree.Place, 0, len(paths))
	for _, path := range paths {
		if rest, ok := strings.CutPrefix(path, "~/"); ok && p.home != "" {
			path = filepath.Join(p.home, rest)
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		found = append(found, worktree.Place{Name: p.name(abs), Path: abs, WithGit: !isWorkTree(abs)})
	}
	return found, nil
}

func (p places) name(abs string) string {
	if rel, ok := below(p.base, abs); ok {
		return join(entry.BaseName, rel)
	}
	if rel, ok := below(p.home, abs); ok {
		return join(entry.HomeName, rel)
	}
	return join(entry.AbsName, strings.TrimPrefix(abs, "/"))
}

// below returns abs relative to dir, if it is in dir or dir itself.
func below(dir, abs string) (string, bool) {
	if abs == dir {
		return "", true
	}
	if dir == "" {
		return "", false
	}
	return strings.CutPrefix(abs, strings.TrimSuffix(dir, "/")+"/")
}

func join(dir, name string) string {
	if name == "" {
		return dir
	}
	return dir + "/" + name
}
