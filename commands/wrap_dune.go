package commands

import (
	"context"
	"os"
	"path/filepath"
)

// Dune asks no server: what a branch has for it is carried into its own cache before it
// runs, and what is new there is committed afterwards.

// usesDune reports whether the command is Dune, or is likely to call it.
func (w *wrapped) usesDune() bool {
	if os.Getenv("DUNE_CACHE") == "disabled" {
		return false
	}
	_, err := os.Stat("dune-project")
	return err == nil || filepath.Base(w.typed.args[0]) == "dune"
}

// openDune finds Dune's cache, if the command uses it, and fills it.
func (w *wrapped) openDune(ctx context.Context) {
	if !w.usesDune() {
		return
	}
	cache, err := findDune(ctx)
	if err != nil {
		w.s.warn("Dune's cache is left alone: %v", err)
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.patience(), w.tooSlow())
	defer cancel()
	w.dune = &duneWork{w.repo, w.branch, cache}
	done, err := w.s.deliverDune(ctx, w.dune)
	if err != nil {
		w.s.warn("%v", err)
	}
	w.sum.served += done.Bytes
}

// keepDune commits what Dune has made.
func (w *wrapped) keepDune(ctx context.Context) {
	if w.dune == nil {
		return
	}
	done, err := w.s.collectDune(ctx, w.dune, "")
	if err != nil {
		w.s.warn("%v", err)
	}
	w.sum.entries += done.Entries
}
