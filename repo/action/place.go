package action

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// A place says where a file is, so that machines which have the same project in
// different directories agree: "base/src/a.c" below the base, "abs/usr/bin/cc"
// anywhere else. "base" and "abs" are the two roots themselves. A place is the
// path of a tree, but for the names that Git refuses.

// A base is the absolute, clean path of the directory that places begin at.
type base string

// place returns the place of the absolute, clean path.
func (b base) place(path string) string {
	switch {
	case path == string(b):
		return entry.BaseName
	case b == "/":
		return entry.BaseName + path
	case len(path) > len(b) && path[len(b)] == '/' && path[:len(b)] == string(b):
		return entry.BaseName + path[len(b):]
	case path == "/":
		return entry.AbsName
	}
	return entry.AbsName + path
}

// path returns the absolute path of a place.
func (b base) path(place string) string {
	if below, ok := strings.CutPrefix(place, entry.AbsName); ok {
		if below == "" {
			return "/"
		}
		return below
	}
	below := strings.TrimPrefix(place, entry.BaseName)
	switch {
	case below == "":
		return string(b)
	case b == "/":
		return below
	}
	return string(b) + below
}

// checkPlace refuses what place does not return. A place that was read from a
// store may come from anybody.
func checkPlace(place string) error {
	root, below, deep := strings.Cut(place, "/")
	if root != entry.BaseName && root != entry.AbsName {
		return fmt.Errorf("place %q begins with neither %q nor %q", place, entry.BaseName, entry.AbsName)
	}
	for deep {
		var name string
		name, below, deep = strings.Cut(below, "/")
		if err := objects.CheckName(name); err != nil {
			return fmt.Errorf("place %q: %w", place, err)
		}
	}
	return nil
}

// Show returns a place as people type it: relative to the base, or absolute.
func Show(place string) string {
	if below, ok := strings.CutPrefix(place, entry.BaseName+"/"); ok {
		return below
	}
	if place == entry.BaseName {
		return "."
	}
	return base("").path(place)
}

// treePath returns the path of a place in a tree.
func treePath(place string) string {
	escaped := false
	for rest, name, more := place, "", true; more; {
		name, rest, more = strings.Cut(rest, "/")
		escaped = escaped || entry.EscapeName(name, objects.ModeFile) != name
	}
	if !escaped {
		return place
	}
	names := strings.Split(place, "/")
	for i, name := range names {
		names[i] = entry.EscapeName(name, objects.ModeFile)
	}
	return strings.Join(names, "/")
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// findBase returns the root of the enclosing Git work tree, or dir if there is none.
func findBase(dir string) string {
	for d := dir; ; d = filepath.Dir(d) {
		var st unix.Stat_t
		// In a linked work tree ".git" is a file.
		if unix.Lstat(filepath.Join(d, ".git"), &st) == nil {
			return d
		}
		if d == "/" || d == "." {
			return dir
		}
	}
}

// physical returns the absolute path of dir without symlinks, "" meaning the
// working directory. (os.Getwd believes $PWD, which may have some.)
func physical(dir string) (string, error) {
	if dir == "" {
		buffer := make([]byte, 4096)
		n, err := unix.Getcwd(buffer)
		if err != nil || n < 2 {
			return "", fmt.Errorf("find the working directory: %w", errors.Join(err, os.ErrNotExist))
		}
		return string(buffer[:n-1]), nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// locate returns the absolute, clean path of name, which is relative to dir. To
// take "a/.." out is wrong where a is a symlink; then the path without symlinks
// it is.
func locate(dir, name string) (string, error) {
	if !filepath.IsAbs(name) {
		name = dir + "/" + name
	}
	clean := filepath.Clean(name)
	if !strings.Contains(name, "/..") || !leavesSymlink(name) {
		return clean, nil
	}
	return filepath.EvalSymlinks(name)
}

// leavesSymlink reports whether there is a ".." in the path that follows a symlink.
func leavesSymlink(path string) bool {
	for i := 1; i < len(path); i++ {
		end := i + 3
		if !strings.HasPrefix(path[i:], "/..") || end < len(path) && path[end] != '/' {
			continue
		}
		var st unix.Stat_t
		if unix.Lstat(path[:i], &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return true
		}
	}
	return false
}
