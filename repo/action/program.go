package action

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// findProgram returns the path of the program that a shell in dir would start
// for name. Relative to what it is started in is dir.
func findProgram(name, dir, searchPath string) (string, error) {
	if strings.Contains(name, "/") {
		return absolute(dir, name), nil
	}
	var denied error
	for d := range strings.SplitSeq(searchPath, ":") {
		path := absolute(dir, d) + "/" + name
		switch err := executable(path); {
		case err == nil:
			return path, nil
		case err == unix.EACCES:
			denied = fmt.Errorf("%s: %w", path, fs.ErrPermission)
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", fmt.Errorf("%s: command %w", name, errNotFound)
}

// errNotFound is os.ErrNotExist in the words of shells.
var errNotFound error = notFound{}

type notFound struct{}

func (notFound) Error() string        { return "not found" }
func (notFound) Is(target error) bool { return target == os.ErrNotExist }

func absolute(dir, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}

func executable(path string) error {
	var st unix.Stat_t
	if err := stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || unix.Access(path, unix.X_OK) != nil {
		return unix.EACCES
	}
	return nil
}

// identify returns what the program at path is made of: itself, and if it is a
// script the interpreter that its first line names, and so on. Files are the
// same as inputs.
func (r *reader) identify(path, dir, searchPath string) (chain []Program, files []input, err error) {
	for range 4 { // the kernel's own limit
		s, err := r.look(path, false)
		if err != nil {
			return nil, nil, err
		}
		if s.text != "" {
			return nil, nil, fmt.Errorf("program %s: is no file (%s)", path, strings.TrimSpace(s.text))
		}
		chain = append(chain, Program{Name: strings.ReplaceAll(filepath.Base(path), "\n", "?"), ID: s.id})
		files = append(files, input{path: path, state: s})
		next, err := interpreter(path, dir, searchPath)
		if err != nil || next == "" {
			return chain, files, err
		}
		path = next
	}
	return chain, files, nil
}

// interpreter returns the path of the program that runs the script at path, or
// nothing if it is no script.
func interpreter(path, dir, searchPath string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil // what can be executed need not be readable
	}
	defer unix.Close(fd)
	var room [256]byte
	n, _ := unix.Read(fd, room[:])
	line, ok := bytes.CutPrefix(room[:max(n, 0)], []byte("#!"))
	if !ok {
		return "", nil
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return "", nil
	}
	if filepath.Base(words[0]) != "env" {
		return absolute(dir, words[0]), nil
	}
	// "env -S NAME=value python3 -u": the first word that is neither flag nor variable.
	for _, word := range words[1:] {
		if word[0] != '-' && !strings.Contains(word, "=") {
			return findProgram(word, dir, searchPath)
		}
	}
	return absolute(dir, words[0]), nil
}
