package refs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// Files keeps refs in a directory, for any number of processes at once:
//
//	HEAD                "ref: refs/heads/main" LF, the default branch
//	refs/heads/main     64 hexadecimal digits, LF
//	logs/refs/heads/main  its reflog: see LogEntry
//	refs.lock           locked with flock(2) by whoever changes any of these
//	refs.journal        several refs on their way: see journal
//
// Readers take no lock. Changes are durable when they return.
type Files struct {
	dir     string
	journal string // the file
	o       Options
}

var (
	_ Store  = (*Files)(nil)
	_ Logger = (*Files)(nil)
)

// Options are what a Files needs to know for its reflogs.
type Options struct {
	Who objects.Signature // a zero time is when it happens
}

// Open returns the refs in dir. It touches no file.
func Open(dir string, o Options) *Files {
	return &Files{dir: dir, journal: filepath.Join(dir, "refs.journal"), o: o}
}

// Init makes what Open expects in dir, which must exist. A HEAD that is there
// stays as it is.
func Init(ctx context.Context, dir string, head Name, o Options) (*Files, error) {
	f := Open(dir, o)
	for _, sub := range []string{headsDir, tagsDir} {
		if err := durable.MkdirAll(filepath.Join(dir, sub), durable.Synced); err != nil {
			return nil, err
		}
	}
	_, err := f.Head(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		err = f.SetHead(ctx, head)
	}
	return f, err
}

// Head returns the default branch. It need not exist yet.
func (f *Files) Head(ctx context.Context) (Name, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	file := filepath.Join(f.dir, "HEAD")
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "ref: ")
	name := Name(text)
	if !ok || name.Check() != nil || !name.IsBranch() {
		return "", fmt.Errorf(`HEAD is damaged: %s holds %.80q: write "ref: refs/heads/main" into it, or another branch`, file, data)
	}
	return name, nil
}

// SetHead makes name, a branch, the default one.
func (f *Files) SetHead(ctx context.Context, name Name) error {
	if err := name.Check(); err != nil {
		return err
	}
	if !name.IsBranch() {
		return fmt.Errorf("HEAD: %s is no branch", name)
	}
	l, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer l.Unlock()
	return durable.WriteFile(filepath.Join(f.dir, "HEAD"), []byte("ref: "+string(name)+"\n"), durable.Synced)
}

// Get returns what name points to. It reads two files, one of which is mostly
// not there.
func (f *Files) Get(ctx context.Context, name Name) (objects.ID, error) {
	if err := ctx.Err(); err != nil {
		return objects.ID{}, err
	}
	if err := name.Check(); err != nil {
		return objects.ID{}, err
	}
	// First the journal: were it the other way round, all could be worked off
	// in between, and the answer would be older than one given before.
	j, err := f.pending(ctx)
	if err != nil {
		return objects.ID{}, err
	}
	id, err := f.read(name)
	return j.get(name, id, err)
}

// All yields the refs whose names begin with prefix, by name.
func (f *Files) All(ctx context.Context, prefix string) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		j, err := f.pending(ctx)
		if err != nil {
			yield(Ref{}, err)
			return
		}
		names, err := f.names(ctx, prefix)
		if err != nil {
			yield(Ref{}, err)
			return
		}
		for _, m := range j {
			if strings.HasPrefix(string(m.name), prefix) {
				names = append(names, m.name)
			}
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if err := ctx.Err(); err != nil {
				yield(Ref{}, err)
				return
			}
			id, err := f.read(name)
			id, err = j.get(name, id, err)
			if errors.Is(err, ErrNotFound) {
				continue // deleted meanwhile
			}
			if !yield(Ref{name, id}, err) {
				return
			}
		}
	}
}

