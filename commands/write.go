package commands

import (
	"context"
	"errors"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// A writing is one entry that save or put is about to add.
type writing struct {
	kind    entry.Kind
	key     string
	stage   bool
	message string
	batch   odb.BatchOptions

	// make writes the entry into the change's batch. Old is the entry that it
	// replaces, or zero.
	make func(ctx context.Context, ch *repo.Change, old objects.ID) (objects.ID, error)
}

// A written says what became of a writing.
type written struct {
	Kind    entry.Kind `json:"kind"`
	Key     string     `json:"key"`
	Branch  string     `json:"branch"`
	Entry   objects.ID `json:"entry"`            // the tree that is the entry
	Commit  string     `json:"commit,omitempty"` // the branch's tip; none while it is staged
	Staged  bool       `json:"staged"`
	Changed bool       `json:"changed"` // false: the same payload was there already
}

// write adds one entry to the current branch, or to its stage. If the branch has
// the same payload under that key already, nothing is written; but what is only
// staged is committed by whoever asks for a commit.
func (s *session) write(ctx context.Context, r *repo.Repo, w writing) (written, error) {
	branch, err := s.branch(ctx, r)
	if err != nil {
		return written{}, err
	}
	done := written{Kind: w.kind, Key: w.key, Branch: branch.Short(), Staged: w.stage}
	ch, err := r.Change(ctx, branch, w.batch)
	if err != nil {
		return done, err
	}
	defer ch.Close()
	old, err := r.Lookup(ctx, []refs.Name{branch}, w.kind, w.key)
	if err != nil && !errors.Is(err, objects.ErrNotFound) {
		return done, err
	}
	if done.Entry, err = w.make(ctx, ch, old.ID); err != nil {
		return done, err
	}
	if s.same(ctx, r, ch, old, done.Entry) {
		done.Entry = old.ID
		if !old.Staged || w.stage {
			done.Staged = old.Staged
			if !old.Staged {
				tip, _, err := r.Tip(ctx, branch)
				done.Commit = tip.String()
				return done, err
			}
			return done, nil
		}
	}
	ch.Set(w.kind, w.key, done.Entry)
	if w.stage {
		done.Changed = true
		return done, ch.Stage(ctx)
	}
	tip, changed, staged, err := ch.CommitOrStage(ctx, w.message)
	if done.Changed, done.Staged = changed, staged; !staged {
		done.Commit = tip.String()
	}
	return done, err
}

// same reports whether the entry that is there has the payload of the new one.
// One that can't be read, or may lack something, has not: it is replaced.
func (s *session) same(ctx context.Context, r *repo.Repo, ch *repo.Change, old repo.Found, id objects.ID) bool {
	if old.ID.IsZero() {
		return false
	}
	same, err := entry.Same(ctx, ch.Batch, old.ID, id)
	if err == nil && same {
		var meta entry.Meta
		_, meta, err = entry.Read(ctx, r.DB, old.ID)
		same = !r.MayLack(meta.Created)
	}
	if err != nil {
		s.warn("the earlier entry of %s can't be read, and is replaced: %v", shown(old.Key), err)
	}
	return same && err == nil
}

// tell says what was written: verb is "saved" or "put", detail how much it was.
func (s *session) tell(verb string, w written, detail string) {
	switch {
	case !w.Changed:
		s.say("unchanged: %s is on %s already", shown(w.Key), w.Branch)
	case w.Staged:
		s.say("%s %s: staged for %s, %s", verb, shown(w.Key), w.Branch, detail)
	default:
		s.say("%s %s: %s %s, %s", verb, shown(w.Key), w.Branch, w.Commit[:12], detail)
	}
}
