package action

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// An input is a file that a command reads.
type input struct {
	path  string // absolute
	place string
	link  bool // the link itself counts, not only what it leads to
	state state
}

// A state is what an input was like at a moment.
type state struct {
	id   objects.ID // of its content, if it is a regular file
	text string     // what else stands in its leaf, if it is none
	exec bool
	stat statcache.Stat // of the regular file in the end, zero if there is none
	sure bool           // a change since would show in stat
}

// What stands in the leaves of inputs: a regular file is the id of its content.
// For a declared input that is a symlink, "link TARGET" and what it leads to
// follow one another. All are lines.
const (
	leafAbsent    = "absent\n"
	leafDirectory = "directory\n"
	leafDevice    = "device\n"
	leafLink      = "link "
)

// known reports whether the input was looked at.
func (s *state) known() bool { return s.text != "" || !s.id.IsZero() }

// same reports whether the states make the same leaf.
func (s *state) same(other *state) bool {
	return s.id == other.id && s.text == other.text && s.exec == other.exec
}

// appendLeaf appends what stands in the leaf.
func (s *state) appendLeaf(dst []byte) []byte {
	if s.text != "" {
		return append(dst, s.text...)
	}
	return append(hex.AppendEncode(dst, s.id[:]), '\n')
}

var errSpecial = errors.New("is neither a file nor a directory")

// A reader finds out what inputs are like, and asks the stat cache first.
type reader struct{ cache *statcache.Cache }

// look returns the state of the file at path. Only one that the stat cache does
// not know is read.
func (r *reader) look(path string, link bool) (state, error) {
	var st unix.Stat_t
	var err error
	if link {
		err = lstat(path, &st)
	} else {
		err = stat(path, &st)
	}
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return state{text: leafAbsent}, nil
	case err != nil:
		return state{}, fmt.Errorf("input %s: %w", path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return r.file(path, &st)
	case unix.S_IFDIR:
		return state{text: leafDirectory}, nil
	case unix.S_IFLNK:
		return r.link(path)
	case unix.S_IFCHR:
		if path == os.DevNull {
			return state{text: leafDevice}, nil
		}
	}
	return state{}, fmt.Errorf("input %s: %w", path, errSpecial)
}

func (r *reader) link(path string) (state, error) {
	target, err := os.Readlink(path)
	if err != nil {
		return state{}, fmt.Errorf("input %s: %w", path, err)
	}
	s, err := r.look(path, false)
	s.text = leafLink + target + "\n" + string(s.appendLeaf(nil))
	s.id = objects.ID{}
	s.sure = false // the link may lead elsewhere
	return s, err
}

func (r *reader) file(path string, st *unix.Stat_t) (state, error) {
	id, s, sure, err := r.id(path, st)
	if err != nil {
		return state{}, fmt.Errorf("input %s: %w", path, err)
	}
	return state{id: id, exec: st.Mode&0o100 != 0, stat: s, sure: sure}, nil
}

// id returns the id of the content of the regular file that had the status st
// just now, the status that goes with it, and whether a change since would show
// there.
func (r *reader) id(path string, st *unix.Stat_t) (id objects.ID, s statcache.Stat, sure bool, err error) {
	s = statcache.StatOf(st)
	if id, ok := r.cache.Lookup(s); ok {
		return id, s, true, nil
	}
	id, s, read, err := hashFile(path)
	if err != nil {
		return id, s, false, err
	}
	r.cache.Record(s, id, read)
	return id, s, !s.RacyAt(read), nil
}

var errChanging = errors.New("it changes while it is being read")

// hashFile returns the id of the content of the regular file at path, and its
// status from a moment while it was read.
func hashFile(path string) (id objects.ID, s statcache.Stat, read time.Time, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return id, s, read, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return hashOpen(f)
}

// hashOpen is hashFile for an open file, which it reads from where it stands.
func hashOpen(f *os.File) (id objects.ID, s statcache.Stat, read time.Time, err error) {
	var before, after unix.Stat_t
	read = time.Now()
	if err := unix.Fstat(int(f.Fd()), &before); err != nil {
		return id, s, read, err
	}
	h := objects.NewHasher(objects.Blob, before.Size)
	buffer := make([]byte, min(max(before.Size, 512), 256<<10))
	if _, err := io.CopyBuffer(onlyWriter{h}, onlyReader{f}, buffer); err != nil {
		return id, s, read, err
	}
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return id, s, read, err
	}
	s = statcache.StatOf(&after)
	if id, err = h.ID(); err != nil || s != statcache.StatOf(&before) {
		return id, s, read, errChanging
	}
	return id, s, read, nil
}

// onlyReader and onlyWriter keep io.CopyBuffer from looking for better ways.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// stat and lstat are the system calls, tried again when a signal comes.
func stat(path string, st *unix.Stat_t) error {
	for {
		if err := unix.Stat(path, st); err != unix.EINTR {
			return err
		}
	}
}

func lstat(path string, st *unix.Stat_t) error {
	for {
		if err := unix.Lstat(path, st); err != unix.EINTR {
			return err
		}
	}
}

// few is how many inputs are not worth starting goroutines for.
const few = 64

// lookAll finds out the states of the inputs.
func (r *reader) lookAll(ctx context.Context, inputs []input) error {
	if len(inputs) <= few {
		return r.lookEach(inputs)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(inputs, few) {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return r.lookEach(part)
		})
	}
	return group.Wait()
}

func (r *reader) lookEach(inputs []input) (err error) {
	for i := range inputs {
		in := &inputs[i]
		if in.state.known() {
			continue
		}
		if in.state, err = r.look(in.path, in.link); err != nil {
			return err
		}
	}
	return nil
}

// changed reports whether the input is not any more what its state says.
func (r *reader) changed(in *input) (bool, error) {
	var st unix.Stat_t
	if in.state.sure && stat(in.path, &st) == nil && statcache.StatOf(&st) == in.state.stat {
		return false, nil
	}
	now, err := r.look(in.path, in.link)
	return !now.same(&in.state), err
}

// sortInputs orders inputs by place and drops repeated ones, of which the first stays.
func sortInputs(inputs []input) []input {
	slices.SortStableFunc(inputs, func(a, b input) int { return strings.Compare(a.place, b.place) })
	return slices.CompactFunc(inputs, func(a, b input) bool { return a.place == b.place })
}

// inputsTree makes the tree of the inputs.
func inputsTree(s sink, inputs []input) (objects.ID, error) {
	leaves, err := leavesOf(s, inputs)
	if err != nil {
		return objects.ID{}, err
	}
	sortLeaves(leaves)
	return grow(s, leaves)
}

// leavesOf makes the leaves of the inputs.
func leavesOf(s sink, inputs []input) ([]leaf, error) {
	leaves := make([]leaf, len(inputs))
	var room []byte
	var err error
	for i := range inputs {
		in := &inputs[i]
		room = in.state.appendLeaf(room[:0])
		if leaves[i], err = makeLeaf(s, in.place, &in.state, room); err != nil {
			return nil, err
		}
	}
	return leaves, nil
}

// makeLeaf makes the leaf of what has this state; text is what stands in it.
func makeLeaf(s sink, place string, st *state, text []byte) (leaf, error) {
	l := leaf{path: treePath(place), mode: objects.ModeFile}
	if st.exec {
		l.mode = objects.ModeExec
	}
	var err error
	l.id, err = s.blob(text)
	return l, err
}

// sumOf returns the SHA-256 of a variable's value in hexadecimal.
func sumOf(value string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(value)))
}
