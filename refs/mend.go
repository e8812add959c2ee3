package refs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// What fsck wants to know of these files, and how it mends them. Nothing in them has
// a checksum, because Git reads them too and people write them. But a reflog says
// everything twice: a move begins where the one before ended, and the last one ends
// where the ref is.

// CheckLog says what is wrong with the reflog of name: lines that are none, and moves
// that do not begin where the one before ended.
func (f *Files) CheckLog(ctx context.Context, name Name) ([]string, error) {
	found, err := f.checkLog(ctx, name)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	// The ref may have moved in between: whoever moves it has the lock.
	l, err := f.lock(ctx)
	if err != nil {
		return found, nil // nobody can write here: so it was at rest
	}
	defer l.Unlock()
	return f.checkLog(ctx, name)
}

func (f *Files) checkLog(ctx context.Context, name Name) ([]string, error) {
	now, err := f.Get(ctx, name)
	if err != nil && !errors.As(err, new(*DamagedError)) {
		return nil, err
	}
	data, err := f.logData(name)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	if j, err := f.pending(ctx); err != nil {
		return nil, err
	} else if _, moves := j.find(name); moves {
		now = objects.ID{} // the log need not know yet
	}
	entries, skipped := ParseLog(data[:bytes.LastIndexByte(data, '\n')+1])
	var found []string
	if skipped > 0 {
		found = append(found, fmt.Sprintf("%d damaged lines", skipped))
	}
	for i, e := range entries {
		switch {
		case i == 0 && almostZero(e.Old):
			found = append(found, fmt.Sprintf("line 1 begins at %s, which is zeros but for a digit", e.Old))
		case i > 0 && e.Old != entries[i-1].New:
			if i == len(entries)-1 && e.announced(now) {
				continue
			}
			found = append(found, fmt.Sprintf("a move to %s is followed by one from %s", entries[i-1].New.Short(), e.Old.Short()))
		}
	}
	if n := len(entries); !now.IsZero() && (n == 0 || entries[n-1].New != now && !entries[n-1].announced(now)) {
		found = append(found, fmt.Sprintf("it does not end at %s, where the ref is", now.Short()))
	}
	return found, nil
}

func (f *Files) logData(name Name) ([]byte, error) {
	data, err := os.ReadFile(f.logPath(name))
	if err != nil && !absent(err) {
		return nil, err
	}
	return data, nil
}

// almostZero reports whether all digits of an id but one are zero: no object has such
// an id, and "not there" has when a digit of it is damaged.
func almostZero(id objects.ID) bool { return !id.IsZero() && near(id, objects.ID{}) }

// near reports whether two ids differ in one digit at most.
func near(a, b objects.ID) bool {
	digits := 0
	for i := range a {
		switch x := a[i] ^ b[i]; {
		case x == 0:
		case x&0xf0 == 0 || x&0x0f == 0:
			digits++
		default:
			return false
		}
	}
	return digits <= 1
}

// lostMove is the reason of a move of which nobody knows more than that it was.
const lostMove = "fsck: what happened here is not known"

// MendLog makes the reflog of name whole: what is no line is dropped, an id of which
// a digit is damaged is what the line beside it says, and where moves are missing
// there is one that says so. Exists reports whether a commit is here. It returns what
// was wrong.
func (f *Files) MendLog(ctx context.Context, name Name, exists func(objects.ID) bool) ([]string, error) {
	l, err := f.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Unlock()
	if err := f.finish(); err != nil {
		return nil, err
	}
	found, err := f.checkLog(ctx, name)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	now, err := f.read(name)
	if err != nil {
		return nil, err
	}
	data, err := f.logData(name)
	if err != nil {
		return nil, err
	}
	if !bytes.HasSuffix(data, []byte("\n")) {
		data = append(data, '\n') // if that is a line, it only lost its end
	}
	entries, _ := ParseLog(data)
	if n := len(entries); n > 0 && entries[n-1].announced(now) {
		entries = entries[:n-1]
	}
	var out []byte
	for _, e := range f.bridged(entries, now, exists) {
		out = append(out, e.encode()...)
	}
	return found, durable.WriteFile(f.logPath(name), out, durable.Synced)
}

