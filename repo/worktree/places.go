package worktree

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// placed is a place that was found: a node of a directory.
type placed struct {
	name string // path in the tree, escaped
	in   *dir
	node string // its name in that directory
}

// open finds the places on disk and hangs them up below the root.
func (s *snapshot) open(places []Place, w *walker) error {
	places = slices.Clone(places)
	// A place comes before those that lie in it.
	slices.SortStableFunc(places, func(a, b Place) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range places {
		if err := s.openPlace(p, w); err != nil {
			return err
		}
	}
	s.root.sort()
	return nil
}

func (s *snapshot) openPlace(p Place, w *walker) error {
	names := strings.Split(p.Name, "/")
	for _, name := range names {
		if err := objects.CheckName(name); err != nil {
			return fmt.Errorf("save %s as %q: %w", p.Path, p.Name, err)
		}
	}
	var st unix.Stat_t
	if err := lstatAt(unix.AT_FDCWD, p.Path, &st); err != nil {
		return pathError("save", p.Path, err)
	}
	if w.keep.keeps(&st) {
		return fmt.Errorf("save %s: that is never saved", p.Path)
	}
	last := len(names) - 1
	n, ok := newNode(names[last], &st)
	if !ok {
		w.skip(p.Path, &st)
		return nil
	}
	in, path, inside := s.root.enter(names[:last])
	if inside != nil || in.find(n.name) != nil {
		if inside != nil && inside.dir == nil {
			return fmt.Errorf("save %s: %q is no directory", p.Path, inside.name)
		}
		return nil // part of another place
	}
	t, err := s.openTop(p, n.mode.IsDir(), names)
	if err != nil {
		return err
	}
	if n.mode.IsDir() {
		n.dir = &dir{top: t}
		s.dirs = append(s.dirs, n.dir)
	} else {
		n.top, n.disk = t, filepath.Base(p.Path)
		n.id, n.known = s.o.Cache.Lookup(n.stat)
	}
	in.nodes = append(in.nodes, n)
	s.placed = append(s.placed, placed{name: below(path, n.name), in: in, node: n.name})
	return nil
}

// openTop opens the place itself, or the directory that the file is in. Files side
// by side share it.
func (s *snapshot) openTop(p Place, isDir bool, names []string) (*top, error) {
	path, flags := p.Path, unix.O_NOFOLLOW
	if !isDir {
		path, flags = filepath.Dir(p.Path), 0
		if n := len(s.tops); n > 0 && s.tops[n-1].path == path && s.tops[n-1].files {
			return s.tops[n-1], nil
		}
	}
	fd, err := openAt(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|flags, 0)
	if err != nil {
		return nil, pathError("open", path, err)
	}
	t := &top{fd: fd, path: path, match: strings.Join(names[1:], "/"), own: !p.WithGit, files: !isDir}
	s.tops = append(s.tops, t)
	return t, nil
}

// enter returns the directory at names below d, which is made if need be. If
// there is a place on the way, that place is returned.
func (d *dir) enter(names []string) (in *dir, path string, inside *node) {
	for _, name := range names {
		name = entry.EscapeName(name, objects.ModeDir)
		n := d.find(name)
		if n == nil {
			d.nodes = append(d.nodes, node{name: name, mode: objects.ModeDir, perm: dirPerm, dir: &dir{}})
			n = &d.nodes[len(d.nodes)-1]
		}
		if n.dir == nil || n.dir.top != nil {
			return nil, "", n
		}
		d, path = n.dir, below(path, name)
	}
	return d, path, nil
}

// find is for the few nodes between the root and the places.
func (d *dir) find(name string) *node {
	for i := range d.nodes {
		if d.nodes[i].name == name {
			return &d.nodes[i]
		}
	}
	return nil
}

// sort brings the directories between the root and the places in order.
func (d *dir) sort() {
	for i := range d.nodes {
		if sub := d.nodes[i].dir; sub != nil && sub.top == nil {
			sub.sort()
		}
	}
	slices.SortFunc(d.nodes, compareNodes)
}

// columns returns what the trees do not say, for each place.
func (s *snapshot) columns() []entry.Files {
	files := make([]entry.Files, 0, len(s.placed))
	for _, p := range s.placed {
		c := columns{times: !s.o.NoTimes}
		c.node(p.in.find(p.node))
		files = append(files, c.files(p.name))
	}
	return files
}

type columns struct {
	times bool // keep them
	modes bool // some tree does not say enough

	mode []uint16
	time []int64
}

func (c *columns) node(n *node) {
	mode := uint16(0)
	if n.mode != objects.ModeSymlink && n.perm != permOf(n.mode) {
		mode = cmp.Or(n.perm, entry.NoPermission)
		c.modes = true
	}
	c.mode = append(c.mode, mode)
	if c.times {
		c.time = append(c.time, n.stat.Mtime)
	}
	if n.dir != nil {
		for i := range n.dir.nodes {
			c.node(&n.dir.nodes[i])
		}
	}
}

func (c *columns) files(path string) entry.Files {
	f := entry.Files{Path: path, Times: c.time}
	if c.modes {
		f.Modes = c.mode
	}
	return f
}
