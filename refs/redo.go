package refs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// finish works off the journal, if there is one. The caller holds the lock.
func (f *Files) finish() error {
	j, err := f.readJournal()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.work(j)
	}
	if err == nil {
		err = f.clearJournal()
	}
	if err != nil {
		return fmt.Errorf("finish the last update of refs: %w", err)
	}
	return nil
}

// work makes the moves of a journal. It may have been made before, in part.
func (f *Files) work(j journal) error {
	dirs := dirSet{}
	// Deletions first: they make room, where refs/heads/a becomes refs/heads/a/b.
	for _, m := range j {
		if m.New.IsZero() {
			if err := f.remove(m.name, dirs); err != nil {
				return err
			}
		}
	}
	for _, m := range j {
		if m.New.IsZero() {
			continue
		}
		if err := f.log(m, dirs); err != nil {
			return err
		}
		if err := f.write(m.name, m.New, dirs); err != nil {
			return err
		}
	}
	if err := dirs.sync(); err != nil {
		return err
	}
	for _, m := range j {
		if m.New.IsZero() {
			f.tidy(m.name)
		}
	}
	return nil
}

// clearJournal empties the journal before it removes it. The removal alone
// would have to be made durable: a journal that came back after a power cut
// would undo what has happened since.
func (f *Files) clearJournal() error {
	file, err := durable.OpenUpdate(f.journal)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := durable.Truncate(file, 0); err != nil {
		return err
	}
	if err := durable.SyncFile(file); err != nil {
		return err
	}
	return durable.Remove(f.journal)
}

func (f *Files) hasJournal() bool {
	fi, err := os.Stat(f.journal)
	return err == nil && fi.Size() > 0
}

// pending returns the moves that readers must know of, mostly none.
func (f *Files) pending(ctx context.Context) (journal, error) {
	j, err := f.readJournal()
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	// It may have been emptied while it was read. Whoever has the lock can tell.
	l, lockErr := durable.LockShared(ctx, filepath.Join(f.dir, "refs.lock"))
	if lockErr != nil {
		return nil, lockErr
	}
	defer l.Unlock()
	j, err = f.readJournal()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return j, err
}

func (f *Files) readJournal() (journal, error) {
	const most = 64 << 10
	data, err := readSmall(f.journal, most)
	if err == nil && len(data) == most {
		data, err = os.ReadFile(f.journal)
	}
	if err != nil {
		return nil, err
	}
	j, err := parseJournal(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; removing it leaves the refs as they are, "+
			"some perhaps moved and some not: their reflogs tell", f.journal, err)
	}
	return j, nil
}
