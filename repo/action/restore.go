package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/statcache"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

// An output is something that a cached result has for a declared path.
type output struct {
	path  string // absolute
	entry objects.Entry
	files entry.Files

	withGit bool // see worktree.Place

	made string // the new file, until it gets its name; empty if path is right as it is
}

// A restorer puts outputs back. It proves and writes everything first, under
// names of its own, and renames then, so that what it finds out too late to
// be a hit has changed nothing.
type restorer struct {
	store   Store
	cache   *statcache.Cache
	keep    string // the repository
	outputs []output
}

// pendingPrefix begins the names of files that are not in place yet. No
// snapshot sees them.
const pendingPrefix = ".cache-tool-restore-"

// maxWhole is up to what size a file is held in memory.
const maxWhole = 4 << 20

// restore leaves alone what is right, and makes the rest so.
func (r *restorer) restore(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			r.drop()
		}
	}()
	for i := range r.outputs {
		o := &r.outputs[i]
		switch {
		case o.entry.Mode.IsDir():
		case o.entry.Mode == objects.ModeSymlink:
			err = r.link(ctx, o)
		default:
			err = r.file(ctx, o)
		}
		if err != nil {
			return fmt.Errorf("restore %s: %w", o.path, err)
		}
	}
	if err := r.directories(ctx); err != nil {
		return err
	}
	for i := range r.outputs {
		o := &r.outputs[i]
		if o.made == "" {
			continue
		}
		if err := os.Rename(o.made, o.path); err != nil {
			return fmt.Errorf("restore %s: %w", o.path, err)
		}
		o.made = ""
	}
	return nil
}

// directories makes the directories what they must be. What else is in them stays.
func (r *restorer) directories(ctx context.Context) error {
	var targets []worktree.Target
	for _, o := range r.outputs {
		if o.entry.Mode.IsDir() {
			targets = append(targets, worktree.Target{
				Dir: o.path, Mode: o.entry.Mode, ID: o.entry.ID, Modes: o.files.Modes, WithGit: o.withGit,
			})
		}
	}
	if len(targets) == 0 {
		return nil
	}
	_, err := worktree.Restore(ctx, r.store, targets, worktree.RestoreOptions{Keep: []string{r.keep}, Cache: r.cache})
	return err
}

func (r *restorer) drop() {
	for _, o := range r.outputs {
		if o.made != "" {
			os.Remove(o.made)
		}
	}
}

// mode returns the permissions that the output must have, if it matters which.
func (o *output) mode() (perm uint16, exact bool) {
	if len(o.files.Modes) > 0 && o.files.Modes[0] != 0 {
		return o.files.Modes[0], true
	}
	if o.entry.Mode == objects.ModeExec {
		return 0o777, false
	}
	return 0o666, false
}

// rightMode reports whether a file of these permissions is as the output must be.
func (o *output) rightMode(have uint32) bool {
	perm, exact := o.mode()
	if exact {
		return have&0o7777 == uint32(perm)
	}
	return (have&0o100 != 0) == (perm&0o100 != 0)
}

func (r *restorer) file(ctx context.Context, o *output) error {
	var st unix.Stat_t
	err := lstat(o.path, &st)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG:
		look := reader{r.cache}
		if id, _, _, err := look.id(o.path, &st); err == nil && id == o.entry.ID && o.rightMode(st.Mode) {
			return nil
		}
	case err == unix.ENOENT:
		if err := os.MkdirAll(filepath.Dir(o.path), 0o777); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	return r.write(ctx, o)
}

// write makes the file beside where it will be.
func (r *restorer) write(ctx context.Context, o *output) error {
	perm, exact := o.mode()
	f, err := createBeside(o.path, uint32(perm&0o777))
	if err != nil {
		return err
	}
	o.made = f.Name()
	err = r.copy(ctx, f, o.entry.ID)
	if exact && err == nil {
		err = unix.Fchmod(int(f.Fd()), uint32(perm))
	}
	return errors.Join(err, f.Close())
}

// copy writes the blob to f. It is in f that a long one is proven.
func (r *restorer) copy(ctx context.Context, f *os.File, id objects.ID) error {
	body, long, err := readBlob(ctx, r.store, id, maxWhole)
	if err != nil {
		return err
	}
	if long == nil {
		_, err = f.Write(body)
		return err
	}
	defer long.Close()
	_, err = io.Copy(f, long)
	return err
}

func (r *restorer) link(ctx context.Context, o *output) error {
	body, err := objects.ReadKind(ctx, r.store, o.entry.ID, objects.Blob)
	if err != nil {
		return err
	}
	if len(body) == 0 || len(body) >= 4096 || strings.ContainsRune(string(body), 0) {
		return fmt.Errorf("link to %.20q: %w", body, os.ErrInvalid)
	}
	if target, err := os.Readlink(o.path); err == nil && target == string(body) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(o.path), 0o777); err != nil {
		return err
	}
	for {
		made := pendingName(o.path)
		err := os.Symlink(string(body), made)
		if err == nil {
			o.made = made
		}
		if !errors.Is(err, os.ErrExist) {
			return err
		}
	}
}

// readBlob returns a blob whole, or a stream of it if it is longer than most: one
// that is proven at its end.
func readBlob(ctx context.Context, r Store, id objects.ID, most int64) ([]byte, io.ReadCloser, error) {
	if _, size, err := r.Stat(ctx, id); err == nil && size <= most {
		body, err := objects.ReadKind(ctx, r, id, objects.Blob)
		return body, nil, err
	}
	o, err := r.Open(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if o.Kind != objects.Blob {
		o.Body.Close()
		return nil, nil, fmt.Errorf("%s: is a %s, want a blob", id, o.Kind)
	}
	return nil, o.Body, nil
}

// createBeside makes a pending file in the directory of path.
func createBeside(path string, perm uint32) (*os.File, error) {
	for {
		name := pendingName(path)
		fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, perm)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EEXIST, unix.EINTR:
		default:
			return nil, &os.PathError{Op: "create", Path: name, Err: err}
		}
	}
}

func pendingName(path string) string {
	return path[:strings.LastIndexByte(path, '/')+1] + pendingPrefix + strconv.FormatUint(rand.Uint64(), 36)
}
