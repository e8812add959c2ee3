package repo

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
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
	seq       int // changes with the state, and with what is staged here
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
	h.check(ctx, v) // what is looked up now belongs to the state that it is now
	return s, h.seq, false
}

// check forgets everything if the state has changed.
func (h *hot) check(ctx context.Context, v *Values) {
	if state := v.state(ctx); state != h.state {
		h.state, h.young, h.old, h.youngSize = state, nil, nil, 0
		h.seq++
	}
	h.checked = time.Now()
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
	for _, path := range paths {
		delete(h.young, path)
		delete(h.old, path)
	}
}

// state tells one state of the branches of the scope from every other.
func (v *Values) state(ctx context.Context) string {
	var b strings.Builder
	for _, branch := range v.scope {
		id, err := v.repo.Refs.Get(ctx, branch)
		mark, failed := v.repo.Stage(branch).Mark()
		fmt.Fprintln(&b, id, err, mark, failed)
	}
	return b.String()
}
