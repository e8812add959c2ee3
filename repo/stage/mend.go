package stage

import (
	"context"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// Mend writes the journal anew, without what is damaged in it and without the
// records for which keep is false, which it returns. It waits for a fold under way,
// and others who write wait meanwhile.
func (s *Stage) Mend(ctx context.Context, keep func(Record) bool) (dropped []Record, err error) {
	if empty, err := s.isEmpty(); empty || err != nil {
		return nil, s.wrap(err)
	}
	foldLock, err := durable.LockExclusive(ctx, s.lockName("fold"))
	if err != nil {
		return nil, s.wrap(err)
	}
	defer foldLock.Unlock()
	left, err := s.leftover(ctx)
	if err != nil {
		return nil, s.wrap(err)
	}
	appendLock, err := durable.LockExclusive(ctx, s.lockName("append"))
	if err != nil {
		return nil, s.wrap(err)
	}
	defer appendLock.Unlock()
	records, _, err := s.read(journalSuffix)
	if err != nil {
		return nil, s.wrap(err)
	}
	var kept []Record
	for _, r := range newest(append(left, records...)) {
		if keep(r) {
			kept = append(kept, r)
		} else {
			dropped = append(dropped, r)
		}
	}
	if err := s.replace(kept); err != nil {
		return nil, s.wrap(err)
	}
	// What was left of a fold is in the journal from here on.
	return dropped, s.wrap(removeIfThere(s.path + foldingSuffix))
}