// bridged returns moves of which each begins where the one before ended, the last
// one at now.
func (f *Files) bridged(entries []LogEntry, now objects.ID, exists func(objects.ID) bool) []LogEntry {
	var moves []LogEntry
	at := objects.ID{}
	for i, e := range entries {
		if i == 0 && almostZero(e.Old) {
			e.Old = objects.ID{}
		}
		if i > 0 && e.Old != at {
			switch {
			case near(e.Old, at) && exists(at):
				e.Old = at
			case near(e.Old, at):
				moves[len(moves)-1].New = e.Old
			default:
				moves = append(moves, LogEntry{Old: at, New: e.Old, Who: e.Who, Reason: lostMove})
			}
		}
		moves = append(moves, e)
		at = e.New
	}
	switch {
	case at == now:
	case len(moves) > 0 && near(at, now):
		moves[len(moves)-1].New = now
	default:
		moves = append(moves, LogEntry{Old: at, New: now, Who: f.who(), Reason: lostMove})
	}
	return moves
}

// SetBack makes name point to an earlier value, if it still is what it was found to
// be: was, which is lost, or zero for a ref whose file is damaged. The reflog tells.
func (f *Files) SetBack(ctx context.Context, name Name, was, to objects.ID, reason string) error {
	if err := name.Check(); err != nil {
		return err
	}
	l, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer l.Unlock()
	if err := f.finish(); err != nil {
		return err
	}
	is, err := f.read(name)
	damaged := errors.As(err, new(*DamagedError))
	switch {
	case err != nil && !damaged:
		return err
	case is != was:
		return &ConflictError{Name: name, Is: is, Expected: was}
	}
	entries, err := f.readLog(name)
	if err != nil {
		return err
	}
	dirs := dirSet{}
	old := was
	if n := len(entries); n > 0 {
		old = entries[n-1].New
	}
	if old != to && !old.IsZero() {
		if err := f.log(move{name, LogEntry{Old: old, New: to, Who: f.who(), Reason: reason}}, dirs); err != nil {
			return err
		}
	}
	if err := f.write(name, to, dirs); err != nil {
		return err
	}
	return dirs.sync()
}

// CheckJournal returns what is wrong with the journal of refs on their way; nil if
// there is none.
func (f *Files) CheckJournal(ctx context.Context) error {
	_, err := f.pending(ctx)
	return err
}

// DropJournal removes a journal that nobody can read. Of the refs in it some may
// have moved and some not. It reports whether there was one.
func (f *Files) DropJournal(ctx context.Context) (bool, error) {
	l, err := f.lock(ctx)
	if err != nil {
		return false, err
	}
	defer l.Unlock()
	data, err := os.ReadFile(f.journal)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err = parseJournal(data); err == nil || errors.Is(err, errNewerJournal) {
		return false, err
	}
	return true, f.clearJournal()
}

// HeadNeighbours returns the branches that HEAD may have been meant to name, where it
// names none that exists: those whose name differs in a single bit, as when a disk
// forgets it, or of which the end is cut off.
func (f *Files) HeadNeighbours(ctx context.Context) []Name {
	data, err := os.ReadFile(filepath.Join(f.dir, "HEAD"))
	if err != nil || len(data) == 0 {
		return nil
	}
	if head, err := f.Head(ctx); err == nil {
		if _, err := f.Get(ctx, head); !errors.Is(err, ErrNotFound) {
			return nil
		}
	}
	var near []Name
	for ref, err := range f.All(ctx, headsDir) {
		text := []byte("ref: " + string(ref.Name) + "\n")
		if err == nil && (bitsBetween(data, text) == 1 || bytes.HasPrefix(text, data)) {
			near = append(near, ref.Name)
		}
	}
	return near
}

// bitsBetween counts the bits in which two texts differ; many if they are not as
// long as each other.
func bitsBetween(a, b []byte) (n int) {
	if len(a) != len(b) {
		return 8 * max(len(a), len(b))
	}
	for i := range a {
		for x := a[i] ^ b[i]; x != 0; x &= x - 1 {
			n++
		}
	}
	return n
}
