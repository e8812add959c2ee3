package stage

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/trees"
)

// Lookup returns the newest record of path. It costs about as much as copying
// the journal once; from the second call on it reads only what is new.
//
// A caller that finds nothing goes on to the branch, and has to read where the
// branch points to only then: a fold takes records out of the stage after the
// branch has them.
func (s *Stage) Lookup(ctx context.Context, path string) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.openBoth()
	if err != nil {
		return Record{}, false, s.wrap(err)
	}
	defer files.close()
	for i, f := range files {
		if f == nil {
			s.views[i] = view{}
			continue
		}
		r, found, err := s.views[i].lookup(f, path, s.warnDamage)
		if err != nil {
			return Record{}, false, s.wrap(err)
		}
		if found && i == folding {
			if found, err = s.counts(ctx, s.views[i].seq); err != nil {
				return Record{}, false, s.wrap(err)
			}
		}
		if found {
			return r, true, nil
		}
	}
	return Record{}, false, nil
}

// Refresh reads what is new, for Seen.
func (s *Stage) Refresh(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.openBoth()
	if err != nil {
		return s.wrap(err)
	}
	defer files.close()
	for i, f := range files {
		if f == nil {
			s.views[i] = view{}
			continue
		}
		if s.views[i].index == nil {
			s.views[i] = view{index: map[string]value{}} // all of it is to be read
		}
		if err := s.views[i].refresh(f, nil, s.warnDamage); err != nil {
			return s.wrap(err)
		}
	}
	return nil
}

// Seen is Lookup without a look at the files: it goes by what they held at the last
// Refresh, or later.
func (s *Stage) Seen(ctx context.Context, path string) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.views {
		known, found := s.views[i].index[path]
		if found && i == folding {
			var err error
			if found, err = s.counts(ctx, s.views[i].seq); err != nil {
				return Record{}, false, s.wrap(err)
			}
		}
		if found {
			return Record{Path: path, Mode: known.mode, ID: known.id}, true, nil
		}
	}
	return Record{}, false, nil
}

// All returns the newest record of each path, in the order of
// trees.ComparePaths.
func (s *Stage) All(ctx context.Context) ([]Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.openBoth()
	if err != nil {
		return nil, s.wrap(err)
	}
	defer files.close()
	var all []Record
	for _, i := range [...]int{folding, journal} { // the older first
		if files[i] == nil {
			continue
		}
		records, h, err := readRecords(files[i], s.warnDamage)
		if err != nil {
			return nil, s.wrap(err)
		}
		if i == folding {
			counts, err := s.counts(ctx, h.seq)
			if err != nil {
				return nil, s.wrap(err)
			}
			if !counts {
				continue
			}
		}
		all = append(all, records...)
	}
	return newest(all), nil
}

// Count returns how many records wait to be committed: at least as many as All
// returns. It reads what is new since the last call.
func (s *Stage) Count(ctx context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.openBoth()
	if err != nil {
		return 0, s.wrap(err)
	}
	defer files.close()
	n := 0
	for i, f := range files {
		if f == nil {
			s.views[i] = view{}
			continue
		}
		if err := s.views[i].refresh(f, nil, s.warnDamage); err != nil {
			return 0, s.wrap(err)
		}
		n += s.views[i].count
	}
	return n, nil
}

// newest keeps the last record of each path.
func newest(records []Record) []Record {
	slices.SortStableFunc(records, func(a, b Record) int { return trees.ComparePaths(a.Path, b.Path) })
	kept := records[:0]
	for i, r := range records {
		if i == len(records)-1 || records[i+1].Path != r.Path {
			kept = append(kept, r)
		}
	}
	return kept
}

// counts reports whether the records of a journal that is being folded are not
// in a commit yet. Of one whose header is damaged nobody can tell; better to add
// something twice than not at all. The caller holds mu.
func (s *Stage) counts(ctx context.Context, seq uint64) (bool, error) {
	if s.folded[seq] || s.o.Folded == nil || seq == 0 {
		return !s.folded[seq], nil
	}
	folded, err := s.o.Folded(ctx, seq)
	if folded && err == nil {
		s.folded[seq] = true
	}
	return !folded, err
}

// The two files of a stage, the newer first.
const (
	journal = iota
	folding
)

type files [2]*os.File // nil where there is none

func (f files) close() {
	for _, file := range f {
		file.Close() // of nil is an error, and no harm
	}
}

// openBoth opens the files that exist. It takes no lock, and the order matters:
// a record that is no longer in the journal is in the folding file from then on,
// until a branch has it.
func (s *Stage) openBoth() (f files, err error) {
	for i, suffix := range [...]string{journalSuffix, foldingSuffix} {
		f[i], err = os.Open(s.path + suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.close()
			return files{}, err
		}
	}
	return f, nil
}

