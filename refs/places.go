package refs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// A dirSet collects directories in which names changed, so that each is synced
// once.
type dirSet map[string]bool

func (d dirSet) sync() error {
	for dir := range d {
		// A directory that went away meanwhile has nothing left to lose.
		if err := durable.SyncDir(dir); err != nil && !absent(err) {
			return err
		}
		delete(d, dir)
	}
	return nil
}

// checkPlaces refuses new refs that would be a file and a directory at once,
// with each other or with what stays.
func (f *Files) checkPlaces(ctx context.Context, moves journal) error {
	becomes := map[Name]objects.ID{}
	for _, m := range moves {
		becomes[m.name] = m.New
	}
	stays := func(name Name) bool {
		if id, moved := becomes[name]; moved {
			return !id.IsZero()
		}
		_, err := f.read(name)
		return !errors.Is(err, ErrNotFound)
	}
	for _, m := range moves {
		if m.New.IsZero() || !m.Old.IsZero() {
			continue
		}
		inTheWay, err := f.names(ctx, string(m.name)+"/")
		if err != nil {
			return err
		}
		for dir := above(m.name); dir != ""; dir = above(dir) {
			inTheWay = append(inTheWay, dir)
		}
		for _, name := range inTheWay {
			if stays(name) {
				return fmt.Errorf("%s: %w: it cannot be beside %s", m.name, ErrNameTaken, name)
			}
		}
	}
	return nil
}

// above returns the name one part shorter, if that could be one: not the
// directories refs/heads and such, which stay.
func above(name Name) Name {
	if strings.Count(string(name), "/") <= 2 {
		return ""
	}
	return Name(path.Dir(string(name)))
}

// write puts id into the file of name. The bytes are synced, the name is not.
func (f *Files) write(name Name, id objects.ID, dirs dirSet) error {
	path := f.path(name)
	if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
		if err := removeDirs(path); err != nil {
			return err
		}
	}
	if err := durable.MkdirAll(filepath.Dir(path), durable.Synced); err != nil {
		return err
	}
	// Pending in the repository's directory: in that of the ref its name would
	// be that of a ref.
	file, err := durable.Create(f.dir)
	if err != nil {
		return err
	}
	defer file.Abort()
	if _, err := file.Write([]byte(id.String() + "\n")); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	dirs[filepath.Dir(path)] = true
	return file.CommitAs(path, durable.NoSync)
}

// remove removes the file of name, if it is there. A directory there is no ref:
// of refs that have moved below this one already.
func (f *Files) remove(name Name, dirs dirSet) error {
	path := f.path(name)
	dirs[filepath.Dir(path)] = true
	if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
		return nil
	}
	if err := durable.Remove(path); err != nil && !absent(err) {
		return err
	}
	return nil
}

// tidy removes what a ref that is gone leaves behind: its log, and directories
// that are empty now. What it cannot remove harms nobody.
func (f *Files) tidy(name Name) {
	_ = durable.Remove(f.logPath(name))
	for _, file := range [...]func(Name) string{f.path, f.logPath} {
		for dir := above(name); dir != ""; dir = above(dir) {
			if durable.RemoveDir(file(dir)) != nil {
				break
			}
		}
	}
}

// removeDirs removes a directory that holds nothing but directories.
func removeDirs(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeDirs(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return durable.RemoveDir(dir)
}

// removeAll removes a file or a directory with all that is in it, if it is there.
func removeAll(path string) error {
	entries, err := os.ReadDir(path)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !absent(err):
		return err
	}
	for _, e := range entries {
		if err := removeAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	if err := durable.Remove(path); err != nil && !absent(err) {
		return err
	}
	return nil
}
