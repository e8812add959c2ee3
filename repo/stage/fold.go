package stage

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// A Fold is what was staged, on its way into a commit. The records stay visible
// to lookups until Done.
type Fold struct {
	// Seq is what the commit has to name, so that the records are known to be in
	// it. It is zero if nothing was staged: then there is nothing to do.
	Seq uint64

	// Records are the newest of each path, in the order of trees.ComparePaths.
	Records []Record

	stage *Stage
	lock  *durable.Lock
}

// Rotate takes what is staged out of the journal and hands it over for a commit.
// What an earlier fold left behind comes along, unless it is in a commit
// already. Other processes can go on appending; one that wants to fold as well
// waits until Close.
func (s *Stage) Rotate(ctx context.Context) (*Fold, error) {
	if empty, err := s.isEmpty(); empty || err != nil {
		return &Fold{stage: s}, s.wrap(err)
	}
	lock, err := durable.LockExclusive(ctx, s.lockName("fold"))
	if err != nil {
		return nil, s.wrap(err)
	}
	fold := &Fold{stage: s, lock: lock}
	if err := fold.take(ctx); err != nil {
		fold.Close()
		return nil, s.wrap(err)
	}
	if fold.Seq == 0 {
		fold.Close()
	}
	return fold, nil
}

// isEmpty reports whether there is no file at all.
func (s *Stage) isEmpty() (bool, error) {
	for _, suffix := range [...]string{journalSuffix, foldingSuffix} {
		if _, err := os.Stat(s.path + suffix); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

func (f *Fold) take(ctx context.Context) error {
	left, err := f.stage.leftover(ctx)
	if err != nil {
		return err
	}
	seq, err := f.stage.rotate(ctx, left)
	if err != nil || seq == 0 {
		return err
	}
	records, _, err := f.stage.read(foldingSuffix)
	f.Seq, f.Records = seq, newest(records)
	return err
}

// leftover returns the records of a fold that was not done, and drops those of
// one that was, but for its last step. The caller holds the fold lock.
func (s *Stage) leftover(ctx context.Context) ([]Record, error) {
	records, h, err := s.read(foldingSuffix)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	counts, err := s.counts(ctx, h.seq)
	s.mu.Unlock()
	if err != nil || counts {
		return records, err
	}
	// What its last steps were is not known to be durable: a power cut could undo
	// even the renaming, and the journal would count again.
	if err := removeIfThere(s.path + foldingSuffix); err != nil {
		return nil, err
	}
	return nil, durable.SyncDir(s.dir)
}

// rotate makes the journal the folding one, with the records of left in front,
// and returns its sequence, zero if there are no records. At every moment all
// records are in one file or the other.
func (s *Stage) rotate(ctx context.Context, left []Record) (seq uint64, err error) {
	lock, err := durable.LockExclusive(ctx, s.lockName("append"))
	if err != nil {
		return 0, err
	}
	defer lock.Unlock()
	records, h, err := s.read(journalSuffix)
	if err != nil {
		return 0, err
	}
	if len(left)+len(records) == 0 {
		return 0, nil
	}
	if len(left) > 0 || h.size == 0 {
		if err := s.replace(append(left, records...)); err != nil {
			return 0, err
		}
		if _, h, err = s.read(journalSuffix); err != nil {
			return 0, err
		}
	}
	// The new journal takes the folding one's place in the same step.
	return h.seq, durable.Rename(s.path+journalSuffix, s.path+foldingSuffix, durable.NoSync)
}

// Done takes the records out of the stage, because a branch has them now: in a
// commit that names Seq and is durable, or had them all before. It is durable on
// return: no power cut brings the records back.
func (f *Fold) Done(context.Context) error {
	if f.Seq == 0 {
		return nil
	}
	f.stage.mu.Lock()
	f.stage.folded[f.Seq] = true
	f.stage.mu.Unlock()
	if err := removeIfThere(f.stage.path + foldingSuffix); err != nil {
		return f.stage.wrap(err)
	}
	return f.stage.wrap(durable.SyncDir(f.stage.dir))
}

// Close lets others fold. Without Done before it the records stay staged.
func (f *Fold) Close() {
	f.lock.Unlock()
	f.lock = nil
}

// Drop forgets what is staged, as when a branch is deleted. It waits for a fold
// under way.
func (s *Stage) Drop(ctx context.Context) error {
	if empty, err := s.isEmpty(); empty || err != nil {
		return s.wrap(err)
	}
	foldLock, err := durable.LockExclusive(ctx, s.lockName("fold"))
	if err != nil {
		return s.wrap(err)
	}
	defer foldLock.Unlock()
	appendLock, err := durable.LockExclusive(ctx, s.lockName("append"))
	if err != nil {
		return s.wrap(err)
	}
	defer appendLock.Unlock()
	return s.wrap(errors.Join(
		removeIfThere(s.path+journalSuffix),
		removeIfThere(s.path+foldingSuffix)))
}

func removeIfThere(name string) error {
	if err := durable.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
