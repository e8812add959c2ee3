package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// A node is a name that was found on disk.
type node struct {
	name  string // in the tree
	disk  string // on disk: name unescaped
	mode  objects.Mode
	perm  uint16
	known bool // id is that of the content
	stat  statcache.Stat
	id    objects.ID
	dir   *dir // if it is a directory
	top   *top // if it is a place, and no directory
}

// A dir is a directory that was found on disk, or one of the tree alone.
type dir struct {
	top   *top
	path  string // below top
	nodes []node // in the order of the tree

	prev objects.ID // the tree that stood here last time
	id   objects.ID // its tree, once computed
	done bool       // id is stored, and all below
}

// A top is the open directory from which a place's files are reached.
type top struct {
	fd    int
	path  string // as it was called, for errors
	match string // where it stands for the patterns of Exclude
	own   bool   // it has the work tree's own .git, which is not saved
	files bool   // it is not a place itself, but has some
}

func (t *top) shown(path string) string { return filepath.Join(t.path, path) }

// compareNodes is Git's order.
func compareNodes(a, b node) int {
	return objects.CompareEntries(objects.Entry{Mode: a.mode, Name: a.name}, objects.Entry{Mode: b.mode, Name: b.name})
}

// A walker finds what is below directories, several at once.
type walker struct {
	o     *SnapshotOptions
	keep  *keeper
	stack *stack[*dir]

	mu      sync.Mutex
	skipped []Skipped // guarded by mu
}

// cleanPatterns returns the patterns as excluded wants them.
func cleanPatterns(patterns []string) ([]string, error) {
	clean := make([]string, 0, len(patterns))
	for _, p := range patterns {
		if !doublestar.ValidatePattern(p) || p == "" {
			return nil, fmt.Errorf("exclude %q: malformed pattern", p)
		}
		// "./out" and "out/" are how people write down directories.
		if p = strings.TrimPrefix(p, "./"); len(p) > 1 {
			p = strings.TrimSuffix(p, "/")
		}
		clean = append(clean, p)
	}
	return clean, nil
}

// walk fills the directories and all below them.
func (w *walker) walk(ctx context.Context, dirs []*dir) error {
	w.stack = newStack(dirs...)
	return w.stack.drain(ctx, parallel(w.o.Parallel), func() func(*dir) error {
		buf := make([]byte, 64<<10)
		var found []foundName
		return func(d *dir) (err error) {
			found, err = w.fill(d, buf, found[:0])
			return err
		}
	})
}

type foundName struct {
	name string
	kind uint8
}

// fill reads one directory. What it has found is returned to be used again.
func (w *walker) fill(d *dir, buf []byte, found []foundName) ([]foundName, error) {
	fd, err := openDir(d.top.fd, d.path)
	if isGone(err) || err == unix.ELOOP {
		return found, &ChangedError{d.top.shown(d.path)}
	} else if err != nil {
		return found, pathError("open", d.top.shown(d.path), err)
	}
	defer unix.Close(fd)
	err = dirNames(fd, buf, func(name string, kind uint8) { found = append(found, foundName{name, kind}) })
	if err != nil {
		return found, pathError("read", d.top.shown(d.path), err)
	}
	slices.SortFunc(found, func(a, b foundName) int { return cmp.Compare(a.name, b.name) })
	d.nodes = make([]node, 0, len(found))
	var sub []*dir
	for _, f := range found {
		if w.excluded(d, f.name) {
			continue
		}
		n, ok, err := w.look(d, fd, f.name)
		if err != nil {
			return found, err
		}
		if !ok {
			continue
		}
		if n.dir != nil {
			sub = append(sub, n.dir)
		}
		d.nodes = append(d.nodes, n)
	}
	if !slices.IsSortedFunc(d.nodes, compareNodes) {
		slices.SortFunc(d.nodes, compareNodes)
	}
	slices.Reverse(sub) // the first is on top of the stack
	w.stack.push(sub...)
	return found, nil
}

// excluded reports whether name in d is not to be looked at.
func (w *walker) excluded(d *dir, name string) bool {
	if d.path == "" && d.top.own && name == gitDir {
		return true
	}
	if strings.HasPrefix(name, stagePrefix) {
		return true
	}
	if len(w.o.Exclude) == 0 {
		return false
	}
	for _, pattern := range w.o.Exclude {
		subject := name
		switch {
		case strings.HasPrefix(pattern, "/"):
			subject = d.top.shown(below(d.path, name))
		case strings.Contains(pattern, "/"):
			subject = below(below(d.top.match, d.path), name)
		}
		if doublestar.MatchUnvalidated(pattern, subject) {
			return true
		}
	}
	return false
}

// look makes a node of the name in d, which fd is. It is not ok if there is
// nothing to save.
func (w *walker) look(d *dir, fd int, name string) (n node, ok bool, err error) {
	var st unix.Stat_t
	if err := lstatAt(fd, name, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return n, false, nil // gone since the directory was read
		}
		return n, false, pathError("stat", d.top.shown(below(d.path, name)), err)
	}
	if w.keep.keeps(&st) {
		return n, false, nil
	}
	n, ok = newNode(name, &st)
	switch {
	case !ok:
		w.skip(d.top.shown(below(d.path, name)), &st)
	case n.mode.IsDir():
		n.dir = &dir{top: d.top, path: below(d.path, name)}
	default:
		n.id, n.known = w.o.Cache.Lookup(n.stat)
	}
	return n, ok, nil
}

func (w *walker) skip(path string, st *unix.Stat_t) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.skipped = append(w.skipped, Skipped{Path: path, What: special(st)})
}

// newNode returns what st says. It is not ok if a tree cannot hold it.
func newNode(name string, st *unix.Stat_t) (n node, ok bool) {
	mode, ok := modeOf(uint32(st.Mode))
	n = node{disk: name, mode: mode, perm: uint16(st.Mode) & permBits, stat: statcache.StatOf(st)}
	n.name = entry.EscapeName(name, mode)
	return n, ok
}

// modeOf returns the mode that a tree has for a file.
func modeOf(mode uint32) (m objects.Mode, ok bool) {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		if mode&unix.S_IXUSR != 0 {
			return objects.ModeExec, true
		}
		return objects.ModeFile, true
	case unix.S_IFDIR:
		return objects.ModeDir, true
	case unix.S_IFLNK:
		return objects.ModeSymlink, true
	}
	return 0, false
}

func special(st *unix.Stat_t) string {
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "device"
	}
	return "unknown kind of file"
}
