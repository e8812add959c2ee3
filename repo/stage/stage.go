// Package stage journals the entries added since the last commit, for each
// branch in a journal of its own, which any number of processes may read and
// write at once.
//
// A journal is a header and groups of records, oldest first, big-endian:
//
//	4 bytes   magic "CTSJ"
//	4 bytes   version, 1
//	8 bytes   sequence: tells this journal from every other of the branch
//	2 bytes   length of the branch's name
//	n bytes   branch
//	4 bytes   CRC-32C of the bytes above
//
// A record:
//
//	4 bytes   length of the rest of the record
//	4 bytes   mode, as in a Git tree; 0 deletes; the top bit is set if the next
//	          record belongs to the same group
//	32 bytes  id
//	n bytes   path
//	4 bytes   CRC-32C of the bytes above, continued from that of the record
//	          before in the same group
//
// Records of one Append are one group: it counts as a whole or not at all. A
// crash can cut the last group short; readers pass over it and over what else is
// damaged, and everything before and after it stands.
//
// Files of branch B (escaped, as it may hold slashes) in the directory:
//
//	B.journal      is appended to
//	B.folding      is being put into a commit, or was when a process died
//	append.lock    shared by who appends, exclusive for who exchanges a journal
//	fold.lock      exclusive from Rotate to Fold.Close
//
// Who commits rotates the journal to B.folding and names its sequence in the
// commit. If the process dies after that, B.folding is still there though its
// records are in the branch: Options.Folded tells, and they count no more. So
// nothing comes back after a later commit took it out.
package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects/trees"
)

// Options are what Open wants to know. The zero value works.
type Options struct {
	// Warn is told of damage that was passed over.
	Warn func(message string)

	// Folded reports whether a commit of the branch names the sequence seq. It
	// is asked about a journal that another process is folding, or was when it
	// died; no commit older than time.Unix(0, seq) names seq. Without it such a
	// journal counts until the next Fold is done.
	Folded func(ctx context.Context, seq uint64) (bool, error)
}

// A Stage is the journal of one branch. Its methods may be called concurrently.
type Stage struct {
	dir    string
	branch string
	path   string // of the files, without their suffix
	o      Options

	mu     sync.Mutex
	views  [2]view         // of the journal, of what is being folded; guarded by mu
	folded map[uint64]bool // sequences known to be in a commit; guarded by mu
}

const (
	journalSuffix = ".journal"
	foldingSuffix = ".folding"
)

// Open returns the stage of branch in dir. It reads and makes nothing yet. Who
// looks up often should keep the Stage: it remembers what it has read.
func Open(dir, branch string, o Options) *Stage {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	return &Stage{
		dir:    dir,
		branch: branch,
		path:   filepath.Join(dir, fileName(branch)),
		o:      o,
		folded: map[uint64]bool{},
	}
}

// fileName returns a name for the files of branch: they lie side by side, so
// that no branch's directory can be in another's way.
func fileName(branch string) string {
	name := url.PathEscape(branch)
	if strings.HasPrefix(name, ".") {
		name = "%2E" + name[1:]
	}
	if len(name) > 200 {
		sum := sha256.Sum256([]byte(branch))
		name = name[:120] + "%~" + hex.EncodeToString(sum[:])
	}
	return name
}

// Branches returns the branches that have a journal in dir, sorted.
func Branches(dir string) ([]string, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var branches []string
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), journalSuffix)
		if !ok {
			if name, ok = strings.CutSuffix(f.Name(), foldingSuffix); !ok {
				continue
			}
		}
		if branch, ok := branchOf(filepath.Join(dir, f.Name()), name); ok {
			branches = append(branches, branch)
		}
	}
	slices.Sort(branches)
	return slices.Compact(branches), nil
}

// branchOf returns the branch of a journal: what its header says, or what its
// name does if the header is damaged.
func branchOf(path, name string) (string, bool) {
	front := make([]byte, headerFixed+1<<16)
	if f, err := os.Open(path); err == nil {
		n, _ := f.ReadAt(front, 0)
		f.Close()
		if h, err := parseHeader(front[:n]); err == nil && fileName(h.branch) == name {
			return h.branch, true
		}
	}
	branch, err := url.PathUnescape(name)
	return branch, err == nil && fileName(branch) == name
}

// ErrBadRecord is what Append returns for a record that a journal cannot hold.
var ErrBadRecord = errors.New("malformed record")

func check(r Record) error {
	if err := trees.CheckPath(r.Path); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	if len(r.Path) > maxPath {
		return fmt.Errorf("%w: path of %d bytes", ErrBadRecord, len(r.Path))
	}
	if r.ID.IsZero() != (r.Mode == 0) || r.Mode != 0 && !r.Mode.Valid() {
		return fmt.Errorf("%w: %s: mode %o", ErrBadRecord, r.Path, r.Mode)
	}
	return nil
}

// Append adds records, all of them or, if the process dies, none. When it
// returns they survive kill -9, and every other process sees them. What they
// name must be stored before.
func (s *Stage) Append(ctx context.Context, records ...Record) error {
	if len(records) == 0 {
		return nil
	}
	for i := range records {
		if records[i].ID.IsZero() {
			records = deletions(records)
			break
		}
	}
	for _, r := range records {
		if err := check(r); err != nil {
			return s.wrap(err)
		}
	}
	data := appendRecords(nil, records)
	for {
		ready, err := s.append(ctx, data)
		if err != nil {
			return s.wrap(err)
		}
		if ready {
			return nil
		}
		if err := s.prepare(ctx); err != nil {
			return s.wrap(err)
		}
	}
}

// deletions returns records with mode zero where the id is.
func deletions(records []Record) []Record {
	records = slices.Clone(records)
	for i := range records {
		if records[i].ID.IsZero() {
			records[i].Mode = 0
		}
	}
	return records
}

// append adds data to the journal, if there is one that can be appended to. The
// shared lock keeps the journal where it is from the open to the write.
func (s *Stage) append(ctx context.Context, data []byte) (ready bool, err error) {
	lock, err := durable.LockShared(ctx, s.lockName("append"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // there is no directory yet
	} else if err != nil {
		return false, err
	}
	defer lock.Unlock()
	if _, err := os.Stat(s.path + journalSuffix); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	f, err := durable.OpenAppend(s.path + journalSuffix)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := readHeader(f); errors.Is(err, errHeader) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, durable.Append(f, data)
}

// prepare makes a journal that can be appended to.
func (s *Stage) prepare(ctx context.Context) error {
	if err := durable.MkdirAll(s.dir, durable.NoSync); err != nil {
		return err
	}
	lock, err := durable.LockExclusive(ctx, s.lockName("append"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	records, h, err := s.read(journalSuffix)
	if err != nil || h.size > 0 {
		return err // another process was first, or it is of a later version
	}
	return s.replace(records)
}

// replace writes a new journal of records in the place of the old. The caller
// holds the append lock exclusively.
func (s *Stage) replace(records []Record) error {
	_, folding, err := s.read(foldingSuffix)
	if err != nil {
		return err
	}
	seq := max(uint64(time.Now().UnixNano()), folding.seq+1)
	data := appendRecords(appendHeader(nil, seq, s.branch), records)
	return durable.WriteFile(s.path+journalSuffix, data, durable.NoSync)
}

func (s *Stage) lockName(what string) string { return filepath.Join(s.dir, what+".lock") }

func (s *Stage) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("stage %s: %w", s.branch, err)
}

func (s *Stage) warnDamage(bytes int) {
	s.o.Warn(fmt.Sprintf("stage %s: passed over %d damaged bytes", s.branch, bytes))
}