// names lists the files that are called as a ref can be, in no order.
func (f *Files) names(ctx context.Context, prefix string) ([]Name, error) {
	top := "refs/"
	if strings.HasPrefix(prefix, top) {
		top = prefix[:strings.LastIndexByte(prefix, '/')+1]
	}
	if path := filepath.Clean(top); path != strings.TrimSuffix(top, "/") {
		return nil, fmt.Errorf("%w prefix %q", ErrBadName, prefix)
	}
	var names []Name
	err := filepath.WalkDir(f.path(Name(top)), func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return ctx.Err() // a directory that went away, or never was
		case err != nil:
			return err
		case e.IsDir():
			return ctx.Err()
		}
		rel, err := filepath.Rel(f.dir, path)
		name := Name(filepath.ToSlash(rel))
		if err == nil && strings.HasPrefix(string(name), prefix) && name.Check() == nil {
			names = append(names, name)
		}
		return err
	})
	if errors.Is(err, unix.ENOTDIR) {
		err = nil
	}
	return names, err
}

// Log returns the moves of name, oldest first.
func (f *Files) Log(ctx context.Context, name Name) ([]LogEntry, error) {
	// The log is read after the ref: it may know more, and never less.
	now, err := f.Get(ctx, name)
	var damaged *DamagedError
	if err != nil && !errors.As(err, &damaged) {
		return nil, err
	}
	entries, err := f.readLog(name)
	if err != nil {
		return nil, err
	}
	if damaged != nil {
		return entries, nil
	}
	j, err := f.pending(ctx)
	if err != nil {
		return nil, err
	}
	if m, ok := j.find(name); ok {
		if n := len(entries); n == 0 || !bytes.Equal(entries[n-1].encode(), m.encode()) {
			entries = append(entries, m.LogEntry)
		}
		return entries, nil
	}
	if n := len(entries); n > 0 && entries[n-1].announced(now) {
		entries = entries[:n-1]
	}
	return entries, nil
}

func (f *Files) readLog(name Name) ([]LogEntry, error) {
	data, err := os.ReadFile(f.logPath(name))
	if err != nil && !absent(err) {
		return nil, err
	}
	entries, _ := ParseLog(data)
	return entries, nil
}

func (f *Files) path(name Name) string { return filepath.Join(f.dir, filepath.FromSlash(string(name))) }
func (f *Files) logPath(name Name) string {
	return filepath.Join(f.dir, "logs", filepath.FromSlash(string(name)))
}

func (f *Files) lock(ctx context.Context) (*durable.Lock, error) {
	return durable.LockExclusive(ctx, filepath.Join(f.dir, "refs.lock"))
}

// who signs a line of a reflog.
func (f *Files) who() objects.Signature {
	who := f.o.Who
	if who.When.IsZero() {
		who.When = time.Now()
	}
	return who
}

// absent reports whether err says that a file is not there: neither it, nor
// perhaps the directory that it would be in, or a directory is in its place.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR)
}

// read returns what the file of name holds.
func (f *Files) read(name Name) (objects.ID, error) {
	path := f.path(name)
	data, err := readSmall(path, 80)
	if absent(err) {
		return objects.ID{}, notFound(name)
	}
	if err != nil {
		return objects.ID{}, fmt.Errorf("%s: %w", name, err)
	}
	id, reason := parseRef(data)
	if reason == "" {
		return id, nil
	}
	damaged := &DamagedError{Name: name, File: path, Reason: reason}
	if entries, err := f.readLog(name); err == nil && len(entries) > 0 {
		damaged.LastGood = entries[len(entries)-1].New
	}
	return objects.ID{}, damaged
}

// parseRef reads what is in the file of a ref, or says what is wrong with it.
func parseRef(data []byte) (id objects.ID, reason string) {
	id, err := objects.ParseID(strings.TrimRight(string(data), "\r\n"))
	switch {
	case len(data) == 0:
		return id, "it is empty"
	case err != nil:
		return objects.ID{}, fmt.Sprintf("it holds %.20q, which is no object id", data)
	case id.IsZero():
		return id, "it holds the id of nothing"
	}
	return id, ""
}

// readSmall reads a file, or its first max bytes, with as few system calls as
// there are: hits of run wait for this.
func readSmall(path string, max int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR { // Go's own signals
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err == unix.ENOENT {
		return nil, fs.ErrNotExist // the answer of every day
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	data := make([]byte, max)
	n, err := unix.Read(fd, data)
	for err == unix.EINTR {
		n, err = unix.Read(fd, data)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return data[:n], nil
}
