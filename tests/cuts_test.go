package tests

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// cuts REPO REV… cuts the history of a repository off at these commits, and throws
// away what nothing leads to any more.
func cuts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: cuts repository revision…")
	}
	ts.Check(cutHistory(context.Background(), ts.MkAbs(args[0]), args[1:]...))
}

func cutHistory(ctx context.Context, dir string, revs ...string) error {
	r, err := repo.Open(ctx, dir, repo.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	var cut []objects.ID
	for _, rev := range revs {
		id, err := r.Resolve(ctx, rev)
		if err != nil {
			return err
		}
		cut = append(cut, id)
	}
	err = r.EditShallow(ctx, func(shallow map[objects.ID]bool) {
		for _, id := range cut {
			shallow[id] = true
		}
	})
	if err != nil {
		return err
	}
	kept, err := repo.Init(ctx, dir+".kept", repo.Options{})
	if err != nil {
		return err
	}
	defer kept.Close()
	var tips []objects.ID
	for ref, err := range r.Refs.All(ctx, "refs/") {
		if err != nil {
			return err
		}
		tips = append(tips, ref.ID)
	}
	var o transfer.Options
	if o.Shallow, err = r.Shallow(); err != nil {
		return err
	}
	if _, err := transfer.Send(ctx, r.DB, peer.New(kept.DB, kept.Refs, kept), tips, nil, o); err != nil {
		return err
	}
	return errors.Join(
		os.RemoveAll(filepath.Join(dir, "packs")),
		os.Rename(filepath.Join(kept.Dir, "packs"), filepath.Join(dir, "packs")),
		os.RemoveAll(kept.Dir))
}
