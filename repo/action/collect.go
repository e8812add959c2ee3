package action

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

// A collector finds the files that --in names.
type collector struct {
	base base
	dir  string   // the working directory
	skip []string // what is passed over where it is found, but not where it is named
	seen []input
}

// collect adds what pattern names: files, and directories with all that is in
// them. A pattern without wildcards that names nothing is an input, too: one
// that is absent.
func (c *collector) collect(pattern string) error {
	root, rest := "/", filepath.Clean(pattern)
	if !filepath.IsAbs(rest) {
		root = c.dir
	}
	for rest != "" && !strings.ContainsAny(firstName(rest), globMeta) {
		name := firstName(rest)
		root, rest = filepath.Join(root, name), strings.TrimPrefix(rest[len(name):], "/")
	}
	switch {
	case rest == "":
		return c.addNamed(root)
	case !strings.ContainsAny(rest, wildcards): // nothing but escapes
		return c.addNamed(filepath.Join(root, globUnescape(rest)))
	}
	return c.match(root, rest)
}

const (
	wildcards = "*?[{"
	globMeta  = wildcards + `\\`
)

func firstName(path string) string {
	name, _, _ := strings.Cut(path, "/")
	return name
}

func (c *collector) addNamed(path string) error {
	var st unix.Stat_t
	if stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return c.addDir(path)
	}
	c.add(path)
	return nil
}

// match adds what of the tree below root matches pattern.
func (c *collector) match(root, pattern string) error {
	depth := strings.Count(pattern, "/") + 1
	if strings.Contains(pattern, "**") || strings.Contains(pattern, "{") {
		depth = math.MaxInt
	}
	var walk func(dir, rel string, level int) error
	walk = func(dir, rel string, level int) error {
		return c.each(dir, func(path string, e fs.DirEntry) error {
			name := rel + e.Name()
			matches, err := doublestar.Match(pattern, name)
			switch {
			case err != nil:
				return fmt.Errorf("inputs %s: %w", pattern, err)
			case matches && e.IsDir():
				return c.addDir(path)
			case matches:
				c.addEntry(path, e)
			case e.IsDir() && level < depth:
				return walk(path, name+"/", level+1)
			}
			return nil
		})
	}
	return walk(root, "", 1)
}

// addDir adds all that is in dir, and dir itself if it is empty. Symlinks in it
// are not followed into other directories.
func (c *collector) addDir(dir string) error {
	empty := true
	err := c.each(dir, func(path string, e fs.DirEntry) error {
		empty = false
		if e.IsDir() {
			return c.addDir(path)
		}
		c.addEntry(path, e)
		return nil
	})
	if empty && err == nil {
		c.seen = append(c.seen, input{path: dir, place: c.base.place(dir) + "/", state: state{text: leafDirectory}})
	}
	return err
}

// each calls fn for what is in dir, but for the files of Git and of caches, which
// change by themselves, and for what is skipped.
func (c *collector) each(dir string, fn func(path string, e fs.DirEntry) error) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inputs: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.Name() == ".git" || e.Name() == ".cache-tool" || c.skipped(path) {
			continue
		}
		if err := fn(path, e); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) skipped(path string) bool {
	for _, s := range c.skip {
		if within(path, s) {
			return true
		}
	}
	return false
}

// addEntry adds what a directory has, but for what cannot be read to its end.
func (c *collector) addEntry(path string, e fs.DirEntry) {
	if e.Type()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeDevice) == 0 {
		c.add(path)
	}
}

func (c *collector) add(path string) {
	c.seen = append(c.seen, input{path: path, place: c.base.place(path), link: true})
}

// globUnescape takes the escapes out of a pattern without wildcards.
func globUnescape(pattern string) string {
	if !strings.Contains(pattern, `\`) {
		return pattern
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' && i+1 < len(pattern) {
			i++
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}
