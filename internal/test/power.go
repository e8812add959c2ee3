package test

import (
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// A Disk knows what a power cut would leave of a directory: of every file the
// bytes that it had when it was last synced, and in every directory the names
// that were there when that was last synced. What was written without
// durable's knowledge counts as never synced.
type Disk struct {
	root string

	mu    sync.Mutex
	nodes map[uint64]*node // by inode number; guarded by mu
}

// A node is what is known to be on the disk of a file or a directory.
type node struct {
	dir   bool
	data  []byte
	names map[string]*node
}

// NewDisk begins to watch root. All that is in it now counts as synced.
func NewDisk(tb testing.TB, root string) *Disk {
	tb.Helper()
	d := &Disk{root: root, nodes: map[uint64]*node{}}
	if _, err := d.take(root); err != nil {
		tb.Fatal(err)
	}
	return d
}

func inode(fi fs.FileInfo) uint64 { return fi.Sys().(*syscall.Stat_t).Ino }

// take records a file or directory with all that is in it as synced.
func (d *Disk) take(path string) (*node, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	n := &node{dir: fi.IsDir(), names: map[string]*node{}}
	d.nodes[inode(fi)] = n
	if !n.dir {
		n.data, err = os.ReadFile(path)
		return n, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if n.names[e.Name()], err = d.take(filepath.Join(path, e.Name())); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Hook watches the steps that do makes. The syncs among them it does not make:
// nobody cuts the power of a test.
func (d *Disk) Hook(s durable.Step, do func(durable.Step) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var goes uint64
	switch s.Op {
	case durable.OpRemove:
		goes = last(s.Path)
	case durable.OpRename:
		goes = last(s.To)
	}
	if err := unsynced(do)(s); err != nil {
		return err
	}
	delete(d.nodes, goes)
	switch s.Op {
	case durable.OpCreate, durable.OpMkdir:
		if fi, err := os.Lstat(s.Path); err == nil {
			d.nodes[inode(fi)] = &node{dir: fi.IsDir(), names: map[string]*node{}}
		}
	case durable.OpSync:
		return d.syncFile(s.File)
	case durable.OpSyncDir:
		return d.syncDir(s.Path)
	}
	return nil
}

// last returns the inode number that becomes free when path goes, for another
// file to take; 0 if it has other names or is not there.
func last(path string) uint64 {
	fi, err := os.Lstat(path)
	if err != nil || !fi.IsDir() && fi.Sys().(*syscall.Stat_t).Nlink > 1 {
		return 0
	}
	return inode(fi)
}

// at returns the node of a file that is there now.
func (d *Disk) at(fi fs.FileInfo) *node {
	n := d.nodes[inode(fi)]
	if n == nil || n.dir != fi.IsDir() {
		n = &node{dir: fi.IsDir(), names: map[string]*node{}}
		d.nodes[inode(fi)] = n
	}
	return n
}

func (d *Disk) syncFile(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	d.at(fi).data, err = io.ReadAll(io.NewSectionReader(f, 0, fi.Size()))
	return err
}

func (d *Disk) syncDir(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	d.at(fi).names, err = d.live(path)
	return err
}

// live returns the names that are in a directory now.
func (d *Disk) live(path string) (map[string]*node, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	names := map[string]*node{}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && (fi.IsDir() || fi.Mode().IsRegular()) {
			names[e.Name()] = d.at(fi)
		}
	}
	return names, nil
}

// Keep says whether something came to the disk although nobody had synced it:
// the bytes of a file, or the names in a directory.
type Keep func(path string, dir bool) bool

// What a power cut may leave, from the worst on.
var (
	KeepNothing Keep = func(string, bool) bool { return false }
	KeepNames   Keep = func(_ string, dir bool) bool { return dir } // files without their bytes: what ext4 was once famous for
)

// KeepSome lets chance decide.
func KeepSome(seed uint64) Keep {
	r := rand.New(rand.NewPCG(seed, seed))
	return func(string, bool) bool { return r.IntN(2) == 0 }
}

// CopyTo makes dst, an empty directory, what the watched one would be after a
// power cut.
func (d *Disk) CopyTo(dst string, keep Keep) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	paths := map[*node]string{} // where things are now
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			paths[d.at(fi)] = path
		}
		return err
	})
	if err != nil {
		return err
	}
	fi, err := os.Stat(d.root)
	if err != nil {
		return err
	}
	return d.write(d.at(fi), dst, paths, keep)
}

func (d *Disk) write(n *node, dst string, paths map[*node]string, keep Keep) (err error) {
	path, live := paths[n]
	live = live && keep(path, n.dir)
	if !n.dir {
		data := n.data
		if live {
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		return os.WriteFile(dst, data, 0o666)
	}
	if err := os.MkdirAll(dst, 0o777); err != nil {
		return err
	}
	names := n.names
	if live {
		if names, err = d.live(path); err != nil {
			return err
		}
	}
	for name, child := range names {
		if err := d.write(child, filepath.Join(dst, name), paths, keep); err != nil {
			return err
		}
	}
	return nil
}

// PowerCut interrupts Act before every step by a power cut, and once after the
// last, and checks what may be left of the directory: KeepNothing, KeepNames
// and a few times KeepSome.
func (c Case) PowerCut(t *testing.T) {
	t.Helper()
	for round, keep := range []Keep{KeepNothing, KeepNames, KeepSome(1), KeepSome(2), KeepSome(3)} {
		c.powerCut(t, round, keep)
	}
}

func (c Case) powerCut(t *testing.T, round int, keep Keep) {
	t.Helper()
	check := c.Check
	left := map[string]string{} // directory of Act: what the cut left of it
	c.Check = func(t *testing.T, dir string, err error) {
		defer os.RemoveAll(left[dir])
		check(t, left[dir], err)
	}
	c.each(t, round, func(dir string, at int) (string, error, bool) {
		disk := NewDisk(t, dir)
		plan := &Plan{At: at, Fault: Dead}
		restore := durable.SetHook(func(s durable.Step, do func(durable.Step) error) error {
			return plan.step(s, func(s durable.Step) error { return disk.Hook(s, do) })
		})
		err := c.Act(dir)
		restore()
		if err == nil && plan.dead {
			err = ErrDead
		}
		left[dir] = Dir(t)
		if err := disk.CopyTo(left[dir], keep); err != nil {
			t.Fatal(err)
		}
		return "power cut: " + plan.Where(), err, plan.Reached()
	})
}
