package bucket

import (
	"maps"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// rely notes that the caller counts on what is in a pack.
func (r *Remote) rely(p PackName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.relied[p] = true
}

// tell notes that the caller knows the refs of v: from now on he counts on that all
// that they lead to is there, without asking.
func (r *Remote) tell(v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = false
	// Who is told again counts on what has come since, too. If something has gone that he
	// was told of before, he is to hear that first.
	if r.told == nil || v.keeps(r.told) {
		r.told = v
	}
}

// stillThere reports ErrStale if something is not in v any more that the caller
// counts on: because Missing said that it is there, because he uploaded it, or
// because one of the refs that he was told led to it. It goes on to do so until he
// asks again what is missing, or which refs there are.
func (r *Remote) stillThere(v *view) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.relied)
	maps.DeleteFunc(r.relied, func(p PackName, _ bool) bool {
		_, live := v.Packs[p]
		return !live
	})
	if r.told != nil && !v.keeps(r.told) {
		r.told, r.stale = nil, true
	}
	if r.stale = r.stale || len(r.relied) < before; r.stale {
		return remote.ErrStale
	}
	return nil
}

// keeps reports whether all is in v for sure that the refs of an earlier view lead
// to: no pack has gone since, or all of these refs are still there, and lead as far.
func (v *view) keeps(before *view) bool {
	gone := false
	for p := range before.Packs {
		if _, live := v.Packs[p]; !live {
			gone = true
			break
		}
	}
	if !gone {
		return true
	}
	tips := map[objects.ID]bool{}
	for _, id := range v.Refs {
		tips[id] = true
	}
	for _, id := range before.Refs {
		if !tips[id] {
			return false
		}
	}
	return maps.Equal(v.Shallow, before.Shallow)
}

// ask notes that the caller asks again what is missing.
func (r *Remote) ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = false
}
