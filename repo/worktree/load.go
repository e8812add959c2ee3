package worktree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// Bounds of what a tree may unfold to. A tree of a few hundred bytes can name
// itself into more files than any disk has.
const (
	maxWants = 1 << 24
	maxDepth = 4096
)

// ErrTooBig says that a tree unfolds to more than any disk would hold.
var ErrTooBig = errors.New("tree is too big")

// A want is what a tree says is to stand at a name.
type want struct {
	name  string // on disk
	mode  objects.Mode
	perm  uint16
	leave bool  // it is not to be restored
	mtime int64 // noTime if any will do
	size  int64 // of a file, once measured
	id    objects.ID
	dir   *wantDir // if it is a directory
}

const noTime = -1 << 63

// A wantDir is a directory that is to be, or the one above a target.
type wantDir struct {
	place *target
	path  string // below the target
	above bool   // it is not part of the target, but has its name
	depth int
	want  *want  // what is to be known of it; nil if above
	wants []want // what is to be in it, in the order of the tree

	// Of a directory that exists, after compare:
	was     unix.Stat_t
	mount   mount
	touched bool // names in it come or go
	staged  bool // it has a stage for a while
	forced  bool // its permissions had to be changed to work in it
}

// shown is what errors call a name in d.
func (d *wantDir) shown(name string) string {
	if d.above {
		return d.place.shown("")
	}
	return d.place.shown(below(d.path, name))
}

// load reads the trees of all targets.
func (s *restore) load(ctx context.Context) error {
	if err := checkNested(s.places); err != nil {
		return err
	}
	var dirs []*wantDir
	for _, t := range s.places {
		t.above = &wantDir{place: t, above: true, mount: t.mount}
		t.want = want{name: t.name, mode: t.Mode, perm: permOf(t.Mode), mtime: noTime, id: t.ID}
		if t.Mode.IsDir() {
			t.want.dir = &wantDir{place: t, want: &t.want}
			dirs = append(dirs, t.want.dir)
		}
	}
	l := &loader{r: s.r, trees: map[objects.ID]*loaded{}}
	if err := l.load(ctx, dirs, parallel(s.o.Parallel)); err != nil {
		return err
	}
	for _, d := range dirs {
		n, depth := l.trees[d.want.id].size(l)
		if n > maxWants || depth > maxDepth {
			return fmt.Errorf("restore %s: %w", d.shown(""), ErrTooBig)
		}
		if err := l.unfold(d); err != nil {
			return err
		}
	}
	for _, t := range s.places {
		if err := t.describe(); err != nil {
			return err
		}
	}
	return nil
}

// checkNested refuses targets that lie in other targets: who is to say what
// stands there?
func checkNested(targets []*target) error {
	paths := make([]string, len(targets))
	for i, t := range targets {
		paths[i] = strings.TrimSuffix(t.shown(""), "/") + "/"
	}
	slices.Sort(paths)
	for i := 1; i < len(paths); i++ {
		if strings.HasPrefix(paths[i], paths[i-1]) {
			return fmt.Errorf("restore %s: it is in %s, which is restored too", paths[i], paths[i-1])
		}
	}
	return nil
}

// A loader reads trees, each once however often it occurs. How much a tree
// unfolds to is known before it is unfolded.
type loader struct {
	r objects.Reader

	mu    sync.Mutex
	trees map[objects.ID]*loaded // guarded by mu while load runs
}

// loaded is a tree.
type loaded struct {
	d       *wantDir // one that has it, for errors
	entries objects.Entries
	names   int // it unfolds to, once it was sized
	depth   int
}

func (l *loader) load(ctx context.Context, dirs []*wantDir, workers int) error {
	todo := newStack[*loaded]()
	for _, d := range dirs {
		l.want(d.want.id, d, todo)
	}
	return todo.drain(ctx, workers, func() func(*loaded) error {
		return func(t *loaded) (err error) {
			if t.entries, err = objects.ReadTree(ctx, l.r, t.d.want.id); err != nil {
				return fmt.Errorf("restore %s: %w", t.d.shown(""), err)
			}
			for i, e := range t.entries {
				if e.Mode.IsDir() {
					w := &want{id: e.ID}
					l.want(e.ID, &wantDir{place: t.d.place, path: below(t.d.path, t.entries[i].Name), want: w}, todo)
				}
			}
			return nil
		}
	})
}

// want has a tree loaded that was not wanted before.
func (l *loader) want(id objects.ID, d *wantDir, todo *stack[*loaded]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trees[id] == nil {
		t := &loaded{d: d}
		l.trees[id] = t
		todo.push(t)
	}
}

// size returns how many names the tree unfolds to, and how deep. It stops
// counting above the bounds.
func (t *loaded) size(l *loader) (names, depth int) {
	if t.depth > 0 {
		return t.names, t.depth
	}
	// No tree can contain itself: its id would have to hash to itself.
	names, depth = len(t.entries), 1
	for _, e := range t.entries {
		if e.Mode.IsDir() {
			n, d := l.trees[e.ID].size(l)
			names, depth = min(names+n, maxWants+1), max(depth, d+1)
		}
	}
	t.names, t.depth = names, depth
	return names, depth
}

// unfold makes the wants below d.
func (l *loader) unfold(d *wantDir) error {
	tree := l.trees[d.want.id].entries
	d.wants = make([]want, len(tree))
	unescaped := false
	for i, e := range tree {
		w := &d.wants[i]
		*w = want{name: entry.UnescapeName(e.Name), mode: e.Mode, perm: permOf(e.Mode), mtime: noTime, id: e.ID}
		unescaped = unescaped || w.name != e.Name
		if !e.Mode.IsDir() {
			continue
		}
		w.dir = &wantDir{place: d.place, path: below(d.path, w.name), depth: d.depth + 1, want: w}
		if err := l.unfold(w.dir); err != nil {
			return err
		}
	}
	if unescaped {
		if err := d.checkNames(); err != nil {
			return fmt.Errorf("restore %s: %w: %w", d.shown(""), objects.ErrBadTree, err)
		}
	}
	return nil
}

// checkNames checks what objects.ParseTree has checked, once more, for names that
// were unescaped: "..%" is one that passes there.
func (d *wantDir) checkNames() error {
	seen := make(map[string]bool, len(d.wants))
	for i := range d.wants {
		name := d.wants[i].name
		if err := objects.CheckName(name); err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("two names become %q", name)
		}
		seen[name] = true
	}
	return nil
}

// describe gives the wants the permissions and times of the columns.
func (t *target) describe() error {
	c := cursor{modes: t.Modes, times: t.Times}
	c.want(&t.want)
	if t.Modes != nil && c.n != len(t.Modes) || t.Times != nil && c.n != len(t.Times) {
		return fmt.Errorf("restore %s: the tree holds %d names, described are %d", t.shown(""), c.n, max(len(t.Modes), len(t.Times)))
	}
	if t.WithGit || t.want.dir == nil {
		return nil
	}
	for i := range t.want.dir.wants {
		if w := &t.want.dir.wants[i]; w.name == gitDir {
			w.leave = true
		}
	}
	return nil
}

// A cursor walks along the columns.
type cursor struct {
	modes []uint16
	times []int64
	n     int
}

func (c *cursor) want(w *want) {
	if c.n < len(c.modes) && c.modes[c.n] != 0 && w.mode != objects.ModeSymlink {
		w.perm = c.modes[c.n] & permBits
	}
	if c.n < len(c.times) {
		w.mtime = c.times[c.n]
	}
	c.n++
	if w.dir == nil {
		return
	}
	for i := range w.dir.wants {
		c.want(&w.dir.wants[i])
	}
}
