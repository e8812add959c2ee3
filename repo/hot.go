package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/stage"
)

// hot are small values that were read not long ago. To find one in a branch takes
// five trees, each of which is hashed.
//
// They count as long as no branch of the scope has moved, nor anything was staged.
// That is looked at now and then: for so long something may be got that another
// process has just replaced or taken out.
type hot struct {
	mu        sync.Mutex
	checked   time.Time
	state     string
	tips      []readBranch // what the branches of the scope are in this state
	seq       int          // changes with the state, and with what is staged here
	young     map[string]entry.Stored
	old       map[string]entry.Stored
	youngSize int64
}

const (
	// hotMemory is how many bytes of values are kept.
	hotMemory = 32 << 20

	// hotTrust is how long is believed what was looked at.
	hotTrust = 50 * time.Millisecond
)

// get returns the value at path, if it is here. Seq is for add.
func (h *hot) get(ctx context.Context, v *Values, path string) (s entry.Stored, seq int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.checked) > hotTrust {
		h.check(ctx, v)
	}
	if s, ok = h.young[path]; ok {
		return s, h.seq, true
	}
	if s, ok = h.old[path]; ok {
		h.put(path, s)
		return s, h.seq, true
	}
	return s, h.seq, false
}

// check forgets everything if the state has changed.
func (h *hot) check(ctx context.Context, v *Values) {
	ctx = odb.Local(context.WithoutCancel(ctx)) // others go by it, too
	if state := v.state(ctx); state != h.state || h.tips == nil {
		h.state, h.young, h.old, h.youngSize = state, nil, nil, 0
		h.tips = v.tips(ctx)
		h.seq++
	}
	h.checked = time.Now()
}

// branches returns the branches of the scope as they were a moment ago.
func (h *hot) branches(ctx context.Context, v *Values) []readBranch {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.checked) > hotTrust {
		h.check(ctx, v)
	}
	return h.tips
}

// add takes in what was looked up since get has returned seq. It is left out if it
// may have been replaced meanwhile.
func (h *hot) add(path string, s entry.Stored, seq int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seq == seq {
		h.put(path, s)
	}
}

func (h *hot) put(path string, s entry.Stored) {
	const about = 500 // bytes beside the value
	if h.young == nil || h.youngSize > hotMemory/2 {
		h.old, h.young, h.youngSize = h.young, map[string]entry.Stored{}, 0
	}
	h.young[path] = s
	h.youngSize += s.Size + about
}

// drop forgets what is at paths: it was replaced.
func (h *hot) drop(paths []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	h.checked = time.Time{}
	for _, path := range paths {
		delete(h.young, path)
		delete(h.old, path)
	}
}

// state tells one state of the branches of the scope from every other. A journal that
// comes and goes changes its directory.
func (v *Values) state(ctx context.Context) string {
	var b strings.Builder
	if fi, err := os.Stat(v.repo.path("stage")); err == nil {
		fmt.Fprintln(&b, fi.ModTime().UnixNano())
	}
	for _, branch := range v.scope {
		id, err := v.repo.Refs.Get(ctx, branch)
		mark, failed := v.repo.Stage(branch).Mark()
		fmt.Fprintln(&b, id, err, mark, failed)
	}
	return b.String()
}

// A readBranch is what a branch of the scope was at some time.
type readBranch struct {
	branch refs.Name
	root   objects.ID
	staged bool // there may be something in its stage
}

// tips returns the branches of the scope. One that is damaged is passed over. What a
// fold takes out of a stage has been in the branch before, so the stage comes first.
func (v *Values) tips(ctx context.Context) []readBranch {
	tips := make([]readBranch, len(v.scope))
	for i, branch := range v.scope {
		mark, err := v.repo.Stage(branch).Mark()
		tips[i] = readBranch{branch, objects.EmptyTree, err != nil || mark != stage.Mark{}}
		if tips[i].staged {
			if err := v.repo.Stage(branch).Refresh(ctx); err != nil {
				v.repo.warn(err)
			}
		}
		_, root, err := v.repo.Tip(ctx, branch)
		if err == nil {
			tips[i].root = root
		} else {
			v.repo.warn(err)
		}
	}
	return tips
}

// lookup is Repo.Lookup for what the branches were a moment ago, without those of the
// scope that come before skip.
func (v *Values) lookup(ctx context.Context, skip int, kind entry.Kind, key, path string) (Found, error) {
	for _, t := range v.hot.branches(ctx, v)[skip:] {
		found := Found{Kind: kind, Key: key, Path: path, Branch: t.branch}
		if t.staged {
			record, ok, err := v.repo.Stage(t.branch).Seen(ctx, path)
			if err != nil {
				v.repo.warn(err)
			}
			if ok && record.ID.IsZero() {
				continue
			}
			if found.ID, found.Staged = record.ID, ok; ok {
				return found, nil
			}
		}
		var err error
		found.ID, err = v.findIn(ctx, t.root, path)
		switch {
		case err == nil:
			return found, nil
		case ctx.Err() != nil:
			return found, ctx.Err()
		case !errors.Is(err, objects.ErrNotFound):
			v.repo.warn(fmt.Errorf("look up %s in %s: %w", key, t.branch.Short(), err))
		}
	}
	return Found{}, objects.ErrNotFound
}