// read returns the records of one file and its header, whose size is zero if it
// is damaged. A file that is not there has neither.
func (s *Stage) read(suffix string) ([]Record, header, error) {
	f, err := os.Open(s.path + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, header{}, nil
	} else if err != nil {
		return nil, header{}, err
	}
	defer f.Close()
	return readRecords(f, s.warnDamage)
}

func readRecords(f *os.File, warn func(int)) ([]Record, header, error) {
	h, err := readHeader(f)
	if err != nil && !errors.Is(err, errHeader) {
		return nil, header{}, err
	}
	var records []Record
	_, damaged, err := scanFile(f, int64(h.size), func(group []byte) {
		eachRecord(group, func(r rawRecord) { records = append(records, r.record()) })
	})
	if damaged > 0 {
		warn(damaged)
	}
	return records, h, err
}

// readHeader returns the header of a journal; errHeader if it is damaged, of
// which the size is zero then.
func readHeader(f *os.File) (header, error) {
	var room [headerFixed + 256 + 4]byte
	n, err := f.ReadAt(room[:], 0)
	if err != nil && err != io.EOF {
		return header{}, err
	}
	h, err := parseHeader(room[:n])
	if err == nil || n < len(room) {
		return h, err
	}
	long := make([]byte, headerFixed+1<<16+4)
	if n, err = f.ReadAt(long, 0); err != nil && err != io.EOF {
		return header{}, err
	}
	return parseHeader(long[:n])
}

// scanFile is scan for what stands in f from off on. It returns the offset up to
// which it is done.
func scanFile(f *os.File, off int64, fn func(group []byte)) (done int64, damaged int, err error) {
	fi, err := f.Stat()
	if err != nil || fi.Size() <= off {
		return off, 0, err
	}
	buf := make([]byte, min(fi.Size()-off+1, 128<<10)) // one more, to see the end
	have := 0
	for {
		n, err := f.ReadAt(buf[have:], off+int64(have))
		if err != nil && err != io.EOF {
			return off, 0, err
		}
		have += n
		whole := 0
		for whole < have {
			n, _ := cutGroup(buf[whole:have])
			if n == 0 {
				break
			}
			fn(buf[whole : whole+n])
			whole += n
		}
		have = copy(buf, buf[whole:have])
		off += int64(whole)
		switch {
		case err == io.EOF:
			done, damaged := scan(buf[:have], fn)
			return off + int64(done), damaged, nil
		case whole == 0:
			buf = append(buf, make([]byte, len(buf))...) // a long group, or damage
		}
	}
}

// A view is what a Stage remembers of a file between two lookups.
type view struct {
	seq   uint64
	done  int64            // bytes that were read
	count int              // records in them
	index map[string]value // nil at the first lookup, which does not pay for one
}

type value struct {
	mode objects.Mode
	id   objects.ID
}

// refresh reads what is new in f, and shows it to fn, which may be nil.
func (v *view) refresh(f *os.File, fn func(rawRecord), warn func(int)) error {
	h, err := readHeader(f)
	if err != nil && !errors.Is(err, errHeader) {
		return err
	}
	if h.seq != v.seq || h.size == 0 || v.done == 0 {
		indexed := v.index != nil
		*v = view{seq: h.seq, done: int64(h.size)}
		if indexed {
			v.index = map[string]value{}
		}
	}
	done, damaged, err := scanFile(f, v.done, func(group []byte) {
		eachRecord(group, func(r rawRecord) {
			v.count++
			if v.index != nil {
				v.index[string(r.path())] = value{r.mode(), r.id()}
			}
			if fn != nil {
				fn(r)
			}
		})
	})
	v.done = done
	if damaged > 0 {
		warn(damaged)
	}
	return err
}

func (v *view) lookup(f *os.File, path string, warn func(int)) (Record, bool, error) {
	if v.index != nil {
		err := v.refresh(f, nil, warn)
		known, found := v.index[path]
		return Record{Path: path, Mode: known.mode, ID: known.id}, found, err
	}
	first := v.done == 0
	*v = view{} // all of it is to be read
	if !first {
		v.index = map[string]value{}
	}
	r := Record{Path: path}
	found := false
	err := v.refresh(f, func(raw rawRecord) {
		if string(raw.path()) == path {
			r.Mode, r.ID, found = raw.mode(), raw.id(), true
		}
	}, warn)
	return r, found, err
}

// A Mark tells one state of a stage from those before and after.
type Mark [2]struct {
	inode uint64
	size  int64
	mtime int64
}

// Mark returns what the stage is like now. It reads nothing.
func (s *Stage) Mark() (m Mark, err error) {
	for i, suffix := range [...]string{journalSuffix, foldingSuffix} {
		var st unix.Stat_t
		switch err := unix.Stat(s.path+suffix, &st); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return m, s.wrap(err)
		default:
			m[i].inode, m[i].size, m[i].mtime = st.Ino, st.Size, st.Mtim.Nano()
		}
	}
	return m, nil
}
