package commands

import (
	"errors"
	"fmt"
	"time"

	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/gc"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
)

// tooBigThere is the error that says why a bucket is bigger than was asked for.
func tooBigThere(m remoteStore, sum cleaned, o repo.CollectOptions) error {
	if o.MaxSize == 0 || sum.sizeAfter <= o.MaxSize {
		return nil
	}
	text := fmt.Sprintf("%s: %s stay, more than %s", m, size(sum.sizeAfter), size(o.MaxSize))
	if held := holding(sum.Holds); held != "" {
		text += ": " + held + " must stay"
	}
	switch {
	case o.Grace > 1 && sum.Short == 0:
		return withHint(errors.New(text), fmt.Sprintf("packs younger than %s stay, since somebody may be about to need them: a later run drops them", ageOf(o.Grace)))
	case len(sum.Holds) > 0:
		return withHint(errors.New(text), "delete tags, or change gc.protected")
	}
	return errors.New(text)
}

// A cleanedJSON is what --json says of a bucket.
type cleanedJSON struct {
	Remote     string      `json:"remote"`
	DryRun     bool        `json:"dryRun"`
	Branches   []gc.Branch `json:"branches"`
	Evicted    int         `json:"evictedEntries"`
	Condemned  filesJSON   `json:"condemned"` // packs that do not count any more
	Made       filesJSON   `json:"made"`      // packs of what was still needed of them
	Deleted    filesJSON   `json:"deleted"`   // packs that were condemned before, and what was left over
	Waiting    filesJSON   `json:"waiting"`   // condemned packs that are deleted after the grace
	Damaged    int         `json:"damagedPacks,omitempty"`
	KeptBytes  int64       `json:"keptBytes"`
	SizeBefore int64       `json:"sizeBefore"` // without condemned packs
	SizeAfter  int64       `json:"sizeAfter"`
	Holds      []gc.Hold   `json:"holds,omitempty"`
}

type filesJSON struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

func cleanedOf(m remoteStore, sum cleaned, dryRun bool) cleanedJSON {
	files := func(f bucket.Files) filesJSON { return filesJSON{f.N, f.Bytes} }
	branches := sum.Branches
	if branches == nil {
		branches = []gc.Branch{}
	}
	return cleanedJSON{
		Remote: m.String(), DryRun: dryRun, Branches: branches, Evicted: sum.Evicted,
		Condemned: files(sum.Condemned), Made: files(sum.Made), Deleted: files(sum.Deleted), Waiting: files(sum.waiting), Damaged: sum.Damaged,
		KeptBytes: sum.kept, SizeBefore: sum.sizeBefore, SizeAfter: sum.sizeAfter, Holds: sum.Holds,
	}
}

// tellCleaned says what was kept and dropped, branch by branch.
func (s *session) tellCleaned(m remoteStore, sum cleaned, o repo.CollectOptions, took time.Duration) {
	for _, b := range sum.Branches {
		s.say("%s", branchLine(b, false))
	}
	verb, made, deleted := "condemned", "made", "deleted"
	if o.DryRun {
		verb, made, deleted = "would condemn", "make", "delete"
	}
	files := func(f bucket.Files, what string) string {
		if f.N == 0 {
			return counted(0, what)
		}
		return fmt.Sprintf("%s, %s", counted(f.N, what), size(f.Bytes))
	}
	text := fmt.Sprintf("%s: %s %s", shown(m.String()), verb, files(sum.Condemned, "pack"))
	if sum.Made.N > 0 {
		text += fmt.Sprintf("; %s %s of what is needed of them", made, files(sum.Made, "pack"))
	}
	if sum.Deleted.N > 0 {
		text += fmt.Sprintf("; %s %s", deleted, files(sum.Deleted, "file"))
	}
	text += fmt.Sprintf(": %s -> %s", size(sum.sizeBefore), size(sum.sizeAfter))
	if !o.DryRun {
		text += fmt.Sprintf(", %.1f s", took.Seconds())
	}
	s.say("%s", text)
	if sum.waiting.N > 0 {
		s.say("%s: %s of condemned packs wait besides, for readers: a gc deletes them %s after they were condemned", shown(m.String()), size(sum.waiting.Bytes), ageOf(o.Grace))
	}
	if sum.Damaged > 0 {
		s.warn("%s: %s can't be read, though they are needed, and stay: who has what is in them pushes it again", m, counted(sum.Damaged, "pack"))
	}
}

// ageOf writes a period as people give it.
func ageOf(d time.Duration) string {
	for _, unit := range []struct {
		d    time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d%unit.d == 0 {
			return fmt.Sprintf("%d%s", d/unit.d, unit.name)
		}
	}
	return d.String()
}
